"""Real processes on this test worker's database: commands, Celery, and Granian on a free port of 127.0.0.1."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psutil
from django.db import connection

from benchmarks.servers import end, free_port, workers_of
from fundapi.embedded import Home
from fundapi.embedded import run as make_run
from manage import NOWHERE

PROJECT = Path(__file__).resolve().parent.parent
# For a server whose requests a test stops half-way: it takes a busy machine longer to look than production waits.
UNHURRIED: dict[str, Any] = {
    "DJANGO_SETTINGS_MODULE": "tests.unhurried_settings",
    "DATABASE_LOCK_TIMEOUT": "60",
    "WEB_QUEUE_SECONDS": "60",
}


def database_url(name: str | None = None) -> str:
    """The URL of this test worker's database, for another process."""
    before, _, rest = os.environ["DATABASE_URL"].partition("?")
    path = before.rpartition("/")[0] + "/" + (name or str(connection.settings_dict["NAME"]))
    return f"{path}?{rest}" if rest else path


def superuser_url() -> str:
    """The same, for the superuser."""
    before, _, rest = os.environ["TEST_SUPERUSER_URL"].partition("?")
    return f"{before.rpartition('/')[0]}/{connection.settings_dict['NAME']}?{rest}"


def printed(program: str) -> str:
    """Return what a program of Python prints, as a process of its own that reaches neither PostgreSQL nor Valkey."""
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT,
        env=dict(NOWHERE),
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def manage(*arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run ``manage.py`` as a process of its own, on this test worker's database."""
    return subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", "manage.py", *arguments],
        cwd=PROJECT,
        env=os.environ | {"DATABASE_URL": database_url()} | env,
        capture_output=True,
        text=True,
        check=False,
    )


def celery_arguments(name: str) -> list[str]:
    """Return the arguments of Celery in a program of `make run`."""
    [found] = [each for each in make_run.programs(Home.at(Path("/nowhere"))) if each.name == name]
    return list(found.command[found.command.index("--quiet") + 1 :])


@contextmanager
def celery(env: dict[str, str], log: Path, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a worker or beat until the context ends."""
    command = [sys.executable, "-m", "celery", "-A", "fundapi", *arguments]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env=os.environ | {"DATABASE_URL": database_url()} | env,
            stdout=output,
            stderr=output,
        )
        try:
            yield process
        finally:
            end(process, 30)  # a worker of Celery may hang in its shutdown; what it had comes again


class Server:
    """A running web server. ``url`` is its address, ``log`` what it has printed."""

    def __init__(
        self, directory: Path, env: dict[str, str], *, workers: int, threads: int, application: str
    ) -> None:
        self.count = workers
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = directory / "web.log"
        metrics = directory / "metrics"
        metrics.mkdir()
        command = [
            *(sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1"),
            *("--port", str(self.port), "--workers", str(workers), "--blocking-threads", str(threads)),
            *("--http", "1", "--respawn-failed-workers", "--respawn-interval", "0.1", application),
        ]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=PROJECT,
                env=os.environ
                | {"DATABASE_URL": database_url(), "PROMETHEUS_MULTIPROC_DIR": str(metrics)}
                | {"WEB_THREADS": str(threads), "WEB_QUEUE_SECONDS": UNHURRIED["WEB_QUEUE_SECONDS"]}
                | env,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def started(self) -> int:
        """Return the number of workers that ever came up. Granian loses a SIGTERM that meets a worker before that."""
        return self.log.count("[INFO] Started worker-")

    def workers(self) -> list[psutil.Process]:
        """The processes that serve requests."""
        return workers_of(self.process.pid)

    def wait_until_ready(self, path: str = "/livez", timeout: float = 90) -> None:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                if httpx.get(self.url + path, timeout=2).status_code == 200 and self.started() >= self.count:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"the server did not start:\n{self.log}")

    def stop(self) -> None:
        end(self.process)


@contextmanager
def running_server(
    *, workers: int = 2, threads: int = 4, application: str = "fundapi.wsgi:application", **env: str
) -> Iterator[Server]:
    """Serve this test worker's database until the context ends; ``env`` adds environment variables."""
    with TemporaryDirectory(prefix="fundapi-web-") as directory:
        server = Server(Path(directory), env, workers=workers, threads=threads, application=application)
        try:
            server.wait_until_ready()
            yield server
        finally:
            server.stop()
