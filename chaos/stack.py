"""A whole deployment to break: PostgreSQL, Valkey, web, workers and beat, and a proxy for the database.

The programs are those of `make run`, and its process manager keeps them running. One thread does everything here,
because children end with the thread that started them.
"""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.bodies import fund
from benchmarks.load import ask, request
from benchmarks.servers import free_port, workers_of
from chaos.clients import read
from chaos.postgres import Postgres
from chaos.verdict import Journal, Replay
from fundapi.embedded import run as make_run
from fundapi.embedded.home import PROJECT, Home
from fundapi.embedded.manager import Manager
from fundapi.embedded.processes import dying_with_parent, service_account
from fundapi.embedded.reach import temporary_directory
from fundapi.embedded.valkey import Valkey
from fundapi.variables import exit_with

TICK = 0.02  # s between looks at the programs
READY_TIMEOUT = 90  # s
NOT_HANDED_ON = ("GRANIAN_", "DATABASE_", "REDIS_", "IDEMPOTENCY_", "ROLLOUT_")  # of our own environment


class Stack:
    """A deployment, in one directory."""

    def __init__(self, directory: Path, database: Path, *, proxied: bool, **env: str) -> None:
        self.home = Home.at(directory)
        self.home.make()
        self.account = service_account()
        self.postgres = Postgres(database, self.account)
        self.postgres.start()
        sockets = directory / "sockets"
        self.account.make_directory(sockets)
        self.valkey = Valkey(self.home, self.account, sockets)
        self.valkey.start()
        self.proxy, self.valkey_proxy = Proxied(self.postgres.socket), Proxied(self.valkey.socket)
        self.address, self.broker = self.postgres.url("fundapi", "fundapi"), self.valkey.url
        if proxied:
            self.address = f"postgres://fundapi@127.0.0.1:{self.proxy.port}/fundapi"
            self.broker = f"redis://127.0.0.1:{self.valkey_proxy.port}/0"
        self.complaints: list[str] = []
        self.port = free_port()
        self.manager = Manager(
            self.home.path, make_run.programs(self.home), env=self._environment() | env, pass_fds=()
        )
        self.manage("migrate", "--verbosity", "0")
        self.token = self.manage("create_token", "chaos", "--create")

    def _environment(self) -> dict[str, str]:
        served = make_run.environment(self.home, self.port)
        return {
            **{name: value for name, value in served.items() if not name.startswith(NOT_HANDED_ON)},
            "DATABASE_URL": self.address,
            "REDIS_URL": self.broker,
            "SECRET_KEY": secrets.token_urlsafe(48),
            "FUND_CREATE_RATE": "1000000/second",
            "TELEMETRY_RATE": "1000000/second",
            "LOG_LEVEL": "CRITICAL",  # a 503 is what a storm is for
            "WEB_CONCURRENCY": "2",
            "STATIC_ROOT": "",  # no storm asks for a file, and nothing has collected them here
            "WATCHDOG_SECONDS": "15",  # the storm `frozen` does not wait longer
        }

    def manage(self, *arguments: str) -> str:
        """Run a command of ``manage.py`` and return its stdout."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(
            command, cwd=PROJECT, env=self.manager.env, check=False, capture_output=True, text=True
        )
        exit_with(done)
        done.check_returncode()
        return done.stdout.strip()

    def look_after(self, seconds: float = 0.0) -> None:
        """Restart programs that died, for so many seconds."""
        end = time.monotonic() + seconds
        while True:
            self.manager.look_after()
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(TICK, left))

    def heal(self) -> None:
        """Restart everything, and return when the server is ready."""
        if not self.postgres.running():
            self.postgres.start()
        if not self.valkey.running():
            self.valkey.start()
        self.proxy.say("heal", str(self.postgres.socket))
        self.valkey_proxy.say("heal", str(self.valkey.socket))
        deadline = time.monotonic() + READY_TIMEOUT
        while not make_run.answers(self.port):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the server is not ready after {READY_TIMEOUT} s: {self.home.logs}")
            for program in self.manager.programs:
                program.restart_at = 0  # the storm is over: no need to hold back
            self.look_after(0.1)

    def must_be_ready(self, when: str) -> None:
        """Complain if /readyz says no. ``when`` is a clause, such as "while PostgreSQL is read-only"."""
        if not make_run.answers(self.port):
            self.complaints.append(f"/readyz says no {when}")

    def must_not_be_ready(self, when: str) -> None:
        """Complain if /readyz says yes."""
        if make_run.answers(self.port):
            self.complaints.append(f"/readyz says yes {when}")

    def must_create(self, when: str, *, within: float) -> None:
        """Complain if no create succeeds within so many seconds."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            key = secrets.token_hex(16)
            sent = request("POST", "/api/funds", token=self.token, body=fund(name=key), key=key)
            with suppress(OSError, ValueError):
                if ask(self.port, sent, timeout=within).status == 201:
                    return
            self.look_after(TICK)
        self.complaints.append(f"no fund was created for {within:g} s {when}")

    def web_workers(self) -> list[psutil.Process]:
        """Return the processes that serve requests."""
        web = self.manager.programs[0].process
        if web is None or web.poll() is not None:
            return []
        return workers_of(web.pid)

    def processes(self, name: str) -> list[psutil.Process]:
        """Return the processes of a program: itself and its children."""
        for program in self.manager.programs:
            if program.name == name and program.process is not None and program.process.poll() is None:
                process = psutil.Process(program.process.pid)
                return [process, *process.children(recursive=True)]
        return []

    def configure(self, name: str, value: str) -> None:
        """Change a setting of the running PostgreSQL."""
        with self.postgres.superuser() as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(f"ALTER SYSTEM SET {name} = {value}")
            connection.execute("SELECT pg_reload_conf()")

    def kill_programs(self, *names: str) -> None:
        """Kill programs and their children with SIGKILL."""
        for program in self.manager.programs:
            if program.name in names and program.process is not None and program.process.poll() is None:
                os.killpg(program.process.pid, signal.SIGKILL)

    def kill_valkey(self) -> None:
        if self.valkey.server is not None:
            self.valkey.server.kill()
            self.valkey.server.wait()

    def funds(self, run: str) -> list[str]:
        """Return the names of all funds of a run."""
        with self.postgres.superuser() as connection:
            rows = connection.execute("SELECT name FROM fundapi_fund WHERE name LIKE %s", [f"{run}-%"])
            return [str(name) for (name,) in rows]

    def replays(self, journal: Journal) -> dict[str, Replay]:
        """Send a request under every acknowledged key once more, and return the answers by key."""
        found = {}
        for acknowledged in journal.acknowledgements:
            sent = request(
                "POST", "/api/funds", token=self.token, body=fund(name=acknowledged.key), key=acknowledged.key
            )
            answer = ask(self.port, sent)
            found[acknowledged.key] = Replay(answer.status == 201, answer.body.decode())
        return found

    def stop(self) -> None:
        self.manager.stop(lambda: False)
        self.proxy.stop()
        self.valkey_proxy.stop()
        self.valkey.stop()
        self.postgres.stop()


