"""Serve the application: `python -m fundapi.web.serve` becomes Granian with the options that this project needs.

One place for `make run`, the container and the tests. `WEB_HOST`, `PORT`, `WEB_CONCURRENCY` (processes) and
`WEB_THREADS` (per process) are its variables; Granian's own (`GRANIAN_...`) set whatever is not set here.
"""

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

BACKLOG = 1024  # connections the kernel queues while all are taken
BACKPRESSURE = 512  # open connections per process; counts idle keep-alive ones, so it is no limit of requests
THREADS = 4  # requests a process works on at once
QUEUE = 100  # requests that may wait for one of the WEB_THREADS places of a process (fundapi.web.overload)
PROBES = 4  # requests to /readyz, /health and /metrics that may wait for their own place
USHERS = 4  # threads beside all of these: for what is turned away at once
HEADER_TIMEOUT = (
    30_000  # ms for the head of a request to arrive; an idle connection waits for its next one as long
)
HEADERS_MAX = 32_768  # bytes of a request's head; then 431. Browsers with many cookies send a tenth of it
KILL_TIMEOUT = (
    20  # s for a stopping process to finish its requests; a statement may take 10, a stop grace is 30
)


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def readers(working: int, waiting: int) -> int:
    """How many bodies a process may be reading at once: more than places, or a few slow ones would empty these."""
    return working + waiting // 2


def places(environ: Mapping[str, str]) -> tuple[int, int]:
    """How many requests a process works on at once, and how many may wait for that. Raises ImproperlyConfigured."""
    return _whole(environ, "WEB_THREADS", THREADS, least=1), _whole(environ, "WEB_QUEUE", QUEUE, least=0)


def _whole(environ: Mapping[str, str], name: str, default: int, *, least: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isdecimal() or int(text) < least:
        raise ImproperlyConfigured(
            f"{name} is '{text}', and should be a whole number, {least} or more, such as {default}."
        )
    return int(text)


def _threads(environ: Mapping[str, str]) -> int:
    """A thread for every request that may be in a process; Granian starts them when they are needed."""
    working, waiting = places(environ)
    return working + waiting + readers(working, waiting) + 1 + PROBES + USHERS


def command(environ: Mapping[str, str], *, threads: int | None = None) -> list[str]:
    """The command line of the server; with ``threads``, of one for an application that has no queue of its own.

    Raises ImproperlyConfigured.
    """
    return [
        *(sys.executable, "-m", "granian", "fundapi.wsgi:application"),
        *("--interface", "wsgi", "--http", "1", "--no-ws"),
        *("--host", environ.get("WEB_HOST") or "127.0.0.1"),
        *("--port", environ.get("PORT") or "8000"),
        *("--workers", environ.get("WEB_CONCURRENCY") or str(cores())),
        *("--blocking-threads", str(threads or _threads(environ))),
        *("--backlog", str(BACKLOG), "--backpressure", str(BACKPRESSURE)),
        *("--http1-header-read-timeout", str(HEADER_TIMEOUT), "--http1-buffer-size", str(HEADERS_MAX)),
        *("--workers-kill-timeout", str(KILL_TIMEOUT)),
        "--respawn-failed-workers",
        *("--no-access-log", "--log-level", "warning"),  # the application logs requests itself, structured
        *("--log-config", str(Path(__file__).with_suffix(".json"))),
    ]


class Expected(logging.Filter):
    """Leaves out Granian's advice to have fewer threads: most of them only wait, in the queue that we want to see."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "Python threads" not in record.getMessage()


if __name__ == "__main__":
    try:
        line = command(os.environ)
    except ImproperlyConfigured as error:
        sys.exit(str(error))
    os.execv(sys.executable, line)  # noqa: S606 - the same process: signals reach the server
