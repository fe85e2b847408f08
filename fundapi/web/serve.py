"""Serve the application: `python -m fundapi.web.serve` becomes Granian with the options that this project needs.

`make run`, the container and the tests all start it like this. Its variables are `WEB_HOST`, `PORT`, `WEB_CONCURRENCY`
(processes), and those of `limits`; Granian's own (`GRANIAN_...`) set whatever is not set here.
"""

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

BACKLOG = 1024  # connections that the kernel queues
# Open connections per process; idle keep-alive ones count, so this is no limit of requests.
BACKPRESSURE = 512
THREADS = 4  # requests that a process works on at once
QUEUE = 100  # requests of a process that may wait for one of its WEB_THREADS slots (fundapi.web.overload)
PROBES = 4  # requests to /readyz, /health and /metrics that may wait for a slot of their own
REJECTING_THREADS = 4  # threads beside all of these, for requests that are answered with 503 at once
# ms for the head of a request to arrive; an idle connection waits as long for its next request
HEADER_TIMEOUT = 30_000
HEADERS_MAX = 32_768  # bytes of a request's head; then 431. Browsers with many cookies send a tenth of it
# s for a stopping process to finish its requests; a statement may take 10, a stop grace is 30
KILL_TIMEOUT = 20


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def readers(working: int, waiting: int) -> int:
    """Return how many bodies a process may read at once: more than slots, so that a few slow clients block nobody."""
    return working + waiting // 2


def limits(environ: Mapping[str, str]) -> tuple[int, int]:
    """Return how many requests a process works on at once, and how many may wait for that.

    Raises ImproperlyConfigured.
    """
    working = _whole(environ, "WEB_THREADS", THREADS, least=1)
    connections = _whole(environ, "DATABASE_POOL_SIZE", 0, least=0)
    if connections:
        # A request at work holds a connection, and so do the probes.
        working = min(working, max(1, connections - 1))
    return working, _whole(environ, "WEB_QUEUE", QUEUE, least=0)


def _whole(environ: Mapping[str, str], name: str, default: int, *, least: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isdecimal() or int(text) < least:
        raise ImproperlyConfigured(
            f"{name} is '{text}', and should be a whole number, {least} or more, such as {default}."
        )
    return int(text)


def _threads(environ: Mapping[str, str]) -> int:
    """Return a thread for every request that may be in a process; Granian starts them when they are needed."""
    working, waiting = limits(environ)
    return working + waiting + readers(working, waiting) + 1 + PROBES + REJECTING_THREADS


def command(environ: Mapping[str, str], *, threads: int | None = None) -> list[str]:
    """Return the command line of the server; with ``threads``, for an application that has no queue of its own.

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
        # The application logs requests itself, structured.
        *("--no-access-log", "--log-level", "warning"),
        *("--log-config", str(Path(__file__).with_suffix(".json"))),
    ]


class ThreadAdviceFilter(logging.Filter):
    """Drop Granian's advice to have fewer threads: most of them only wait, in the queue of `fundapi.web.overload`."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "Python threads" not in record.getMessage()


if __name__ == "__main__":
    try:
        line = command(os.environ)
    except ImproperlyConfigured as error:
        sys.exit(str(error))
    os.execv(sys.executable, line)  # noqa: S606 - the same process: signals reach the server
