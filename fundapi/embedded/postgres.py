"""Make, start and stop one private PostgreSQL server on a unix socket."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psycopg
from psycopg import sql

from fundapi.embedded.home import EmbeddedError, Home
from fundapi.embedded.processes import (
    TIDY,
    Account,
    cause_in,
    dying_with_parent,
    fatal_line,
    is_alive,
    leftovers,
    signal_all,
)
from fundapi.embedded.programs import postgres_directory

ROLE = "fundapi"  # no superuser: owns the database of the same name, and may make databases for tests
READY_TIMEOUT = 300  # s; recovery after a crash may replay a long log
STOP_TIMEOUT = 30  # s; a fast shutdown ends sessions at once and then writes a checkpoint

SETTINGS = {
    "listen_addresses": "",  # reached through its socket alone
    "unix_socket_permissions": "0777",  # the socket's directory decides who may connect (`sockets`)
    "max_connections": "200",  # two test runs beside a served project
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_error_verbosity": "terse",  # without DETAIL, which quotes the row or the key that was refused
    "log_parameter_max_length": "0",  # bytes of each value, where statements are logged
    "client_connection_check_interval": "1s",  # a killed web worker must not keep its key locked
}
# The same sorting everywhere, whatever locales the machine has.
LOCALE = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
THROW_AWAY = {"fsync": "off", "full_page_writes": "off"}  # what the kernel has written survives a kill -9


class Postgres:
    """The PostgreSQL server of a home, for use from one thread."""

    locale: Sequence[str] = LOCALE

    def __init__(self, home: Home, account: Account, sockets: Path, *, durable: bool) -> None:
        self.home = home
        self.account = account
        self.sockets = sockets
        self.settings = SETTINGS if durable else SETTINGS | THROW_AWAY
        self.server: subprocess.Popen[bytes] | None = None

    @property
    def programs(self) -> Path:
        """Directory of its programs, such that its account may run them."""
        return postgres_directory(self.account)

    def url(self, role: str, database: str) -> str:
        """Return a URL that libpq and django-environ read alike; the latter decodes no host that is a path."""
        return f"postgres://{role}@/{database}?host={self.sockets}"

    def start(self) -> None:
        """Start the server, and return when it answers.

        First make the data directory where there is none, and stop the processes of a killed keeper. Raises
        EmbeddedError.
        """
        self._check_or_make_data()
        self._stop_leftovers(self.home.postgres)
        # No server runs here: the process that this file names is dead, or by now another program.
        (self.home.postgres / "postmaster.pid").unlink(missing_ok=True)
        for stale in self.sockets.glob(".s.PGSQL.*"):
            stale.unlink()
        settings = self.settings | {"unix_socket_directories": str(self.sockets)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        log = self.home.log("postgres")
        seen = log.stat().st_size if log.exists() else 0
        with log.open("a") as output:
            self.server = self._popen(
                "postgres", "-D", str(self.home.postgres), *options, output=output.fileno()
            )
        self._wait_until_ready(log, seen)

    def running(self) -> bool:
        return self.server is not None and self.server.poll() is None

    def stop(self) -> None:
        """Shut down fast: sessions end, and all data is on disk. Kill the server when that takes too long."""
        if self.server is None:
            return
        for sig, timeout in ((signal.SIGINT, STOP_TIMEOUT), (signal.SIGQUIT, 10), (signal.SIGKILL, 10)):
            if self.running():
                self.server.send_signal(sig)
                try:
                    self.server.wait(timeout)
                except subprocess.TimeoutExpired:
                    continue
        if self.server.returncode != 0:
            self._stop_leftovers(self.home.postgres)
        self.server = None

    def _popen(self, program: str, *arguments: str, output: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
            self.account.command(self.programs / program, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=self.home.services,
            env=TIDY,
            start_new_session=True,
            # For the server SIGINT is a fast shutdown. The keeper has one thread, so this is safe after fork.
            preexec_fn=dying_with_parent(signal.SIGINT),  # noqa: PLW1509
            **self.account.popen_options(),
        )

    def _check_or_make_data(self) -> None:
        data = self.home.postgres
        self._move_data(self.home.path / "postgres")
        if not data.exists() or not any(data.iterdir()):
            self._make_data()
            return
        try:
            version = (data / "PG_VERSION").read_text(errors="replace").strip()
        except FileNotFoundError:
            raise EmbeddedError(
                f"{data} is no PostgreSQL data (no PG_VERSION): move it away, or set FUNDAPI_HOME"
            ) from None
        installed = self._major_version()
        if version != installed:
            raise EmbeddedError(
                f"{data} was made by PostgreSQL {version}, and this is PostgreSQL {installed}: dump it with "
                "the old one (pg_dump), move it away and load the dump, or set FUNDAPI_HOME elsewhere"
            )

    def _move_data(self, before: Path) -> None:
        """Move the data of a home that the account may no longer enter. Existing data is never overwritten."""
        data = self.home.postgres
        if data.exists() or not before.exists():
            return
        self._stop_leftovers(before)
        with suppress(OSError):  # raised when it is on another file system
            before.rename(data)
            return
        draft = self.home.services / "postgres.incomplete"
        shutil.rmtree(draft, ignore_errors=True)
        copy = ["cp", "-a", str(before), str(draft)]  # with owners, which shutil does not keep
        copied = subprocess.run(copy, check=False, capture_output=True, text=True, env=TIDY)
        if copied.returncode != 0:
            shutil.rmtree(draft, ignore_errors=True)
            raise EmbeddedError(f"cannot move {before} to {data}: {copied.stderr.strip()}")
        os.sync()
        draft.rename(data)
        shutil.rmtree(before)

    def _major_version(self) -> str:
        command = [str(self.programs / "postgres"), "--version"]
        return subprocess.check_output(command, text=True, env=TIDY).split()[-1].partition(".")[0]

    def _make_data(self) -> None:
        """Run initdb beside the final directory, and move the result there: half of it never counts as data."""
        draft = self.home.services / "postgres.incomplete"
        # The initdb of a killed keeper removes its directory when it ends; by then the directory would be ours.
        signal_all(leftovers("initdb", self.home.services, self.account), signal.SIGKILL, wait=5)
        # Its servers start in the one directory, and go to the other.
        for directory in (self.home.services, draft):
            self._stop_leftovers(directory)
        shutil.rmtree(draft, ignore_errors=True)
        self.account.make_directory(draft)
        with tempfile.TemporaryFile() as output:
            made = self._popen(
                "initdb",
                *("-D", str(draft), "--username=postgres", "--auth-local=trust", "--auth-host=reject"),
                *("--encoding=UTF8", *self.locale),
                output=output.fileno(),
            ).wait()
            output.seek(0)
            printed = output.read().decode(errors="replace")
        if made != 0:
            shutil.rmtree(draft, ignore_errors=True)
            raise EmbeddedError(
                f"PostgreSQL could not make its data in {self.home.services}: {fatal_line(printed)}; mend that (is "
                "the disk full?), and start again"
            )
        draft.rename(self.home.postgres)

    def _wait_until_ready(self, log: Path, seen: int) -> None:
        deadline = time.monotonic() + READY_TIMEOUT
        while True:
            try:
                self._make_role_and_database()
                return
            except psycopg.OperationalError as error:
                if not self.running():
                    raise EmbeddedError(f"PostgreSQL did not start: {cause_in(log, seen)}") from error
                if time.monotonic() > deadline:
                    self.stop()
                    raise EmbeddedError(
                        f"PostgreSQL is not ready after {READY_TIMEOUT} s ({log}): {error}"
                    ) from error
            time.sleep(0.02)

    def _make_role_and_database(self) -> None:
        with psycopg.connect(
            self.url("postgres", "postgres"), autocommit=True, connect_timeout=5
        ) as connection:
            role = sql.Identifier(ROLE)
            if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [ROLE]).rowcount:
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB").format(role))
            if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [ROLE]).rowcount:
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))

    def _stop_leftovers(self, data: Path) -> None:
        """Stop the servers and sessions in `data` whose keeper or postmaster was killed."""
        left = leftovers("postgres", data, self.account)
        pids = {process.pid for process in left}
        # Do not wait for sessions without a postmaster: those still there are busy, and will not notice.
        postmasters = [process for process in left if any(child.pid in pids for child in process.children())]
        if postmasters:
            signal_all(postmasters, signal.SIGINT, wait=STOP_TIMEOUT)  # an ordinary shutdown: nothing is lost
            left = [process for process in left if is_alive(process)]
        for sig in (signal.SIGQUIT, signal.SIGKILL):
            left = signal_all(left, sig, wait=5)