class Proxied:
    """The proxy's process. The programs know only its address."""

    def __init__(self, target: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "chaos.proxy", str(target)],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=dying_with_parent(signal.SIGTERM),  # noqa: PLW1509 - one thread: safe after fork
        )
        self.port = int(self._answer())

    def say(self, *words: str) -> None:
        """Give a command of :mod:`chaos.proxy`, and return when it has been carried out."""
        assert self.process.stdin is not None
        print(*words, file=self.process.stdin, flush=True)
        self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


class Crowd:
    """The clients' process, which runs until :meth:`finish`."""

    def __init__(
        self,
        stack: Stack,
        run: str,
        *,
        clients: int,
        seed: int,
        ports: Sequence[int] = (),
        strict: bool = False,
    ) -> None:
        self.journal = stack.home.path / f"{run}.json"
        options: dict[str, Any] = {
            "--token": stack.token,
            "--run": run,
            "--clients": clients,
            "--seed": seed,
            "--journal": self.journal,
        }
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "chaos.clients",
                *(str(part) for pair in options.items() for part in pair),
                *(["--strict"] if strict else []),
                *("--port", *map(str, ports or [stack.port])),
            ],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            preexec_fn=dying_with_parent(signal.SIGTERM),  # noqa: PLW1509 - one thread: safe after fork
        )

    def finish(self, stack: Stack) -> Journal:
        """Wait until every client has an answer to its last key, and return the journal."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        while self.process.poll() is None:
            stack.look_after(TICK)
        return read(self.journal)


@contextmanager
def running(database: Path | None = None, *, proxied: bool = True, **env: str) -> Iterator[Stack]:
    """Start a deployment, and stop it when the context ends.

    Args:
        database: a directory for PostgreSQL alone.
        proxied: the programs reach it through the proxy, which hides the kernel's errors of a lost connection.
        env: more environment variables for the programs.
    """
    with temporary_directory("fundapi-chaos-") as directory:
        stack = Stack(directory, database or directory / "primary", proxied=proxied, **env)
        try:
            stack.heal()
            yield stack
        finally:
            stack.stop()
