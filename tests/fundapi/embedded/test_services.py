"""The private PostgreSQL and Valkey: started by whoever comes first, stopped by whoever leaves last.

Real processes, killed for real. Each test has a home of its own, copied from one that was made once.
"""

import errno
import importlib.machinery
import importlib.util
import json
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import environ
import psutil
import psycopg
import pytest
import redis
from django.db.utils import ConnectionHandler

from fundapi.embedded import EmbeddedError, Home, Services, services
from fundapi.embedded.postgres import Postgres
from fundapi.embedded.processes import is_alive, service_account
from fundapi.embedded.programs import postgres_directory
from fundapi.embedded.reach import make_reachable, state_directory, temporary_directory
from fundapi.embedded.sockets import make_socket_directory
from tests.eventually import eventually
from tests.servers import manage

PROJECT = Path(__file__).resolve().parents[3]
USER = """\
import json, sys
from fundapi.embedded import services
with services(sys.argv[1], durable=False, environ={}) as found:
    print(json.dumps([found.database_url, found.superuser_url, found.redis_url]), flush=True)
    sys.stdin.read()
"""
pytestmark = pytest.mark.deployment
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
with_open_root = pytest.mark.skipif(
    not Path("/").stat().st_mode & stat.S_IXOTH, reason="/ is closed to all but root here: chmod o+x /"
)


class User:
    """Another process that uses a home until told to leave. Give it up with `leave()` or `kill()`."""

    def __init__(self, home: Path, **popen_options: str | int | list[int]) -> None:
        self.process = subprocess.Popen(  # type: ignore[call-overload]
            [sys.executable, "-c", USER, str(home)],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **popen_options,
        )

    def ready(self) -> Services:
        """Wait for its services."""
        line = self.process.stdout.readline()
        if not line:  # its stderr says why; left open, its pipes would fail a later test as well
            self.kill()
            raise AssertionError(f"it ended with {self.process.returncode}")
        database_url, superuser_url, redis_url = json.loads(line)
        return Services(database_url, superuser_url, redis_url, None)

    def leave(self) -> None:
        self.process.communicate()
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def at_work_in(home: Path) -> dict[str, list[psutil.Process]]:
    """The living processes of a home's services, by name."""
    found: dict[str, list[psutil.Process]] = {"keeper": [], "postgres": [], "valkey-server": []}
    for process in psutil.process_iter(["name", "cmdline", "status"]):
        if process.info["status"] == psutil.STATUS_ZOMBIE:
            continue
        if process.info["cmdline"] and process.info["cmdline"][1:4] == [
            "-m",
            "fundapi.embedded.keeper",
            str(home),
        ]:
            found["keeper"].append(process)
        elif process.info["name"] in found:
            try:
                mine = home in Path(process.cwd()).parents
            except psutil.Error:
                continue
            if mine:
                found[process.info["name"]].append(process)
    return found


def nothing_runs_in(home: Path) -> bool:
    return not any(at_work_in(home).values())


def answer(found: Services) -> bool:
    """Return whether both services answer."""
    try:
        with psycopg.connect(found.database_url, connect_timeout=2) as connection:
            connection.execute("SELECT 1")
        with redis.Redis.from_url(found.redis_url) as client:
            return bool(client.ping())
    except (psycopg.OperationalError, redis.ConnectionError):
        return False


def remember(found: Services) -> None:
    with psycopg.connect(found.database_url) as connection:
        connection.execute("CREATE TABLE memory AS SELECT 42 AS answer")


