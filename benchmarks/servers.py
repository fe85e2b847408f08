"""Web servers to measure: Granian with the options of ``fundapi.web.serve``, on a port of 127.0.0.1."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.load import Connection, request
from benchmarks.stack import PROJECT, Stack
from fundapi.embedded.processes import dying_with_parent
from fundapi.web.serve import ALLOCATORS, THREADS
from fundapi.web.serve import command as product_command

READY_TIMEOUT = 60  # s; a busy machine imports slowly
READY_POLL = 0.01  # s; the error of a measured cold start
STOP_TIMEOUT = 10  # s
PRODUCT, SETTINGS = "fundapi.wsgi:application", "benchmarks.settings"
# For more servers of the product, in turn, than there are cores: not one of them has a core, in place of some.
CORELESS = (("WEB_CPU_AFFINITY", "off"),)


@dataclass(frozen=True)
class Site:
    """A site to serve: its application, Python and environment, and the working tree that it is of.

    The product has a thread for each request that may wait in its own queue, as it is deployed. Any other has a thread
    for each that is worked on, and the others wait in Granian.
    """

    name: str
    application: str = PRODUCT
    interface: str = "wsgi"
    python: str = sys.executable
    settings: str = SETTINGS
    environ: tuple[tuple[str, str], ...] = ()
    tree: Path = PROJECT

    def command(self, port: int, *, workers: int, threads: int) -> list[str]:
        """Return the server's command line: the product's own, with this application, interface and Python."""
        options = {"PORT": str(port), "WEB_CONCURRENCY": str(workers), "WEB_THREADS": str(threads)}
        ours = {
            sys.executable: self.python,
            PRODUCT: self.application,
            "wsgi": self.interface,
        }
        line = product_command(options, threads=None if self.application == PRODUCT else threads)
        return [ours.get(part, part) for part in line]


class Server:
    """A running web server on ``port``; ``seconds_to_ready`` from its start to its first good answer."""

    def __init__(self, site: Site, stack: Stack, *, workers: int, threads: int) -> None:
        self.site = site
        self.port = free_port()
        threads = threads if site.interface == "wsgi" else 1  # an event loop has one
        self.command = site.command(self.port, workers=workers, threads=threads)
        self.log = stack.home / f"{site.name}-{self.port}.log"
        metrics = stack.home / f"{site.name}-{self.port}.metrics"
        metrics.mkdir()
        environ = {
            **ALLOCATORS,  # as fundapi.web.serve sets them
            **stack.environ,
            "DJANGO_SETTINGS_MODULE": site.settings,
            "PROMETHEUS_MULTIPROC_DIR": str(metrics),  # as `make run` sets it
            "WEB_THREADS": str(threads),
            **dict(site.environ),
        }
        began = time.perf_counter()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=site.tree,
                env=environ,
                stdout=log,
                stderr=log,
                preexec_fn=dying_with_parent(signal.SIGTERM),  # noqa: PLW1509 - started before any thread
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        self.seconds_to_ready = time.perf_counter() - began

    def workers(self) -> list[psutil.Process]:
        """Return the processes that serve requests."""
        return workers_of(self.process.pid)

    def stop(self) -> None:
        end(self.process)

    def last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").strip().splitlines()[-15:])

    def _wait_until_ready(self) -> None:
        ask = request("GET", "/readyz")
        deadline = time.monotonic() + READY_TIMEOUT
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(OSError), closing(Connection(self.port)) as connection:
                if connection.send(ask).status == 200:
                    return
            time.sleep(READY_POLL)
        raise RuntimeError(f"{self.site.name} did not start:\n{self.last_words()}")


@contextmanager
def serving(site: Site, stack: Stack, *, workers: int = 1, threads: int = THREADS) -> Iterator[Server]:
    """Serve ``site`` until the context ends."""
    server = Server(site, stack, workers=workers, threads=threads)
    try:
        yield server
    finally:
        server.stop()


def end(process: subprocess.Popen[bytes], seconds: float = STOP_TIMEOUT) -> None:
    """Stop a program; after so many seconds, kill it and its children. Do nothing if it has ended."""
    if process.poll() is not None:
        return
    family: list[subprocess.Popen[bytes] | psutil.Process] = [
        process,
        *psutil.Process(process.pid).children(recursive=True),
    ]
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        process.wait(seconds)


def workers_of(pid: int) -> list[psutil.Process]:
    """Return the processes that serve requests for a Granian."""
    children: list[psutil.Process] = psutil.Process(pid).children()
    return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def shown(command: list[str]) -> str:
    """Return a command line as a person would type it in the project's directory."""
    parts = (part.replace(sys.executable, ".venv/bin/python") for part in command)
    return shlex.join(part.replace(f"{PROJECT}{os.sep}", "") for part in parts)
