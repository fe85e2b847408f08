"""Every command of the documentation is run, page by page, on a database and a server of its own."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from benchmarks.servers import end
from docs.tools.commands import parser_of
from fundapi.embedded.programs import postgres_directory
from fundapi.embedded.run import READY
from tests import forks, pages
from tests.eventually import eventually
from tests.fundapi.containers import SERVICES
from tests.rollout.alerts.receivers import mail_server, web_receiver
from tests.servers import PROJECT, Server, manage, running_server

pytestmark = [
    pytest.mark.deployment,
    pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning"),
]
PAGES = sorted(
    str(path.relative_to(PROJECT))
    for path in (*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md"))
    if pages.steps(path.read_text())
)
# Commands that are run although others of their beginning are not.
RUN = (
    "python manage.py simulate_rollout --list",
    "python manage.py simulate_rollout --scenario sudden-break-at-50",
    "python manage.py simulate_rollout --scenario tuesday.toml",
    "python -m benchmarks capacity",
)
PROGRAMS = ("curl", "jq", "openssl")  # that a machine may not have
ELSEWHERE = {
    # In a project of its own.
    "docs/how-to/install.md": "tests/browser/test_new_project.py",
    # kubectl parses them, without a cluster.
    "docs/how-to/kubernetes.md": "tests/fundapi/test_kubernetes.py",
}


def names_services(command: list[str]) -> None:
    """Check a command of Docker Compose: the file has its services, and ``manage.py`` understands what it runs."""
    for word in command[3:]:
        if re.fullmatch("[a-z]+", word) and command[2] in {"exec", "run", "stop", "logs"}:
            assert word in SERVICES, command
            break
    if "manage.py" in command and command[-1] != "createsuperuser":
        is_understood(command)


def names_units(command: list[str]) -> None:
    for unit in (word for word in command if word.startswith("fundapi-")):
        name = unit if "." in unit else f"{unit}.service"
        assert list((PROJECT / "deploy").glob(f"*/{name}")), unit


def is_understood(command: list[str]) -> None:
    """Check a command of ours by its own parser."""
    start = command.index("manage.py")
    assert parser_of(command[start + 1]).parse_args(command[start + 2 :])


def is_a_target(command: list[str]) -> None:
    # Not by make itself: some targets need npm.
    targets = re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert [word for word in command[1:] if "=" not in word and word not in targets] == []


def has_its_options(command: list[str]) -> None:
    """Check that a module has the options and actions that a command names."""
    _, _, module, *arguments = command
    actions = [word for word in arguments[:1] if not word.startswith("-") and module == "benchmarks"]
    shown = subprocess.run(
        [sys.executable, "-m", module, *actions, "--help"],
        cwd=PROJECT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert [word for word in arguments if word.startswith("--") and word not in shown] == []


def names_files(command: list[str]) -> None:
    for word in command:
        if word.endswith(".txt"):
            assert (PROJECT / word.partition("/srv/fundapi/")[2]).exists()


def nothing(_command: list[str]) -> None:
    """Check nothing: the command is not ours."""


# What is not run, with the reason, and what is checked of it instead.
NOT_RUN: dict[str, tuple[str, Callable[[list[str]], None]]] = {
    "apt-get": ("installs", nothing),
    "docker": ("needs Docker and minutes", names_services),
    "systemctl": ("needs systemd, and changes the machine", names_units),
    "systemd-run": ("needs systemd, and changes the machine", nothing),
    "journalctl": ("needs systemd", names_units),
    "useradd": ("changes the machine", nothing),
    "userdel": ("changes the machine", nothing),
    "nginx": ("tests/fundapi/test_operating.py runs it", nothing),
    "make": ("runs for minutes, or installs", is_a_target),
    "pip": ("installs", names_files),
    "npm": ("tests/js/test_package.py installs the package", nothing),
    "python3 -m venv": ("takes seconds, and `make` does it", nothing),
    "python -m pytest": ("runs all tests", nothing),
    "python -m docs.tools": ("computes for minutes, or draws", nothing),
    "python -m tests.collector": ("runs until Ctrl-C", nothing),
    "python -m chaos": ("runs for minutes", has_its_options),
    "python -m fuzz": ("runs for a minute; tests/fuzz runs a short one", has_its_options),
    "python -m benchmarks": ("runs for minutes", has_its_options),
    "python manage.py demo_rollout": (
        "runs for minutes; test_demo_rollout.py runs it with --fast",
        is_understood,
    ),
    "python manage.py simulate_rollout": ("half a minute each; test_simulation.py runs it", is_understood),
    "python manage.py validate_local": ("runs all tests", is_understood),
    "python manage.py finalize_pr": ("needs GitHub; tests/rollout/release has a stub of it", is_understood),
    "python manage.py deploy_with_confidence": ("needs GitHub, and an hour", is_understood),
    "python manage.py monitor_deployment": ("runs for an hour", is_understood),
    "python manage.py revert_deployment": (
        "needs GitHub; tests/rollout/release has a stub of it",
        is_understood,
    ),
    "redis-cli": ("tests/reliability/test_sentinels.py sends the same", nothing),
    "psql --file": ("makes roles; tests/fundapi/test_operating.py runs the file", nothing),
    "psql -c CREATE ROLE fundapi ": ("a server with these roles and this database is here", nothing),
    "psql -c DROP DATABASE": ("the other tests use the server", nothing),
    **dict.fromkeys(
        (
            *("pgbackrest", "check_pgbackrest", "rehearse", "runuser", "patronictl", "mv"),
            *("psql -c SELECT setval", "psql -c TRUNCATE"),
        ),
        ("tests/fundapi/maintenance/test_pgbackrest.py runs them", nothing),
    ),
}
# A page begins with the rollout as the first migration makes it, and with people whom its examples name.
BEFORE = """
from decimal import Decimal
from django.contrib.auth.models import Group, User
from django_otp.plugins.otp_totp.models import TOTPDevice
from rollout import operations
from rollout.models import Rollout
for name in ("grace", "alice"):
    user, _ = User.objects.get_or_create(username=name)
    TOTPDevice.objects.get_or_create(user=user, name="default")
