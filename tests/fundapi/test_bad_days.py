"""Commands on a database that is away, not migrated or read-only: one sentence each, without a traceback or secret."""

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from django.core.management import get_commands, load_command_class
from django.db import OperationalError, ProgrammingError, connection
from django.db.migrations.executor import MigrationExecutor
from psycopg import sql

import manage
from idempotency.replays import replays
from rollout import operations
from rollout.models import Rollout
from rollout.release.shell import ReleaseCommand
from tests import servers

PASSWORD = "hunter2-is-secret"
OURS = ("fundapi", "idempotency", "rollout")
FILE = "FILE"  # stands for a new file
# These exit with 2, too.
COULD_NOT_TELL = {"check_rollouts", "check_consistency", "demo_rollout", "simulate_rollout"}
# Before the database, these ask GitHub, a file or an alert channel.
ASK_OTHERS_FIRST = {"demo_rollout", "finalize_pr", "deploy_with_confidence", "restore", "send_test_alert"}
ONLY_READ = {
    "rollout status",
    "rollout list",
    "verify_rollback",
    "check_consistency",
    "backup FILE",
    "purge_idempotency_keys",
}


@pytest.fixture(scope="module")
def empty(database: None) -> str:
    """The name of a database without tables."""
    return new_database()


def new_database() -> str:
    name = f"bad_day_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(os.environ["TEST_SUPERUSER_URL"], autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} OWNER fundapi").format(sql.Identifier(name)))
    return name


@contextmanager
def settings_of_database(**changed: Any) -> Iterator[None]:
    before = dict(connection.settings_dict)
    connection.close()
    connection.settings_dict.update(changed)
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict.update(before)


def away() -> dict[str, Any]:
    return {"HOST": "127.0.0.1", "PORT": "1", "PASSWORD": PASSWORD}


def read_only() -> dict[str, Any]:
    return with_options("default_transaction_read_only=on")


def with_options(setting: str) -> dict[str, Any]:
    options = dict(connection.settings_dict["OPTIONS"])
    options["options"] = f"{options.get('options', '')} -c {setting}"
    return {"OPTIONS": options, "PASSWORD": PASSWORD}


class Ended(NamedTuple):
    """The end of ``manage.py``: its exit code and what it printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, database: None
) -> Run:
    """Run ``manage.py`` in this process."""

    def run(*arguments: str) -> Ended:
        words = [str(tmp_path / "new") if word == FILE else word for word in arguments]
        monkeypatch.setattr(sys, "argv", ["manage.py", *words])
        capfd.readouterr()
        code: Any = 0
        try:
            manage.main()
        except SystemExit as end:
            code = end.code or 0
        return Ended(code, *capfd.readouterr())

    return run


@pytest.fixture
def feature(database: None) -> Iterator[str]:
    """A rollout at 10 %."""
    name = f"BAD_DAY_{uuid.uuid4().hex[:8].upper()}"
    operations.create(name, reason="a bad day")
    operations.set_percentage(name, Decimal(10), reason="canary")
    yield name
    Rollout.objects.filter(feature=name).update(percentage=0, stage="off", emergency_stop=False)


# --- Every command of ours ----------------------------------------------------------------------------------------


def command_lines() -> list[list[str]]:
    """Every command of our apps that needs a database, each of its actions, with arguments that it accepts.

    `dbshell` is Django's, with more options: there psql speaks.
    """
    lines = []
    for name, app in get_commands().items():
        if app in OURS and name not in {"dbshell", *manage.NEED_NO_SERVICES}:
            parser = load_command_class(app, name).create_parser("manage.py", name)
            lines += [[name, *words] for words in spellings(parser)]
    return lines


def spellings(parser: argparse.ArgumentParser) -> Iterator[list[str]]:
    """Yield the arguments of each action: those it requires, and a few that bring it to the database."""
    actions = parser._actions
    options = {option for action in actions for option in action.option_strings}
    chosen = {"--reason": "a bad day", "--minutes": "0.01", "--enabled": "off"}
    words = [word for name in chosen if name in options for word in (name, chosen[name])]
    for action in actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice, subparser in action.choices.items():
                yield from ([choice, *more] for more in spellings(subparser))
            return
        if not action.option_strings and action.nargs is None:
            values = {"feature": "USE_FUND_STORE", "percent": "10", "worker": "another"}
            words.append(FILE if action.type is Path else values.get(action.dest, "48"))
    yield words


def exit_code(words: list[str]) -> int:
    is_release = issubclass(type(load_command_class(get_commands()[words[0]], words[0])), ReleaseCommand)
    is_unknown = is_release or words[0] in COULD_NOT_TELL or words[:2] == ["rollout", "stop"]
    return 2 if is_unknown else 1


def assert_one_sentence(ended: Ended) -> None:
    assert len(ended.err.splitlines()) == 1, ended.err
    assert "Traceback" not in ended.err + ended.out
    assert PASSWORD not in ended.err + ended.out


every_command = pytest.mark.parametrize("words", command_lines(), ids=" ".join)


@pytest.fixture(autouse=True, scope="module")
def no_replays_of_earlier_tests() -> None:
    """A thread would write their counts while a command finds no database, and log that to the command's stderr."""
    replays._counts.clear()


