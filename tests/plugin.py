"""Services, markers and order of a test run.

Loaded before pytest-django reads the settings: the whole run gets a private PostgreSQL and Valkey. The home is
thrown away afterwards, so two runs at once never meet. xdist's workers inherit the variables.
"""

import logging
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from httpx._transports import default

from fundapi.embedded import services
from fundapi.embedded.reach import temporary_directory

TESTS = Path(__file__).parent
# The marks of the tests in these folders; files elsewhere mark themselves. `make quick` leaves all of them out.
MARKERS = {"browser": "browser", "chaos": "deployment", "fuzz": "deployment", "reliability": "deployment"}
_running = None
# Every client of httpx reads all certificates of the machine: 50 ms, thousands of times, and hardly a test talks TLS.
default.create_ssl_context = cache(default.create_ssl_context)  # type: ignore[attr-defined]
logging.getLogger("httpx").setLevel(logging.WARNING)  # a line a request would bury what failed


@contextmanager
def throw_away_services() -> Iterator[None]:
    with (
        temporary_directory("fundapi-tests-") as home,
        services(home, durable=False) as found,
    ):
        os.environ["FUNDAPI_HOME"] = str(home)
        os.environ["TEST_SUPERUSER_URL"] = found.superuser_url or found.database_url
        yield


def _set_environment() -> None:
    os.environ["SECRET_KEY"] = "only-for-tests-and-long-enough-to-satisfy-every-check-0123456789"
    os.environ["ENVIRONMENT"] = "test"
    os.environ["ROLLOUT_UNSIGNED_TELEMETRY"] = "full"  # browsers of all tests share one address
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    # Buffers show what an output that cannot be written does at the end.
    os.environ.pop("PYTHONUNBUFFERED", None)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    global _running  # noqa: PLW0603 - one run, one set of services
    _set_environment()
    # A shell lets its jobs in the background ignore Ctrl-C, and with them every program that a test interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "PYTEST_XDIST_WORKER" not in os.environ and not early_config.known_args_namespace.help:
        _running = throw_away_services()
        _running.__enter__()


def pytest_unconfigure() -> None:
    if _running is not None:
        _running.__exit__(None, None, None)


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return one more than there are cores: while a test waits for a clock, another one works."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their folder, and alternate files: one of a deployment or a browser waits, others compute.

    Backwards, because the longest ones, of pages and failures, come late by name. One that begins last keeps a worker
    busy alone.
    """
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if marker := MARKERS.get(folder):
            item.add_marker(marker)
    items.sort(key=lambda item: item.path, reverse=True)
    waiting = {item.path for item in items if any(map(item.get_closest_marker, MARKERS.values()))}
    places: dict[Path, tuple[int, bool]] = {}
    counts: Counter[bool] = Counter()
    for path in dict.fromkeys(item.path for item in items):
        computes = path not in waiting
        places[path] = (counts[computes], computes)
        counts[computes] += 1
    items.sort(key=lambda item: places[item.path])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say once for each reason how many tests it has skipped; the reason says what to install."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    for reason, number in reasons.most_common():
        terminalreporter.write_line(f"{number} skipped: {reason}")