def remembers(found: Services) -> bool:
    with psycopg.connect(found.database_url) as connection:
        return connection.execute("SELECT answer FROM memory").fetchone() == (42,)


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A home that was used once."""
    with temporary_directory("home-") as path:
        with services(path, durable=False, environ={}):
            pass
        yield path


@pytest.fixture
def new_home() -> Iterator[Path]:
    """A place for a home; whatever still runs there at the end is stopped, and fails the test."""
    directory = Path(tempfile.mkdtemp(prefix="home-")).resolve()
    directory.chmod(0o755)
    yield directory / "h"
    left = [process for group in at_work_in(directory / "h").values() for process in group]
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=5)
    shutil.rmtree(directory)
    assert not left


@pytest.fixture
def home(made: Path, new_home: Path) -> Path:
    """A home with data, in which nothing runs."""
    subprocess.run(["cp", "-a", made, new_home], check=True)
    return new_home


def test_both_services_answer_and_leave_nothing_behind(new_home: Path, django_db_blocker: Any) -> None:
    """A first start as `make run` does it; the URLs work for libpq, Django and redis-py."""
    settings = {"ENOUGH": "alone"}
    with services(new_home, environ=settings) as found:
        assert settings == {
            "ENOUGH": "alone",
            "DATABASE_URL": found.database_url,
            "REDIS_URL": found.redis_url,
        }
        database = ConnectionHandler({"default": environ.Env.db_url_config(found.database_url)})["default"]
        with django_db_blocker.unblock(), database.cursor() as cursor:
            cursor.execute(
                "SELECT current_user, current_database(), rolsuper, rolcreatedb FROM pg_roles "
                "WHERE rolname = current_user"
            )
            assert cursor.fetchone() == ("fundapi", "fundapi", False, True)
            cursor.execute(
                "SELECT name, setting FROM pg_settings WHERE name IN ('server_version_num', 'fsync', "
                "'synchronous_commit', 'full_page_writes', 'data_checksums', 'max_connections', "
                "'client_connection_check_interval', 'listen_addresses')"
            )
            shown = dict(cursor.fetchall())
        database.close()
        assert shown.pop("server_version_num")[:2] == "18"
        assert shown == {
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "data_checksums": "on",
            "max_connections": "200",
            "client_connection_check_interval": "1000",
            "listen_addresses": "",
        }
        assert found.superuser_url
        with psycopg.connect(found.superuser_url) as connection:
            assert connection.execute(
                "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
            ).fetchone() == (True,)
        with redis.Redis.from_url(found.redis_url) as client:
            assert client.info("server")["valkey_version"].startswith("9.")
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "volatile-lru"}
    assert settings == {"ENOUGH": "alone"}
    assert nothing_runs_in(new_home)
    assert not (new_home / "run" / "services.json").exists()


def test_a_url_of_your_own_is_left_alone(home: Path) -> None:
    settings = {"DATABASE_URL": "postgres://mine/mine"}
    with services(home, environ=settings, durable=False) as found:
        assert found.database_url == settings["DATABASE_URL"] == "postgres://mine/mine"
        assert found.superuser_url is None
        assert settings["REDIS_URL"] == found.redis_url
    settings["REDIS_URL"] = "redis://mine/0"
    with services(home, environ=settings) as found:
        assert nothing_runs_in(home)
        assert (found.redis_url, found.lock_fd) == ("redis://mine/0", None)


def test_a_second_user_joins_at_once_and_the_first_may_leave(home: Path) -> None:
    first = User(home)
    theirs = first.ready()
    before = at_work_in(home)["keeper"]
    with services(home, environ={}) as found:
        assert at_work_in(home)["keeper"] == before  # nothing was started: there was nothing to wait for
        assert (found.database_url, found.redis_url) == (theirs.database_url, theirs.redis_url)
        first.leave()
        assert answer(found)
    assert nothing_runs_in(home)


def test_a_home_behind_a_link_is_the_same_home(home: Path) -> None:
    """Even where the link's own directory is closed to the account that root's PostgreSQL runs as."""
    closed = home.with_name("closed")
    closed.mkdir(mode=0o700)
    (closed / "link").symlink_to(home)
    with (
        services(closed / "link", durable=False, environ={}) as one,
        services(home, environ={}) as other,
    ):
        assert one.database_url == other.database_url
    assert nothing_runs_in(home)


def test_many_start_at_once_and_share_one_keeper(home: Path) -> None:
    users = [User(home) for _ in range(4)]
    assert len({user.ready().database_url for user in users}) == 1
    assert len(at_work_in(home)["keeper"]) == 1
    for user in users:
        user.leave()
    assert nothing_runs_in(home)


def test_two_homes_run_side_by_side(home: Path) -> None:
    other = home.with_name("other")
    shutil.copytree(home, other, copy_function=shutil.copy2) if os.geteuid() else subprocess.run(
        ["cp", "-a", home, other], check=True
    )
    with services(home, durable=False, environ={}) as one:
        with services(other, durable=False, environ={}) as two:
            remember(one)
            remember(two)
        assert nothing_runs_in(other)
        assert remembers(one)


def test_a_killed_user_leaves_nothing_behind(home: Path) -> None:
    user = User(home)
    remember(user.ready())
    user.kill()
    eventually(lambda: nothing_runs_in(home))
    with services(home, durable=False, environ={}) as found:
        assert remembers(found)


def test_a_killed_keeper_takes_its_services_along_and_the_next_user_starts_another(home: Path) -> None:
    user = User(home)
    theirs = user.ready()
    remember(theirs)
    [keeper] = at_work_in(home)["keeper"]
    keeper.kill()
    if sys.platform == "linux":
        eventually(lambda: nothing_runs_in(home))
    with services(home, durable=False, environ={}) as found:
        assert remembers(found)
        assert answer(theirs)  # who was there finds the new services under the old URLs
        user.leave()
    assert nothing_runs_in(home)


@pytest.mark.parametrize("name", ["postgres", "valkey-server"])
def test_a_killed_service_comes_back(home: Path, name: str) -> None:
    with services(home, durable=False, environ={}) as found:
        remember(found)
        [keeper] = at_work_in(home)["keeper"]
        [victim] = [process for process in keeper.children() if process.name() == name]
        victim.kill()
        eventually(lambda: not answer(found) or not victim.is_running())
        eventually(lambda: answer(found))
        assert remembers(found)


def test_everything_killed_at_once_with_a_busy_session_does_not_block_the_next_start(home: Path) -> None:
    """The session does not notice that its postmaster is gone, and holds on to the shared memory."""
    user = User(home)
    found = user.ready()
    remember(found)
    loop = [
        str(postgres_directory() / "psql"),
        found.database_url,
        "--command",
        "DO 'BEGIN LOOP END LOOP; END'",
    ]
    with subprocess.Popen(loop, stderr=subprocess.DEVNULL):
        busy = 0
        while not busy:
            with psycopg.connect(found.database_url) as connection:
                row = connection.execute(
                    "SELECT pid FROM pg_stat_activity WHERE query LIKE 'DO %'"
                ).fetchone()
                busy = row[0] if row else 0
        running = at_work_in(home)
        doomed = [process for group in running.values() for process in group if process.pid != busy]
        for process in doomed:
            process.suspend()  # so that none sees another die
        for process in doomed:
            process.kill()
        user.kill()
        eventually(lambda: [process.pid for process in at_work_in(home)["postgres"]] == [busy])
        with services(home, durable=False, environ={}) as again:
            assert remembers(again)
            assert busy not in {process.pid for process in at_work_in(home)["postgres"]}


def test_stale_files_never_block_a_start_nor_hurt_a_stranger(home: Path) -> None:
    """Every pid file names a living process that took over the pid."""
    account = service_account()
    stranger = subprocess.Popen(["sleep", "60"], **account.popen_options())  # type: ignore[call-overload]
    try:
        data, sockets, run = home / "postgres", home / "sockets", home / "run"
        pid_file = f"{stranger.pid}\n{data}\n1700000000\n5432\n{sockets}\n\n 1 1\nready\n"
        (data / "postmaster.pid").write_text(pid_file)
        (sockets / ".s.PGSQL.5432.lock").write_text(pid_file)
        for name in (".s.PGSQL.5432", "valkey.sock"):
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(str(sockets / name))
        (run / "services.json").write_text('{"database_url": "postgres://stale"}')
        (run / "socket-directory").write_text("/nonexistent/stale")
        (home / "postgres.incomplete").mkdir()
        (home / "postgres.incomplete" / "half").touch()
        with services(home, durable=False, environ={}) as found:
            assert answer(found)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("name", ["long-" + "x" * 120, "with space, comma & umlaut ü"])
def test_a_path_that_no_socket_can_have_gets_a_private_temporary_directory(home: Path, name: str) -> None:
    moved = home.with_name(name)
    home.rename(moved)
    with services(moved, durable=False, environ={}) as found:
        assert answer(found)
        directory = Path((moved / "run" / "socket-directory").read_text().strip())
        assert str(directory) in found.database_url
        assert stat.S_IMODE(directory.stat().st_mode) in (0o700, 0o770)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700 or directory.stat().st_gid == 0
    assert not directory.exists()
    assert nothing_runs_in(moved)
    moved.rename(home)


def test_an_initdb_that_was_killed_half_way_is_done_again(new_home: Path) -> None:
    user = User(new_home)
    half_way = new_home / "postgres.incomplete" / "PG_VERSION"
    eventually(half_way.exists)
    [keeper] = at_work_in(new_home)["keeper"]
    [initdb] = [child for child in keeper.children() if child.name() == "initdb"]
    initdb.suspend()  # as on a busy machine: it has yet to clear its directory away when the next keeper comes
    keeper.kill()
    user.kill()
    assert not (new_home / "postgres").exists()
    with services(new_home, durable=False, environ={}) as found:
        assert not is_alive(initdb)
        assert answer(found)
    assert not (new_home / "postgres.incomplete").exists()


@pytest.mark.parametrize(
    ("version", "says"),
    [("17", "made by PostgreSQL 17, and this is PostgreSQL 18"), (None, "is no PostgreSQL data")],
)
def test_data_that_is_not_ours_is_refused_and_never_deleted(
    new_home: Path, version: str | None, says: str
) -> None:
    data = new_home / "postgres"
    data.mkdir(parents=True)
    (data / "precious").touch()
    if version:
        (data / "PG_VERSION").write_text(f"{version}\n")
    with pytest.raises(EmbeddedError, match=says), services(new_home, environ={}):
        pass
    assert (data / "precious").exists()
    eventually(lambda: nothing_runs_in(new_home))


def test_a_start_that_fails_says_why(home: Path) -> None:
    with (home / "postgres" / "postgresql.conf").open("a") as file:
        file.write("shared_preload_libraries = 'no_such_library'\n")
    with (
        pytest.raises(EmbeddedError, match=r"did not start(.|\n)*no_such_library"),
        services(home, environ={}),
    ):
        pass
    eventually(lambda: nothing_runs_in(home))


@as_root
def test_somebody_elses_home_is_refused(new_home: Path) -> None:
    new_home.mkdir()
    os.chown(new_home, 12345, 12345)
    with pytest.raises(EmbeddedError, match="belongs to user id 12345"), services(new_home, environ={}):
        pass


def permissions(home: Path) -> dict[Path, int]:
    """The permissions of the directories above a home."""
    return {path: path.stat().st_mode for path in home.parents}


@pytest.fixture
def closed(home: Path) -> Iterator[Path]:
    """A home with data from before, in a directory like /root that has been closed since to everybody else."""
    home.parent.chmod(0o700)
    yield home
    for link in home.parent.glob("*/outside"):
        shutil.rmtree(link.readlink(), ignore_errors=True)


@as_root
@with_open_root
def test_a_closed_home_has_its_data_outside_and_no_permissions_change(
    closed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also two of them side by side, one of them new."""
    before, new = permissions(closed), closed.with_name("new")
    with services(new, durable=False, environ={}) as one:
        outside = (new / "outside").readlink()
        assert f"the data is in {outside}" in capsys.readouterr().err
        assert outside.parent == state_directory(service_account())
        remember(one)
        with services(closed, durable=False, environ={}) as other:
            remember(other)
            assert one.database_url != other.database_url
        assert remembers(one)
    capsys.readouterr()
    for home in (new, closed):
        with services(home, durable=False, environ={}) as again:
            assert remembers(again)
        assert nothing_runs_in(home)
        assert nothing_runs_in((home / "outside").readlink())
        assert not (home / "postgres").exists()
    assert capsys.readouterr().err == ""  # said once
    assert permissions(closed) == before