@pytest.fixture(autouse=True)
def with_an_alert_channel(settings: Any) -> None:
    settings.ROLLOUT_WEBHOOK_URL = "https://127.0.0.1:1"
    settings.ROLLOUT_WEBHOOK_SECRET = f"whsec_{b64encode(bytes(32)).decode()}"


@every_command
@pytest.mark.parametrize("state", ["away", "empty"])
def test_without_its_tables_a_command_says_so_in_one_sentence(
    run: Run, words: list[str], state: str, empty: str
) -> None:
    with settings_of_database(**(away() if state == "away" else {"NAME": empty, "PASSWORD": PASSWORD})):
        ended = run(*words)
    assert_one_sentence(ended)
    assert ended.code == exit_code(words), ended.err
    if words[0] not in ASK_OTHERS_FIRST:
        expected = "The database could not be asked" if state == "away" else "The database is not migrated"
        assert expected in ended.err or "is no backup of fundapi" in ended.err


@every_command
def test_on_a_read_only_database_a_command_works_or_says_so_in_one_sentence(
    run: Run, words: list[str], feature: str
) -> None:
    with settings_of_database(**read_only()):
        ended = run(*[feature if word == "USE_FUND_STORE" else word for word in words])
    if " ".join(words) not in ONLY_READ:
        assert_one_sentence(ended)
        assert ended.code == exit_code(words), ended.err
    assert PASSWORD not in ended.err + ended.out
    if words[:1] == ["rollout"] and words[1] not in {"status", "list"}:
        assert "read-only" in ended.err


# --- Other states, other people's commands ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["migrate"],
        ["showmigrations"],
        ["createsuperuser", "--noinput", "--username=x", "--email=x@fundapi.example"],
        ["changepassword", "x"],
        ["axes_reset"],
        ["clearsessions"],
        ["shell", "--no-imports", "-c", "from django.contrib.auth.models import User; User.objects.count()"],
    ],
    ids=lambda words: words[0],
)
def test_the_commands_of_django_and_others_say_it_too(run: Run, words: list[str]) -> None:
    with settings_of_database(**away()):
        ended = run(*words)
    assert_one_sentence(ended)
    assert ended.code == 1
    assert ended.err.startswith(
        'manage.py: The database could not be asked (connection to server at "127.0.0.1", port 1'
    )


