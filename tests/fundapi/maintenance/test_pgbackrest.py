"""pgBackRest with the files of deploy/pgbackrest: a database that was harmed comes back as it was a moment before."""

import re
import shlex
import signal
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest
import yaml

from chaos.postgres import Postgres
from fundapi.embedded.processes import TIDY, Account, service_account, signal_all
from fundapi.embedded.reach import temporary_directory
from fundapi.models import Fund
from idempotency.models import IdempotencyKey
from tests.engines import engine
from tests.eventually import eventually
from tests.fundapi.maintenance.recovery import Deployment, connected, run_command
from tests.s3 import s3_server
from tests.servers import PROJECT

pytestmark = [pytest.mark.deployment, pytest.mark.timeout(300)]
DEPLOY = PROJECT / "deploy" / "pgbackrest"
BUCKET = "fundapi-backups"
PAGE = PROJECT / "docs/how-to/backup.md"
UNITS = sorted(DEPLOY.glob("*.service"))
KEYS = 5
# Exit codes: an option that is unknown, has a wrong value, or is missing
WRONG_OPTIONS = {31, 32, 37}
# The first that knows PostgreSQL 18. Debian 12 has 2.45, which knows up to 15, the PostgreSQL of Debian 12.
KNOWS_EMBEDDED = (2, 55)


class Known(Postgres):
    """A PostgreSQL that the installed pgBackRest knows: the embedded one, or Debian's own."""

    def __init__(self, directory: Path, account: Account, debian: Path | None, **settings: str) -> None:
        super().__init__(directory, account, fsync="off", **settings)
        self.debian = debian
        if debian:
            self.locale = ("--locale=C.UTF-8",)

    @property
    def programs(self) -> Path:
        return self.debian or super().programs

    def recovered(self) -> None:
        """Start, and return when recovery has ended."""
        self.start()
        with self.superuser() as superuser:
            eventually(lambda: superuser.execute("SELECT pg_is_in_recovery()").fetchone() == (False,))


def debian_postgres(pgbackrest: str) -> Path | None:
    """Return the directory of Debian's programs if pgBackRest is too old for the embedded PostgreSQL."""
    said = subprocess.check_output([pgbackrest, "version"], text=True)
    version = tuple(int(part) for part in said.split()[-1].split(".")[:2])
    return None if version >= KNOWS_EMBEDDED else Path(engine("initdb")).parent


