"""Serve the application: `python -m fundapi.web.serve` becomes Granian with the options that this project needs.

`make run`, the container and the tests all start it like this. Its variables are `WEB_HOST`, `PORT`, `WEB_CONCURRENCY`
(processes), and those of `limits`; Granian's own (`GRANIAN_...`) set whatever is not set here.
"""

import logging
import os
import resource
import sys
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from fundapi.variables import Variables, exit_in_one_sentence, name_settings, wrong

BACKLOG = 1024  # connections that the kernel queues
# Open connections per process; idle keep-alive ones count, so this is no limit of requests. A silent one takes 11 KiB.
CONNECTIONS = 4096
CONNECTIONS_MIN = 64
OTHER_DESCRIPTORS = 64  # of a process, beside one for each connection and each thread
THREADS = 4  # requests that a process works on at once
THREADS_MAX = 1000
QUEUE_MAX = 10_000
PROCESSES_MAX = 512
QUEUE = 100  # requests of a process that may wait for one of its WEB_THREADS slots (fundapi.web.overload)
PROBE_WAITERS = 8  # requests of a process that may wait for one evaluation of a probe (fundapi.web.probes)
PROBES = 4  # the probes of fundapi.web.health
STREAMS = 32  # large files that slow clients of a process may read at once (fundapi.web.answers)
REJECTING_THREADS = 4  # threads beside all of these, for requests that are answered with 503 at once
# ms for the head of a request to arrive, on a line that loses some packets; an idle connection waits as long for its
# next request, twice as long as browsers' and proxies' clients commonly rely on
HEADER_TIMEOUT = 10_000
HEADERS_MAX = 32_768  # bytes of a request's head; then 431. Browsers with many cookies send a tenth of it
# s for a stopping process to finish its requests; a statement may take 10, a stop grace is 30
KILL_TIMEOUT = 20
# Variables of glibc and of Granian's jemalloc. By default, each thread keeps memory of the requests that it has read:
# 6 MiB of a worker, which save no CPU time.
ALLOCATORS = {
    "MALLOC_ARENA_MAX": "1",
    "_RJEM_MALLOC_CONF": "narenas:1,tcache:false,dirty_decay_ms:100",
}


def cores() -> int:
    """Return the number of cores that this process may use."""
    with suppress(AttributeError, OSError):  # of Linux alone, and a sandbox may forbid it
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def readers(working: int, waiting: int) -> int:
    """Return how many bodies a process may read at once: more than slots, so that a few slow clients block nobody."""
    return working + waiting // 2


def limits(env: Variables) -> tuple[int, int]:
    """Return how many requests a process works on at once, and how many may wait for that.

    Raises ImproperlyConfigured.
    """
    working = env.whole("WEB_THREADS", THREADS, least=1, most=THREADS_MAX)
    connections = env.whole("DATABASE_POOL_SIZE", 0, most=10_000)
    if connections == 1:
        raise wrong(
            "DATABASE_POOL_SIZE", "1", "2 or more: one connection is for the probes", example=THREADS + 1
        )
    if connections:
        working = min(working, connections - 1)
    return working, env.whole("WEB_QUEUE", QUEUE, most=QUEUE_MAX)


def port(env: Variables) -> int:
    return env.whole("PORT", 8000, least=1, most=65535)


def host(env: Variables) -> str:
    """Return the address to listen on, which the server takes as a number only."""
    text = env.text("WEB_HOST", "127.0.0.1")
    try:
        return str(ip_address("127.0.0.1" if text == "localhost" else text))
    except ValueError:
        raise wrong("WEB_HOST", text, "an IP address", example="127.0.0.1 or 0.0.0.0") from None


def processes(env: Variables) -> int:
    return env.whole("WEB_CONCURRENCY", cores(), least=1, most=PROCESSES_MAX)


def _threads(env: Variables) -> int:
    """Return a thread for every request that may be in a process; Granian starts them when they are needed."""
    working, waiting = limits(env)
    return (
        working + waiting + readers(working, waiting) + PROBES * PROBE_WAITERS + STREAMS + REJECTING_THREADS
    )


def connection_limit(env: Variables) -> int:
    """Return how many connections a process may hold open: CONNECTIONS, or what the limit of open files leaves."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(CONNECTIONS, max(1, soft - _other_descriptors(env))) if soft > 0 else CONNECTIONS


def _other_descriptors(env: Variables) -> int:
    return _threads(env) + OTHER_DESCRIPTORS


def raise_descriptor_limit(env: Variables) -> None:
    """Raise the limit of open files to what a web process needs. Raises ImproperlyConfigured when it stays too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = CONNECTIONS + _other_descriptors(env)
    if soft >= needed or soft < 0:  # below 0: no limit
        return
    possible = min(needed, hard) if hard > 0 else needed
    least = CONNECTIONS_MIN + _other_descriptors(env)
    if possible < least:
        raise ImproperlyConfigured(
            f"The limit of open files (ulimit -n) is {hard}, and should be {least} or more, such as {needed}."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    if possible < needed:
        sys.stderr.write(
            f"The limit of open files (ulimit -n) is {hard}, and should be {needed}: "
            f"each web process may have {connection_limit(env)} connections instead of {CONNECTIONS}.\n"
        )


def command(environ: Mapping[str, str], *, threads: int | None = None) -> list[str]:
    """Return the command line of the server; with ``threads``, for an application that has no queue of its own.

    Raises ImproperlyConfigured.
    """
    env = Variables(environ)
    return [
        *(sys.executable, "-m", "fundapi.web.granian", "fundapi.wsgi:application"),
        *("--interface", "wsgi", "--http", "1", "--no-ws"),
        *("--host", host(env)),
        *("--port", str(port(env))),
        *("--workers", str(processes(env))),
        *("--blocking-threads", str(threads or _threads(env))),
        *("--backlog", str(BACKLOG), "--backpressure", str(connection_limit(env))),
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
    name_settings()
    with exit_in_one_sentence():
        raise_descriptor_limit(Variables())
        line = command(os.environ)
        # Read all settings here: a worker that cannot would be started again and again.
        if settings.STATIC_ROOT and not (settings.STATIC_ROOT / "staticfiles.json").is_file():
            raise wrong(
                "STATIC_ROOT", f"{settings.STATIC_ROOT}", "a directory that `manage.py collectstatic` filled"
            )
        if settings.OTEL_SIGNALS:
            from fundapi.web import tracing

            tracing.check()
        for sentence in settings.MISSPELT_VARIABLES:
            sys.stderr.write(f"{sentence}\n")
    os.execve(sys.executable, line, ALLOCATORS | dict(os.environ))  # noqa: S606 - the same process: signals reach the server
