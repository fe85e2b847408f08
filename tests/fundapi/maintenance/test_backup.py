"""A dump under load: it is complete, and retries after a restore stay safe."""

import json
import os
import shutil
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.core.management import CommandError
from django.db import connection

from chaos.postgres import Postgres
from fundapi.embedded.processes import service_account
from fundapi.embedded.programs import postgres_directory
from fundapi.embedded.reach import temporary_directory
from fundapi.maintenance import backup
from fundapi.maintenance.backup import BackupError
from fundapi.maintenance.consistency import check
from idempotency.models import IdempotencyKey
from rollout.models import Rollout
from tests.eventually import eventually
from tests.fundapi.maintenance.recovery import RATE, Deployment, connected, request, run_command
from tests.servers import Server, running_server

pytestmark = pytest.mark.deployment
CLIENTS = 4
KEYS = 20  # answered before the dump begins, and as many after it has ended
PAUSE = 0.1  # s between two keys of a client: every one of them is sent again later


@pytest.fixture(scope="module")
def deployment(database: None) -> Iterator[Deployment]:
    with temporary_directory("fundapi-backup-") as directory:
        account = service_account()
        postgres = Postgres(directory / "primary", account, fsync="off")
        postgres.start()
        try:
            made = Deployment(directory, account, postgres)
            made.migrate()
            with connected(postgres, "fundapi"):
                SessionStore().create()
            yield made
        finally:
            postgres.stop()


@pytest.fixture(scope="module")
def server(deployment: Deployment) -> Iterator[Server]:
    with running_server(workers=1, DATABASE_URL=deployment.url(), FUND_CREATE_RATE=RATE) as running:
        yield running


class Load:
    """Clients that create funds and send every request twice; ``answers`` holds their responses by key."""

    def __init__(self, open_client: Callable[[], httpx.Client]) -> None:
        self.answers: dict[str, bytes] = {}
        self._open_client = open_client
        self._ending = threading.Event()
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._clients = [self._pool.submit(self._work) for _ in range(CLIENTS)]

    def _work(self) -> None:
        with self._open_client() as client:
            while not self._ending.wait(PAUSE):
                key = uuid.uuid4().hex
                for _ in range(2):
                    answer = client.post("/api/funds", json=request(key), headers={"Idempotency-Key": key})
                    assert answer.status_code in {200, 201}, answer.text
                    assert self.answers.setdefault(key, answer.content) == answer.content

    def wait_for(self, keys: int) -> None:
        """Return when so many more keys have an answer."""
        wanted = len(self.answers) + keys
        eventually(lambda: len(self.answers) >= wanted or any(client.done() for client in self._clients))

    def end(self) -> None:
        self._ending.set()
        with self._pool:
            for client in self._clients:
                client.result(60)


@dataclass
class Dumped:
    """A dump, the keys with a response before it began, and all responses."""

    file: Path
    before: set[str]
    answers: dict[str, bytes]


@pytest.fixture(scope="module")
def dumped(deployment: Deployment, server: Server) -> Dumped:
    file = deployment.directory / "funds.dump"
    load = Load(lambda: httpx.Client(base_url=server.url, headers=deployment.authorization, timeout=60))
    try:
        load.wait_for(KEYS)
        before = set(load.answers)
        with connected(deployment.postgres, "fundapi"):
            run_command("backup", str(file))
        load.wait_for(KEYS)
    finally:
        load.end()
    return Dumped(file, before, load.answers)


@pytest.fixture(scope="module")
def restored(deployment: Deployment, dumped: Dumped) -> str:
    """Another database, restored from the dump."""
    with deployment.postgres.superuser("postgres") as superuser:
        superuser.execute("CREATE DATABASE elsewhere OWNER fundapi")
    with connected(deployment.postgres, "elsewhere"):
        assert run_command("restore", str(dumped.file)).endswith("Consistent.")
    return "elsewhere"


def test_after_a_restore_a_retry_is_answered_as_before_or_makes_what_the_dump_did_not_have(
    deployment: Deployment, dumped: Dumped, restored: str, settings: Any
) -> None:
    settings.FUND_CREATE_RATE = RATE
    known, anew = set(), set()
    with connected(deployment.postgres, restored):
        assert all(Rollout.objects.values_list("on_hold", flat=True))
        assert not Session.objects.exists()
        for key, first in dumped.answers.items():
            answer = deployment.send(key)
            if answer.status_code == 200:
                assert answer.content == first
                known.add(key)
            else:
                assert answer.status_code == 201
                anew.add(answer.json()["id"])
        assert check()
    assert dumped.before <= known
    assert len(anew) >= KEYS // 2, "hardly anything was created after the dump, so little was shown"
    assert not anew & {json.loads(first)["id"] for first in dumped.answers.values()}