@as_root
def test_where_even_the_root_directory_is_closed_nothing_is_opened(
    new_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a chroot in a private directory. The account searches directories by a capability instead."""
    closed = new_home.parent
    closed.chmod(0o700)
    monkeypatch.setattr("fundapi.embedded.processes.ROOT", closed)
    install_in(closed, monkeypatch)
    (new_home / "logs").mkdir(parents=True)
    home, account = Home.at(new_home), service_account()
    assert account.is_shut_out
    assert make_reachable(home, account) == ""
    postgres = Postgres(home, account, make_socket_directory(home, account), durable=False)
    postgres.start()
    try:
        with psycopg.connect(postgres.url("fundapi", "fundapi")) as connection:
            assert connection.execute("SELECT 42").fetchone() == (42,)
        assert postgres.server is not None
        assert psutil.Process(postgres.server.pid).uids().effective == account.uid
        assert not home.outside.is_symlink()
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    finally:
        postgres.stop()


@as_root
@with_open_root
@pytest.mark.parametrize("elsewhere", [False, True], ids=["same file system", "another file system"])
def test_data_of_a_home_that_was_closed_since_is_moved(
    closed: Path, monkeypatch: pytest.MonkeyPatch, *, elsewhere: bool
) -> None:
    """Even when everything was killed but a session that has not noticed."""
    closed.parent.chmod(0o755)
    user = User(closed)
    remember(user.ready())
    [keeper], [session, *others] = (at_work_in(closed)[name] for name in ("keeper", "postgres"))
    if session in keeper.children():  # the server itself
        others, session = [session, *others[1:]], others[0]
    for process in (session, *others):
        process.suspend()  # so that none sees another die
    for process in (*others, keeper):
        process.kill()
    user.kill()
    closed.parent.chmod(0o700)
    if elsewhere:
        monkeypatch.setattr(Path, "rename", refuse_for(closed / "postgres", Path.rename))
    home, account = Home.at(closed), service_account()
    assert make_reachable(home, account)
    postgres = Postgres(home, account, make_socket_directory(home, account), durable=False)
    postgres.start()
    try:
        with psycopg.connect(postgres.url("fundapi", "fundapi")) as connection:
            assert connection.execute("SELECT answer FROM memory").fetchone() == (42,)
        assert not (closed / "postgres").exists()
        assert not is_alive(session)
    finally:
        postgres.stop()


def refuse_for(source: Path, rename: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
    """`Path.rename` as if `source` were on another file system than every target."""

    def renamed(path: Path, target: Path) -> Path:
        if path == source:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return rename(path, target)

    return renamed


@as_root
@with_open_root
def test_a_closed_home_may_be_moved_and_a_copy_of_it_is_refused(closed: Path) -> None:
    """The copy would work on the data of its original."""
    with services(closed, durable=False, environ={}) as found:
        remember(found)
    copy, moved = closed.with_name("copy"), closed.with_name("moved")
    subprocess.run(["cp", "-a", closed, copy], check=True)
    with pytest.raises(EmbeddedError, match=f"is a copy of {closed}"), services(copy, environ={}):
        pass
    shutil.rmtree(copy)
    closed.rename(moved)
    with services(moved, durable=False, environ={}) as found:
        assert remembers(found)
    shutil.rmtree((moved / "outside").readlink())
    with (
        pytest.raises(EmbeddedError, match="which is gone: bring it back, or remove"),
        services(moved, environ={}),
    ):
        pass
    assert nothing_runs_in(moved)
    moved.rename(closed)


def install_in(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let PostgreSQL's package be installed in ``directory``."""
    installed = postgres_directory().parents[1]
    for tree in (installed, installed.with_suffix(".libs")):
        subprocess.run(["cp", "-a", tree, directory], check=True)
    origin = str(directory / installed.name / "__init__.py")
    spec = importlib.machinery.ModuleSpec(installed.name, None, origin=origin)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)