for name in ("Beta testers", "Key accounts"):
    Group.objects.get_or_create(name=name)
feature = "USE_FUND_STORE"
if Rollout.objects.get(feature=feature).emergency_stop:
    operations.release(feature, reason="for a test")
fields = {"enabled": True, "timeline": "conservative", "track_migrations": True}
operations.configure(feature, fields, reason="for a test")
operations.set_percentage(feature, Decimal(0), reason="for a test")
operations.resume(feature, reason="for a test")
"""
STUB = """#!/bin/sh
name={name}
case "$name $*" in
{run}) ;;
{cases}) (printf '%s\037' "$name" "$@"; echo) >>{log}; printf '\\032' >&2; exit;;
esac
{rest}
"""
# The checkout is a clone, as the reader's is; its files are links into the project, and its Python a program of ours.
ORIGIN = """
git init --quiet --bare --initial-branch=main origin.git
git clone --quiet origin.git first
cd first
ln -s "$PROJECT"/[!.]* "$PROJECT"/.env.example .
cp -r ../programs .programs && mkdir -p .venv && ln -s ../.programs .venv/bin
git add . && git commit --quiet --message="The files"
printf '%s' '[{"event": "error", "category": "error"}]' >telemetry-buffer.json
printf '%s' "$SCENARIO" >tuesday.toml
git add . && git commit --quiet --message="What was made in it"
git push --quiet origin HEAD
"""
CHECKOUT = """
rm -rf readers srv etc empty && mkdir -p readers srv empty backups data archive etc/nginx/conf.d etc/systemd/system
git clone --quiet origin.git readers/fundapi
"""


@dataclass
class Reader:
    """Somebody who types the commands, in a directory of their own."""

    root: Path
    environment: dict[str, str]
    own: list[tuple[str, str]]

    def sh(self, script: str, **variables: str) -> None:
        command = ["bash", "-euc", script]
        subprocess.run(
            command, cwd=self.root, env=self.environment | variables, check=True, capture_output=True
        )

    def install(self) -> None:
        """Write the programs that note what is not run, and run the rest."""
        (self.root / "programs").mkdir()
        (self.root / "client.py").write_text(forks.client(self.root / "forks"))
        for program in {command.split()[0] for command in NOT_RUN}:
            rest = f'PATH="${{PATH#*:}}" exec {program} "$@"'
            if program == "python":
                rest = f'exec {sys.executable} -IS {self.root / "client.py"} "$@"'
            run, cases = (
                "|".join(f"'{command}'*" for command in commands if command.split()[0] == program)
                for commands in (RUN, NOT_RUN)
            )
            text = STUB.format(
                name=program, run=run or "-", cases=cases, log=self.root / "not-run", rest=rest
            )
            (self.root / "programs" / program).write_text(text)
            (self.root / "programs" / program).chmod(0o755)

    def run(self, page: str) -> str:
        """Run the commands of a page; return what was wrong."""
        text = (PROJECT / page).read_text()
        self.sh(CHECKOUT + ("" if "/srv/fundapi\n" in text else "ln -s ../readers/fundapi srv/fundapi\n"))
        shell = "cd readers/fundapi && .venv/bin/python manage.py shell --verbosity=0"
        self.sh(f'{shell} --command "$BEFORE"', BEFORE=BEFORE)
        start = self.root / ("empty" if "git clone REPOSITORY fundapi" in text else "readers/fundapi")
        return pages.run(text, start, self.environment, self.own)

    def not_run(self) -> list[list[str]]:
        """Return the commands that were not run since the last call."""
        log = self.root / "not-run"
        text = log.read_text() if log.exists() else ""
        log.unlink(missing_ok=True)
        return [line.split("\x1f")[:-1] for line in text.splitlines()]


def variables_of_psql(url: str) -> dict[str, str]:
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD"}
    return {names[name]: str(value) for name, value in conninfo_to_dict(url).items() if name in names}


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[str, Server]]:
    """A database that only the pages use, and a server on it."""
    url, _, options = os.environ["DATABASE_URL"].partition("?")
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("CREATE DATABASE pages")
    database_url = f"{url.rpartition('/')[0]}/pages?{options}"
    migrated = manage("migrate", "--verbosity=0", DATABASE_URL=database_url)
    assert migrated.returncode == 0, migrated.stderr
    with running_server(workers=1, DATABASE_URL=database_url) as server:
        yield database_url, server


@pytest.fixture(scope="module")
def reader(site: tuple[str, Server]) -> Iterator[Reader]:
    database_url, server = site
    before, after = database_url.split("/pages?")
    with TemporaryDirectory(prefix="pages-") as directory, ExitStack() as stack:
        root = Path(directory)
        environment = os.environ | {
            **variables_of_psql(os.environ["TEST_SUPERUSER_URL"]),
            "PGDATABASE": "pages",
            "DATABASE_URL": database_url,
            "PORT": str(server.port),
            "COLUMNS": "200",
            # A page exports them: the same value needs no process of its own.
            "GITHUB_TOKEN": "given",
            "GITHUB_REPOSITORY": "owner/name",
            "ROLLOUT_SITE_URL": server.url,
            "HOME": str(root),
            "PATH": os.pathsep.join([str(root / "programs"), str(postgres_directory()), os.environ["PATH"]]),
            **{
                f"GIT_{who}_{what}": "reader" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
            },
            "GIT_EDITOR": "true",
        }
        reader = Reader(root, environment, [])
        reader.install()
        scenario = re.findall(
            r"```toml\n(.*?)```", (PROJECT / "docs/how-to/simulation.md").read_text(), re.DOTALL
        )
        reader.sh(ORIGIN, PROJECT=str(PROJECT), SCENARIO=scenario[0])
        command = [sys.executable, "-m", "tests.forks", str(root / "forks")]
        stack.callback(end, subprocess.Popen(command, cwd=PROJECT, env=environment))
        eventually((root / "forks").exists)
        receiver = stack.enter_context(web_receiver())
        mails = stack.enter_context(mail_server("user", "password"))
        reader.own += [
            (r"(?<![\w.:/…*])/(?!dev/)(?=[a-z]+[/\s])", f"{root}/"),
            (r"http://127\.0\.0\.1:8000|https://(?:funds|yourapp)\.example(?:\.com)?", server.url),
            (r"…(?=/health|/api/)", server.url),
            (r"postgres://[^/\s]+/(\w+)", rf"{before}/\1?{after}"),
            (r"\b([A-Z_]+)=(?:…|\.\.\.)", r'\1="${\1-given}"'),
            (r"https://hooks\.slack\.com/\S+", receiver.url),
            (r"whsec_\.\.\.", f"whsec_{'a' * 32}"),
            (
                r"smtp\+tls://user:password@mail\.example\.com:587",
                f"smtp://user:password@127.0.0.1:{mails.port}",
            ),
            (r"\bREPOSITORY\b", str(root / "origin.git")),
            (r"\bCOMMIT\b", "HEAD"),
            (r"\bfundapi_(web|worker)\b", r"pages_\1"),
            (r"\bNAME\b", "grace"),
            (r"\bADDRESS\b", "192.0.2.1"),
            (r"\bdeploy/pgbackrest/rehearse\b", "rehearse"),
            (r"\binstall -d -o postgres -g postgres\b", "install -d"),
            (r"\bchown postgres\b", "chown $(id -un)"),
        ]
        yield reader


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ELSEWHERE])
def test_the_commands_of_a_page_do_what_it_says(reader: Reader, page: str) -> None:
    commands = "\n".join(step.commands for step in pages.steps((PROJECT / page).read_text()))
    for program in PROGRAMS:
        if re.search(rf"\b{program} ", commands) and not shutil.which(program):
            pytest.skip(f"{program} is missing: apt-get install {program}")
    wrong = reader.run(page)
    if wrong:
        pytest.fail(wrong, pytrace=False)
    for command in reader.not_run():
        _, check = next(NOT_RUN[name] for name in NOT_RUN if " ".join(command).startswith(name))
        check(command)


def test_what_is_not_run_is_in_the_pages() -> None:
    commands = "\n".join(
        step.commands for page in PAGES for step in pages.steps((PROJECT / page).read_text())
    ).replace('"', "")
    for name in (*NOT_RUN, *RUN):
        assert re.search(rf"(^|[\s/(]){re.escape(name.strip())}(?!\w)", commands, re.MULTILINE), name
    assert set(ELSEWHERE) <= set(PAGES)


def test_make_run_prints_what_the_tutorial_shows() -> None:
    first, *_ = pages.steps((PROJECT / "docs/tutorial/first-rollout.md").read_text())
    assert first.commands == "make run\n"
    assert first.shown
    values = dict.fromkeys(("password", "home", "unsigned", "token", "key", "demo"), "…")
    values |= {
        "url": "http://127.0.0.1:8000",
        "username": "admin",
        "kept": "kept in /home/.fundapi/admin-password",
    }
    assert first.missing(READY.format_map(values)) == []