DAMAGE = """
DELETE FROM fundapi_fund WHERE id = {0};
UPDATE fundapi_fund SET size = size + 0.01 WHERE id = {1};
DELETE FROM idempotency_store WHERE location = '/api/funds/{2}';
UPDATE idempotency_store SET body = 'x' WHERE location = '/api/funds/{3}';
UPDATE idempotency_store SET digest = gen_random_uuid() WHERE location = '/api/funds/{4}';
INSERT INTO idempotency_store
SELECT gen_random_uuid(), environment, operation, principal, token, fingerprint, status, content_type, location, etag,
    body, created_at, expires_at, conflicts, last_conflict_at
FROM idempotency_store WHERE location = '/api/funds/{5}';
SELECT setval('fundapi_fund_id_seq', 1);
"""


def test_what_does_not_agree_is_counted_and_a_restore_over_it_takes_it_away(
    deployment: Deployment, dumped: Dumped, restored: str
) -> None:
    with connected(deployment.postgres, restored):
        with deployment.postgres.superuser(restored) as superuser:
            rows = superuser.execute("SELECT id FROM fundapi_fund ORDER BY id LIMIT 6").fetchall()
            superuser.execute(DAMAGE.format(*(number for (number,) in rows)))
            with pytest.raises(CommandError, match=r"Others use this database \(1 sessions\)"):
                run_command("restore", str(dumped.file), "--overwrite")
        report = check()
        assert report.problems == {
            "unreadable": 1,
            "misplaced": 2,
            "orphaned": 1,
            "differing": 1,
            "doubled": 1,
            "unanswered": 2,
            "sequence": 1,
        }
        assert report.examples["orphaned"] == [str(rows[0][0])]
        with pytest.raises(SystemExit, match="1"):
            run_command("check_consistency")
        with pytest.raises(CommandError, match="not empty"):
            run_command("restore", str(dumped.file))
        owner = backup._owner_of_schema()
        assert run_command("restore", str(dumped.file), "--overwrite").endswith("Consistent.")
        assert backup._owner_of_schema() == owner


HANG_UP = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE usename = current_user AND datname = current_database() AND pid <> pg_backend_pid()"
)