def test_a_migration_on_a_read_only_database_is_one_sentence(run: Run, empty: str) -> None:
    with settings_of_database(**read_only(), NAME=empty):
        ended = run("migrate", "--verbosity", "0")
    assert_one_sentence(ended)
    assert "read-only" in ended.err


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"NAME": "nowhere"}, 'database "nowhere" does not exist'),
        ({"USER": "nobody_here"}, 'role "nobody_here" does not exist'),
        ({"HOST": "no-such-host.invalid"}, "no-such-host.invalid"),
        ({"HOST": "/nonexistent"}, "No such file or directory"),
        ({"OPTIONS": {"no_such_option": "1"}}, "no_such_option"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_address_is_named(run: Run, wrong: dict[str, Any], words: str) -> None:
    with settings_of_database(**wrong, PASSWORD=PASSWORD):
        ended = run("rollout", "status")
    assert_one_sentence(ended)
    assert words in ended.err


def test_a_database_that_accepts_and_never_answers_is_given_up(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = {"OPTIONS": {"connect_timeout": 1}}
        with settings_of_database(**away() | {"PORT": silent.getsockname()[1]}, **options):
            ended = run("create_token", "demo")
    assert_one_sentence(ended)
    assert "timeout" in ended.err


def test_one_migration_behind_or_ahead_is_told_and_a_bug_keeps_its_traceback(run: Run) -> None:
    """A missing column: is the last migration missing, an unknown one applied, or is our SQL wrong?"""
    with settings_of_database(NAME=new_database()):
        assert [run("migrate", app, "--verbosity", "0").code for app in ("auth", "rollout")] == [0, 0]
        executor = MigrationExecutor(connection)
        for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes()):
            # Their tables play no part here.
            executor.recorder.record_applied(migration.app_label, migration.name)
        last = executor.loader.graph.leaf_nodes("rollout")[0][1]
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE rollout_rollout RENAME COLUMN description TO later")
        with pytest.raises(ProgrammingError, match="description"):
            run("rollout", "status")
        executor.recorder.record_unapplied("rollout", last)
        behind = run("rollout", "status")
        executor.recorder.record_applied("rollout", last)
        executor.recorder.record_applied("rollout", "0999_later")
        ahead = run("rollout", "status")
    assert_one_sentence(behind)
    assert f"; 1 migration is missing, from rollout.{last} on): run manage.py migrate." in behind.err
    assert_one_sentence(ahead)
    assert "does not know rollout.0999_later" in ahead.err


def test_a_backup_to_a_full_disk_is_one_sentence_and_leaves_nothing(run: Run, tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a file system")
    try:
        ended = run("backup", FILE)
        left = list(tmp_path.iterdir())
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert_one_sentence(ended)
    assert (ended.code, left) == (1, [])
    assert "No space left on device" in ended.err


def test_traceback_shows_the_traceback(run: Run) -> None:
    with settings_of_database(**away()):
        with pytest.raises(OperationalError):
            run("create_token", "demo", "--traceback")
        for words in (["verify_rollback"], ["rollout", "stop", "USE_FUND_STORE"]):
            ended = run(*words, "--traceback")
            assert ended.code == 2
            assert "psycopg.OperationalError" in ended.err
            assert "The database could not be asked" in ended.err.splitlines()[-1]


# --- An emergency stop that could not stop ------------------------------------------------------------------------


def assert_not_stopped(ended: Ended, why: str) -> None:
    assert (ended.code, ended.out) == (2, "")
    assert "NOT STOPPED: " in ended.err
    assert "?emergency_rollback=true" in ended.err
    assert "Traceback" not in ended.err
    assert why in ended.err


def test_a_stop_of_a_misspelt_feature_says_not_stopped_and_the_nearest_name(run: Run, feature: str) -> None:
    assert_not_stopped(
        run("rollout", "stop", feature[:-1].lower()),
        f"There is no rollout '{feature[:-1].lower()}'. Known: {feature}",
    )


@pytest.mark.parametrize("words", [[], ["A", "--resaon", "x"], ["A", "B"]], ids=" ".join)
def test_a_stop_with_wrong_arguments_says_not_stopped(run: Run, words: list[str]) -> None:
    assert_not_stopped(run("rollout", "stop", *words), "error: ")


def test_a_stop_that_waits_for_a_lock_gives_up_and_says_so(run: Run, feature: str) -> None:
    with psycopg.connect(servers.database_url()) as other:
        other.execute("SELECT FROM rollout_rollout WHERE feature = %s FOR UPDATE", [feature])
        with settings_of_database(**with_options("lock_timeout=50")):
            assert_not_stopped(run("rollout", "stop", feature), "canceling statement due to lock timeout")
            held = run("rollout", "hold", feature, "--reason", "x")
    assert (held.code, held.err.partition(":")[2].partition(":")[0]) == (1, " NOT PUT ON HOLD")
    assert not Rollout.objects.get(feature=feature).emergency_stop


def test_an_interrupted_stop_says_not_stopped(run: Run, feature: str) -> None:
    with psycopg.connect(servers.database_url()) as other:
        other.execute("SELECT FROM rollout_rollout WHERE feature = %s FOR UPDATE", [feature])
        threading.Thread(target=interrupt_when, args=["wait_event_type = 'Lock'"]).start()
        assert_not_stopped(run("rollout", "stop", feature), "it was interrupted.")
    assert not Rollout.objects.get(feature=feature).emergency_stop


@pytest.fixture
def no_nohup() -> Iterator[None]:
    """Programs end with their terminal, also if these tests do not: under nohup they would inherit that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("no_nohup")
def test_a_stop_that_is_ended_says_not_stopped(feature: str, number: signal.Signals) -> None:
    with (
        psycopg.connect(servers.database_url()) as other,
        subprocess.Popen(
            [sys.executable, "manage.py", "rollout", "stop", feature],
            cwd=servers.PROJECT,
            env=os.environ | {"DATABASE_URL": servers.database_url()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        other.execute("SELECT FROM rollout_rollout WHERE feature = %s FOR UPDATE", [feature])
        wait_for_session("wait_event_type = 'Lock'")
        process.send_signal(number)
        out, err = process.communicate()
    assert_not_stopped(Ended(process.returncode, out, err), "it was interrupted.")


def interrupt_when(condition: str) -> None:
    wait_for_session(condition)
    os.kill(os.getpid(), signal.SIGINT)


def wait_for_session(condition: str) -> int:
    """Return the process id of the session of this test that meets a condition."""
    with psycopg.connect(servers.database_url(), autocommit=True) as look:
        while True:
            query = f"SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND {condition}"
            if found := look.execute(query).fetchone():
                return int(found[0])
            time.sleep(0.01)


def test_a_stop_whose_commit_was_lost_says_that_it_may_be_stored(run: Run, feature: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$"""
        )
        cursor.execute(
            f"""CREATE CONSTRAINT TRIGGER linger AFTER UPDATE ON rollout_rollout DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW WHEN (NEW.feature = '{feature}') EXECUTE FUNCTION linger()"""
        )
    threading.Thread(target=cut_when, args=["wait_event = 'PgSleep'"]).start()
    ended = run("rollout", "stop", feature)
    with connection.cursor() as cursor:
        cursor.execute("DROP FUNCTION linger CASCADE")
    assert_not_stopped(ended, f"It may be stored all the same: `rollout status {feature}` shows it.")
    assert not Rollout.objects.get(feature=feature).emergency_stop


def cut_when(condition: str) -> None:
    pid = wait_for_session(condition)
    with psycopg.connect(servers.database_url(), autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s)", [pid])


def test_a_stop_whose_result_cannot_be_printed_has_stopped_and_says_so(
    run: Run, feature: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        ended = run("rollout", "stop", feature)
        with suppress(OSError):
            full.close()  # what is left in its buffer
    assert ended.code == 0
    assert f"Done (stop {feature}), and not printed: [Errno 28]" in ended.err
    assert "NOT STOPPED" not in ended.err
    assert Rollout.objects.get(feature=feature).emergency_stop


def test_a_fault_of_the_command_itself_stops_nothing_and_says_so(
    run: Run, feature: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollout.configuration.forget", "not callable")
    ended = run("rollout", "stop", feature)
    assert ended.code == 2
    assert "Traceback" in ended.err
    assert "NOT STOPPED: a fault of the command itself" in ended.err.splitlines()[-1]


def test_a_system_check_does_not_refuse_an_emergency_stop(run: Run, feature: str, settings: Any) -> None:
    settings.ROLLOUT_WEBHOOK_URL = "no address"
    assert "rollout.E" in run("rollout", "hold", feature, "--reason", "x").err
    assert run("rollout", "stop", feature).code == 0
    assert Rollout.objects.get(feature=feature).emergency_stop


def test_a_stop_under_wrong_settings_says_not_stopped(database: None) -> None:
    ended = servers.manage("rollout", "stop", "USE_FUND_STORE", ROLLOUT_CHECK_INTERVAL="soon")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
    assert ended.stderr.startswith("NOT STOPPED: ROLLOUT_CHECK_INTERVAL is 'soon', and should be ")