@dataclass
class PgBackRest:
    """pgBackRest with the files of deploy/pgbackrest, in a directory of its own."""

    program: str
    deployment: Deployment
    postgres: Known

    @property
    def configuration(self) -> Path:
        return self.deployment.directory / "pgbackrest"

    @property
    def environment(self) -> dict[str, str]:
        path = f"{self.postgres.programs}:{Path(self.program).parent}:{TIDY['PATH']}"
        return TIDY | {"PATH": path, "PGBACKREST_CONFIG_PATH": str(self.configuration)}

    @property
    def option(self) -> str:
        return f"--config-path={self.configuration}"

    def configure(self, port: int, certificate: Path) -> None:
        """Write the files with the paths of this test in place of Debian's."""
        directory = self.deployment.directory
        self.configuration.mkdir()
        (self.configuration / "conf.d").mkdir()
        for name in ("spool", "lock", "log", "repository", "scratch"):
            self.deployment.account.make_directory(directory / name)
        paths = {
            "/var/lib/postgresql/18/main": self.postgres.home.postgres,
            "/run/postgresql": f"{self.postgres.sockets}\npg1-user=postgres",
            "/var/spool/pgbackrest": directory / "spool",
            "/backups/pgbackrest": directory / "repository",
            "s3.example.com": "127.0.0.1",
            "#repo2-storage-ca-file=/etc/pgbackrest/authority.pem": (
                f"repo2-storage-ca-file={certificate}\nrepo2-storage-port={port}"
            ),
        }
        files = {
            name: (DEPLOY / name).read_text() for name in ("pgbackrest.conf", "directory.conf", "s3.conf")
        }
        for before, after in paths.items():
            assert sum(text.count(before) for text in files.values()) == 1, before
            files = {name: text.replace(before, str(after)) for name, text in files.items()}
        files["secrets.conf"] = (
            f"[global]\nlock-path={directory}/lock\nlog-path={directory}/log\n"
            "repo1-cipher-pass=of the directory\nrepo2-cipher-pass=of the bucket\n"
            "repo2-s3-key=key\nrepo2-s3-key-secret=secret\n"
        )
        for name, text in files.items():
            place = "" if name == "pgbackrest.conf" else "conf.d"
            (self.configuration / place / name).write_text(text)

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a program as the account of PostgreSQL."""
        account = self.deployment.account
        return subprocess.run(
            account.reading_all(*command),
            env=self.environment,
            cwd=self.deployment.directory,
            capture_output=True,
            encoding="latin-1",
            check=False,
        )

    def end_archiving(self) -> None:
        """End what still archives for a server that was killed."""
        while left := [
            process
            for process in psutil.process_iter(["cmdline"])
            if any(self.option in part for part in process.info["cmdline"] or [])
        ]:
            signal_all(left, signal.SIGKILL, wait=5)

    def __call__(self, *arguments: str) -> str:
        done = self.run(self.program, self.option, "--stanza=fundapi", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@dataclass
class Loss:
    """Answers that were acknowledged by a moment, by key; at a later one every fund is deleted."""

    answers: dict[str, bytes]
    moment: str
    later: str
    pgbackrest: PgBackRest

    @property
    def deployment(self) -> Deployment:
        return self.pgbackrest.deployment

    @property
    def until(self) -> list[str]:
        return ["--type=time", f"--target={self.moment}"]

    def assert_recovered(self, postgres: Postgres) -> None:
        """Each key has its first answer, its fund is there, and there is nothing else."""
        with connected(postgres, "fundapi"):
            assert run_command("check_consistency").endswith("Consistent.")
            assert set(IdempotencyKey.objects.values_list("token", flat=True)) == set(self.answers)
            assert Fund.objects.count() == len(self.answers)
            for key, first in self.answers.items():
                answer = self.deployment.send(key)
                assert (answer.status_code, answer.content) == (200, first)


@pytest.fixture(scope="module")
def pgbackrest(database: None) -> Iterator[PgBackRest]:
    """A PostgreSQL that archives to a directory and to S3."""
    program = engine("pgbackrest")
    debian = debian_postgres(program)
    account = service_account()
    with (
        temporary_directory("fundapi-pgbackrest-") as directory,
        s3_server(directory, BUCKET) as (port, certificate),
    ):
        archiving = yaml.safe_load((DEPLOY / "patroni.yml").read_text())["postgresql"]["parameters"]
        archiving["archive_command"] = archiving["archive_command"].replace(
            "pgbackrest", f"{program} --config-path={directory}/pgbackrest"
        )
        postgres = Known(directory / "primary", account, debian, **archiving)
        made = PgBackRest(program, Deployment(directory, account, postgres), postgres)
        made.configure(port, certificate)
        postgres.start()
        try:
            made("stanza-create")  # before there is anything to archive: an attempt holds the lock
            yield made
        finally:
            postgres.kill()
            made.end_archiving()


@pytest.fixture(scope="module")
def loss(pgbackrest: PgBackRest) -> Loss:
    deployment = pgbackrest.deployment
    deployment.migrate()
    answers: dict[str, bytes] = {}
    with connected(deployment.postgres, "fundapi"):
        # Some funds are in the full backup, some in the differential one, some in the log alone.
        for backups in ([("--repo=1", "full"), ("--repo=2", "full")], [("--repo=1", "diff")], []):
            for _ in range(KEYS):
                key = uuid.uuid4().hex
                answer = deployment.send(key)
                assert answer.status_code == 201, answer.content
                answers[key] = answer.content
            for repository, kind in backups:
                pgbackrest(repository, f"--type={kind}", "backup")
        with deployment.postgres.superuser() as superuser:
            ((moment,),) = superuser.execute("SELECT clock_timestamp()::text").fetchall()
            superuser.execute("DELETE FROM fundapi_fund")
            ((later,),) = superuser.execute("SELECT clock_timestamp()::text").fetchall()
            # Recovery stops at the first commit after its moment, or fails if there is none.
            superuser.execute("SELECT pg_current_xact_id()")
    pgbackrest("check")  # and so the log of all this is in both repositories
    return Loss(answers, moment, later, pgbackrest)


def rehearse(loss: Loss, *options: str) -> "subprocess.CompletedProcess[str]":
    directory = loss.deployment.directory / "scratch" / "rehearsal"
    done = loss.pgbackrest.run(str(DEPLOY / "rehearse"), str(directory), loss.pgbackrest.option, *options)
    assert not directory.exists(), done.stderr
    return done


def test_a_rehearsal_says_that_what_is_restored_is_consistent(loss: Loss) -> None:
    good = rehearse(loss, "--repo=1", *loss.until)
    assert good.returncode == 0, good.stdout + good.stderr
    assert good.stdout.endswith("Consistent.\n")


def test_a_rehearsal_to_a_moment_that_the_log_does_not_reach_says_so(loss: Loss) -> None:
    tomorrow = datetime.fromisoformat(loss.moment) + timedelta(days=1)
    done = rehearse(loss, "--repo=1", "--type=time", f"--target={tomorrow}")
    assert done.returncode == 1
    assert "recovery ended before configured recovery target was reached" in done.stderr


def test_s3_restores_on_another_machine(loss: Loss) -> None:
    debian = loss.pgbackrest.postgres.debian
    other = Known(loss.deployment.directory / "other", loss.deployment.account, debian)
    loss.deployment.account.make_directory(other.home.postgres)
    loss.pgbackrest(
        *(f"--pg1-path={other.home.postgres}", "--repo=2", "--archive-mode=off"),
        *(*loss.until, "--target-action=promote", "restore"),
    )
    try:
        other.recovered()
        loss.assert_recovered(other)
    finally:
        other.stop()


def test_the_check_knows_the_age_of_the_last_backup_and_the_gaps_of_the_log(loss: Loss) -> None:
    program = engine("check_pgbackrest")

    def checked(*arguments: str) -> int:
        done = loss.pgbackrest.run(program, "--stanza=fundapi", *arguments)
        return done.returncode

    assert checked("--service=archives") == 0
    assert checked("--service=retention", "--retention-full=1", "--retention-age=26h") == 0
    assert checked("--service=retention", "--retention-age=1s") == 2


def test_repositories_are_encrypted(loss: Loss) -> None:
    info = loss.deployment.directory / "repository/backup/fundapi/backup.info"
    assert info.read_bytes().startswith(b"Salted__")
    stored = loss.pgbackrest("--repo=2", "--raw", "repo-get", "backup/fundapi/backup.info")
    assert stored.startswith("Salted__")


def written_commands() -> Iterator[list[str]]:
    """Yield the arguments of pgBackRest in the page and the units."""
    texts = [PAGE.read_text(), *(unit.read_text() for unit in UNITS)]
    for text in texts:
        for line in re.findall(r"(?<!')\bpgbackrest --stanza=fundapi (.*)$", text, re.MULTILINE):
            yield shlex.split(line.replace("%i", "full"))


def test_every_written_command_has_options_that_fit(pgbackrest: PgBackRest) -> None:
    """Each ends at a database that is not there, after its options were read."""
    found = {tuple(line) for line in written_commands() if line != ["info"]}
    assert {line[-1] for line in found} == {"backup", "check", "restore", "stanza-create"}
    for line in found:
        nowhere = ("--stanza=nothing", "--pg1-path=/nonexistent")
        done = pgbackrest.run(pgbackrest.program, pgbackrest.option, *nowhere, *line)
        assert done.returncode not in {0, *WRONG_OPTIONS}, done.stderr


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    analyze = engine("systemd-analyze")
    engine("pgbackrest")  # systemd looks for what a unit starts
    for unit in UNITS:
        name = unit.name.replace("@.", "@full.")
        (tmp_path / name).write_text(unit.read_text().replace("/srv/fundapi", str(PROJECT)))
    paths = map(str, tmp_path.iterdir())
    run = subprocess.run([analyze, "verify", *paths], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize(("answer", "status"), [("echo f", 0), ("echo t", 1), ("exit 2", 255)])
def test_a_unit_is_skipped_on_a_standby_and_fails_where_nobody_can_tell(
    tmp_path: Path, answer: str, status: int
) -> None:
    """Systemd skips a unit by the statuses 1 to 254 of its condition, and then nobody hears of it."""
    psql = tmp_path / "psql"
    psql.write_text(f"#!/bin/sh\n{answer}\n")
    psql.chmod(0o755)
    conditions = re.findall(
        r"^ExecCondition=(.*)$", "".join(unit.read_text() for unit in UNITS), re.MULTILINE
    )
    assert len(conditions) == 2
    for condition in conditions:
        command = shlex.split(condition.replace("$$", "$"))
        done = subprocess.run(command, env={"PATH": f"{tmp_path}:{TIDY['PATH']}"}, check=False)
        assert done.returncode == status


def test_the_directory_restores_in_place(loss: Loss) -> None:
    postgres = loss.pgbackrest.postgres
    postgres.stop()
    loss.pgbackrest("--repo=1", *loss.until, "--target-action=promote", "restore")
    postgres.recovered()
    loss.assert_recovered(postgres)
    statements = re.findall(r'^psql -c "(.*)" fundapi', PAGE.read_text(), re.MULTILINE)
    assert len(statements) == 2
    with postgres.superuser() as superuser:
        for statement in statements:
            superuser.execute(statement)
    with connected(postgres, "fundapi"):
        created = loss.deployment.send(uuid.uuid4().hex)
    assert created.status_code == 201
    assert created.json()["id"] > 1_000_000
    loss.pgbackrest("check")  # it archives again


def test_what_the_restore_has_undone_can_be_rehearsed(loss: Loss) -> None:
    """The last test. The funds are gone by then, and their answers are not, which the rehearsal says."""
    timeline = "--target-timeline=current"
    assert timeline in PAGE.read_text()
    later = rehearse(loss, "--repo=1", "--type=time", f"--target={loss.later}", timeline)
    assert later.returncode == 1, later.stdout + later.stderr
    assert f"{3 * KEYS} stored answers that name a fund which does not exist" in later.stdout