def test_a_restore_that_fails_leaves_what_was_there(
    deployment: Deployment, dumped: Dumped, restored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if every open connection was closed meanwhile."""
    program = tmp_path / "pg_restore"
    real = postgres_directory() / program.name
    psql = real.with_name("psql")
    program.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = --single-transaction ] || exec {real} "$@"\n'
        f"""for option; do case "$option" in --dbname=*) {psql} "$option" --command="{HANG_UP}";; esac; done\n"""
        "exit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with connected(deployment.postgres, restored):
        there = IdempotencyKey.objects.count()
        with pytest.raises(CommandError, match="pg_restore failed"):
            run_command("restore", str(dumped.file), "--overwrite")
        assert IdempotencyKey.objects.count() == there > 0
        assert check()


# A restore that may not drop the old data, and tells its time-out.
KEEP = """
CREATE FUNCTION keep() RETURNS event_trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE 'kept, with a time-out of %', current_setting('statement_timeout'); END $$;
CREATE EVENT TRIGGER keep ON ddl_command_start WHEN TAG IN ('DROP SCHEMA') EXECUTE FUNCTION keep();
"""


def test_a_restore_that_ends_half_way_says_how_to_go_on(
    deployment: Deployment, dumped: Dumped, restored: str
) -> None:
    def advice() -> str:
        with pytest.raises(CommandError, match="did not come to its end here") as refused:
            run_command("restore", str(dumped.file), "--overwrite")
        return str(refused.value)

    def follow(said: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute("\n".join(line for line in said.splitlines() if line.startswith("DROP ")))

    with connected(deployment.postgres, restored):
        with deployment.postgres.superuser(restored) as superuser:
            superuser.execute(KEEP)
        try:
            assert "kept, with a time-out of 0" in advice()
        finally:
            with deployment.postgres.superuser(restored) as superuser:
                superuser.execute("DROP EVENT TRIGGER keep")
        ahead = "SELECT last_value - (SELECT max(id) FROM fundapi_fund) >= 1000000 FROM fundapi_fund_id_seq"
        with connection.cursor() as cursor:
            assert cursor.execute(ahead).fetchone() == (True,)
        follow(advice())
        there = IdempotencyKey.objects.count()
        backup._execute(f"ALTER SCHEMA public RENAME TO {backup.REPLACED}", "CREATE SCHEMA public")
        follow(advice())
        assert IdempotencyKey.objects.count() == there > 0


def test_a_dump_that_was_damaged_or_cut_short_is_refused(dumped: Dumped, tmp_path: Path) -> None:
    copy = tmp_path / dumped.file.name
    content = dumped.file.read_bytes()
    copy.write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(BackupError, match="pg_restore failed"):
        backup.verify(copy)
    shutil.copy(backup.checksum_of(dumped.file), tmp_path)
    copy.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BackupError, match="checksum"):
        backup.verify(copy)
    copy.write_bytes(content)
    backup.verify(copy)
    done = subprocess.run(["sha256sum", "--check", backup.checksum_of(copy).name], cwd=tmp_path, check=False)
    assert done.returncode == 0


def test_a_database_of_something_else_is_recognised(deployment: Deployment, tmp_path: Path) -> None:
    with connected(deployment.postgres, "postgres"):
        with pytest.raises(CommandError, match=r"idempotency_store.* does not exist") as unknown:
            run_command("check_consistency")
        assert unknown.value.returncode == 2
        with pytest.raises(CommandError, match="no backup of fundapi"):
            run_command("backup", str(tmp_path / "funds.dump"))
        assert not list(tmp_path.iterdir())


def instead_of_pg_dump(directory: Path, monkeypatch: pytest.MonkeyPatch, first: str) -> Path:
    """Put a ``pg_dump`` on ``PATH`` that runs lines of a shell ``first``, and then the real one."""
    program = directory / "pg_dump"
    directory.mkdir()
    program.write_text(f'#!/bin/sh\n{first}\nexec {postgres_directory() / program.name} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return program


def test_a_backup_is_private_and_complete_or_not_there(
    database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The password is in no command line."""
    said = tmp_path / "said"
    program = instead_of_pg_dump(
        tmp_path / "bin", monkeypatch, f'echo "$@" >> {said}\nprintenv >> {said}.environ'
    )
    monkeypatch.setitem(connection.settings_dict, "PASSWORD", "do not tell")
    file = tmp_path / "funds.dump"
    backup.dump(file)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("bin", "said", "said.environ", "funds.dump", "funds.dump.sha256")
    }
    assert all(path.stat().st_mode & 0o077 == 0 for path in (file, backup.checksum_of(file)))
    assert "do not tell" not in said.read_text()
    assert "PGPASSWORD=do not tell" in said.with_name("said.environ").read_text()
    assert os.environ["SECRET_KEY"] not in said.with_name("said.environ").read_text()
    with pytest.raises(BackupError, match="exists"):
        backup.dump(file)
    program.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 99'\necho no space left >&2\nexit 1\n")
    with pytest.raises(BackupError) as failed:
        backup.dump(tmp_path / "other.dump")
    assert "no space left" in str(failed.value)
    assert not list(tmp_path.glob("other.dump*"))


def test_of_two_backups_with_one_name_one_is_kept_whole(
    database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "funds.dump"
    instead_of_pg_dump(tmp_path / "bin", monkeypatch, f'[ "$1" = --version ] || echo other > {file}')
    with pytest.raises(BackupError, match="exists"):
        backup.dump(file)
    assert file.read_text() == "other\n"
    assert {path.name for path in tmp_path.iterdir()} == {"bin", "funds.dump"}


def test_a_backup_is_on_disk_before_it_has_its_name(
    database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk: dict[int, bool] = {}
    file, real = tmp_path / "funds.dump", os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        on_disk[os.fstat(descriptor).st_ino] = file.exists()

    monkeypatch.setattr(os, "fsync", fsync)
    backup.dump(file)
    assert on_disk == {
        file.stat().st_ino: False,
        backup.checksum_of(file).stat().st_ino: False,
        tmp_path.stat().st_ino: True,
    }


def test_programs_that_are_missing_or_older_than_the_server_are_named(
    database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        BackupError, match=r"pg_dump of PostgreSQL \d+ or newer is needed: there is none on PATH"
    ):
        backup.dump(tmp_path / "funds.dump")
    old = tmp_path / "pg_dump"
    old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n")
    old.chmod(0o755)
    with pytest.raises(BackupError, match=r"pg_dump is pg_dump \(PostgreSQL\) 9\.6\.24"):
        backup.dump(tmp_path / "funds.dump")
