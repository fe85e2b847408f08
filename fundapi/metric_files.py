"""Names of the files in which processes share their metrics (prometheus-client's multiprocess mode).

By default prometheus-client names them by pid: then a process that was killed leaves its gauges for ever, or for the
process that gets the same pid, and each restart of a worker leaves three files. Here each process takes the first
number that no living process has, by a lock that the kernel releases at its end. The next process with that number goes
on with its counters, and begins with new gauges.

Import this before a metric is made. It leans on ``prometheus_client.values.ValueClass``, which each metric calls.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from prometheus_client import values

from fundapi.variables import Variables

# prometheus-client asks only whether this variable exists.
SHARED = Variables().path("PROMETHEUS_MULTIPROC_DIR", writable=True)
os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
os.environ.update({"PROMETHEUS_MULTIPROC_DIR": str(SHARED)} if SHARED else {})

LIVE_GAUGES = "gauge_live*_{}.db"


class Number:
    """The number of this process, taken when it is first needed, and again after a fork."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._number = ""
        os.register_at_fork(after_in_child=self._forget)

    def __call__(self) -> str:
        self._number = self._number or self._take()
        return self._number

    def _forget(self) -> None:
        self._number = ""

    def _take(self) -> str:
        for number in map(str, count(1)):
            lock = os.open(self._directory / f"{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if _locked(lock):
                _remove_live_gauges(self._directory, number)
                return number  # the lock stays open, and with that ours
            os.close(lock)
        raise AssertionError


def remove_gauges_of_dead_processes(directory: Path) -> None:
    """Remove what processes left that were killed: no gauge of theirs is true."""
    for path in directory.glob("*.lock"):
        with _opened(path) as lock:
            if _locked(lock):
                _remove_live_gauges(directory, path.stem)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield lock
    finally:
        os.close(lock)


def _remove_live_gauges(directory: Path, number: str) -> None:
    for path in directory.glob(LIVE_GAUGES.format(number)):
        path.unlink(missing_ok=True)


values.ValueClass = values.MutexValue
if SHARED:
    values.ValueClass = values.MultiProcessValue(Number(SHARED))  # type: ignore[no-untyped-call]  # has no types