@as_root
@with_open_root
def test_programs_in_a_closed_virtualenv_are_copied_once(
    new_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, installed = service_account(), postgres_directory().parents[1]
    system, closed = new_home.with_name("system"), new_home.with_name("closed")
    system.mkdir(mode=0o755)
    closed.mkdir(mode=0o700)
    install_in(closed, monkeypatch)
    private = closed / installed.name / "pginstall" / "bin" / "initdb"
    private.chmod(0o700)
    monkeypatch.setattr("fundapi.embedded.reach.SYSTEM", system)
    programs = postgres_directory(account)
    assert system in programs.parents
    data = new_home.with_name("data")
    account.make_directory(data)
    subprocess.run(  # type: ignore[call-overload]  # no overload takes ** of a dict
        [programs / "initdb", "--no-sync", "-D", data],
        check=True,
        cwd=data,
        capture_output=True,
        **account.popen_options(),
    )
    made = programs.stat().st_ino
    assert (postgres_directory(account), programs.stat().st_ino) == (programs, made)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (closed, private)] == [0o700, 0o700]
    assert [path.name for path in (system / "fundapi").iterdir()] == [programs.parents[2].name]


@as_root
@with_open_root
def test_a_directory_that_somebody_else_made_is_not_trusted(
    new_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a temporary directory anybody may have been first."""
    system, temporary, account = new_home.with_name("s"), new_home.with_name("t"), service_account()
    monkeypatch.setattr("fundapi.embedded.reach.SYSTEM", system / "missing")
    monkeypatch.setattr("fundapi.embedded.reach.temporary_directories", lambda _: [system, temporary])
    for directory in (system, temporary):
        (directory / "fundapi").mkdir(parents=True)
    assert state_directory(account) == system / "fundapi"
    os.chown(system / "fundapi", 12345, 12345)
    assert state_directory(account) == temporary / "fundapi"
    (temporary / "fundapi").rmdir()
    (temporary / "fundapi").symlink_to("/root")
    with pytest.raises(EmbeddedError, match="there is no directory that its account may enter"):
        state_directory(account)


@as_root
@with_open_root
def test_a_normal_user_runs_it_too(new_home: Path) -> None:
    """As anybody who has an account, which PostgreSQL insists on; none is made, no permissions are changed."""
    account = pwd.getpwnam("nobody")
    nobody: dict[str, str | int | list[int]] = {
        "user": account.pw_uid,
        "group": account.pw_gid,
        "extra_groups": [],
    }
    try:
        subprocess.run([sys.executable, "-c", "import psutil"], check=True, **nobody)  # type: ignore[call-overload]
    except (PermissionError, subprocess.CalledProcessError):
        pytest.skip("only root may enter the directory of this Python: move the checkout out of /root")
    os.chown(new_home.parent, account.pw_uid, account.pw_gid)
    user = User(new_home, **nobody)
    assert user.ready().database_url
    working = [process for group in at_work_in(new_home).values() for process in group]
    assert {process.uids().effective for process in working} == {account.pw_uid}
    assert stat.S_IMODE(new_home.stat().st_mode) == 0o700
    user.leave()
    assert nothing_runs_in(new_home)


def test_secrets_are_made_once_and_for_the_owner_alone(new_home: Path) -> None:
    home = Home.at(new_home)
    home.make()
    first = home.secret("secret-key")
    assert len(first) >= 50
    assert home.secret("secret-key") == first
    assert stat.S_IMODE((new_home / "secret-key").stat().st_mode) == 0o600
    assert sorted(path.name for path in new_home.iterdir()) == ["logs", "run", "secret-key"]


def test_manage_py_needs_no_services_for_a_command_that_asks_none(new_home: Path) -> None:
    environment = {"PATH": os.defpath, "FUNDAPI_HOME": str(new_home)}
    for arguments in (["check"], ["migrate", "--help"]):
        subprocess.run(
            [sys.executable, "manage.py", *arguments],
            check=True,
            cwd=PROJECT,
            env=environment,
            capture_output=True,
        )
    assert not new_home.exists()


def test_manage_py_runs_the_services_for_itself(home: Path) -> None:
    """And says nothing on stdout but what the command says; on stderr, which database it works on."""
    environment = {"PATH": os.defpath, "FUNDAPI_HOME": str(home)}
    command = (
        "from django.db import connection as c; k = c.cursor(); k.execute('SELECT 42'); print(k.fetchone())"
    )
    output = subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "--command", command],
        check=True, cwd=PROJECT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert output.stdout == "(42,)\n"
    said = f"manage.py: works on the private database in {home}, which nothing else uses"
    assert output.stderr.startswith(said)
    assert len(output.stderr.splitlines()) == 1
    assert len((home / "secret-key").read_text().strip()) >= 50
    assert nothing_runs_in(home)


def test_manage_py_opens_no_lock_where_both_services_are_named(database: None, new_home: Path) -> None:
    """The home may be another account's, who runs a server in this checkout."""
    (new_home / "run" / "keeper.lock").mkdir(parents=True)
    done = manage("showmigrations", "--plan", FUNDAPI_HOME=str(new_home))
    assert (done.returncode, done.stderr) == (0, "")
