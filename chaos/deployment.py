"""A deployment under load: the programs of `make run`, kept running by its process manager, and the clients.

One thread does everything here, because children end with the thread that started them.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg

from benchmarks.bodies import fund
from benchmarks.load import ask, request
from benchmarks.servers import free_port, workers_of
from chaos.clients import read
from chaos.verdict import Journal, Replay
from fundapi.embedded import run as make_run
from fundapi.embedded.home import PROJECT, Home
from fundapi.embedded.manager import Manager, Program
from fundapi.embedded.processes import dying_with_parent, service_account
from fundapi.variables import exit_with

TICK = 0.02  # s between looks at the programs
READY_TIMEOUT = 90  # s
NOT_HANDED_ON = ("GRANIAN_", "DATABASE_", "REDIS_", "IDEMPOTENCY_", "ROLLOUT_")  # of our own environment


class Deployment(ABC):
    """A deployment in one directory. ``managers`` keep its programs running; the last one has fundapi's own."""

    def __init__(self, directory: Path) -> None:
        self.home = Home.at(directory)
        self.home.make()
        self.account = service_account()
        self.port = free_port()
        self.managers: list[Manager] = []
        self.complaints: list[str] = []
        self.token = ""
        self.metrics: Path | None = None  # of the programs; in memory, so not in the directory

    @abstractmethod
    def superuser(self) -> psycopg.Connection:
        """Return a connection to fundapi's database as the superuser."""

    @abstractmethod
    def mend(self) -> None:
        """End every fault."""

    @property
    def manager(self) -> Manager:
        return self.managers[-1]

    def environment(self, database: str, broker: str) -> dict[str, str]:
        """Return the environment of fundapi's programs."""
        served = make_run.environment(self.home, self.port)
        self.metrics = Path(served["PROMETHEUS_MULTIPROC_DIR"])
        return {
            **{name: value for name, value in served.items() if not name.startswith(NOT_HANDED_ON)},
            "DATABASE_URL": database,
            "REDIS_URL": broker,
            "SECRET_KEY": secrets.token_urlsafe(48),
            "FUND_CREATE_RATE": "1000000/second",
            "TELEMETRY_RATE": "1000000/second",
            "LOG_LEVEL": "CRITICAL",  # a 503 is what a storm is for
            "WEB_CONCURRENCY": "2",
            "STATIC_ROOT": "",  # no storm asks for a file, and nothing has collected them here
        }

    def prepare(self) -> None:
        """Migrate, and make the clients' token."""
        self.manage("migrate", "--verbosity", "0")
        self.token = self.manage("create_token", "chaos", "--create")

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
            for manager in self.managers:
                manager.look_after()
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(TICK, left))

    def heal(self) -> None:
        """End every fault, and return when the server is ready."""
        self.mend()
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

    def program(self, name: str) -> Program:
        """Return the program of this name, the last manager's of several. Raises KeyError when there is none."""
        return {program.name: program for manager in self.managers for program in manager.programs}[name]

    def processes(self, name: str) -> list[psutil.Process]:
        """Return the processes of a program: itself and its children."""
        running = self.program(name).process
        if running is None or running.poll() is not None:
            return []
        process = psutil.Process(running.pid)
        return [process, *process.children(recursive=True)]

    def kill_programs(self, *names: str) -> None:
        """Kill programs and their children with SIGKILL."""
        for name in names:
            running = self.program(name).process
            if running is not None and running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)

    def funds(self, run: str) -> list[str]:
        """Return the names of all funds of a run."""
        with self.superuser() as connection:
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
        """Stop the programs, the last manager's first."""
        for manager in reversed(self.managers):
            manager.stop(lambda: False)
        if self.metrics is not None:
            shutil.rmtree(self.metrics, ignore_errors=True)


class Crowd:
    """The clients' process, which runs until :meth:`finish`."""

    def __init__(
        self,
        deployment: Deployment,
        run: str,
        *,
        clients: int,
        seed: int,
        ports: Sequence[int] = (),
        strict: bool = False,
    ) -> None:
        self.journal = deployment.home.path / f"{run}.json"
        options: dict[str, Any] = {
            "--token": deployment.token,
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
                *("--port", *map(str, ports or [deployment.port])),
            ],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            preexec_fn=dying_with_parent(signal.SIGTERM),  # noqa: PLW1509 - one thread: safe after fork
        )

    def finish(self, deployment: Deployment) -> Journal:
        """Wait until every client has an answer to its last key, and return the journal."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        while self.process.poll() is None:
            deployment.look_after(TICK)
        return read(self.journal)
