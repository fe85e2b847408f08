"""CPU affinity of a web process: its threads share one core, which no other web process has.

CPython runs one thread of Python at a time. On several cores, whenever the running thread gives the interpreter's lock
away for a system call, the kernel starts a waiting one on another core, which finds the lock taken again and sleeps: a
replay with eight connections took 29 switches of threads and 1.15 ms of CPU. On one core it takes 7 and 0.80 ms.

A process moves when others keep its core busier than a free one. On a full machine each core still has its own
processes, where the kernel would let all take turns on all cores. ``WEB_CPU_AFFINITY=off`` is for machines that others
may fill, such as nodes of Kubernetes, and for cores of unequal speed.

The price: a password is hashed without the interpreter's lock, and no longer on a core that is free. One process on two
cores, with two clients that sign in without a pause: 4 sign-ins a second instead of 7, and a request beside them takes
3 to 6 ms instead of 2 (one in a hundred 11 ms, with and without).
"""

import errno
import os
import random
import socket
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import structlog

logger = structlog.get_logger(__name__)
INTERVAL = 1.0  # s between two looks
MARGIN = 0.25  # of a core: so much quieter is worth a move
# The address of a Unix socket that is no file: the kernel gives it to one process, and takes it back when that ends.
# A container with a network of its own has addresses of its own, too.
CLAIM = "\0fundapi/core/{}"
STAT, TASKS = Path("/proc/stat"), Path("/proc/self/task")
# Such as 3,7: one core that counts as two.
SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
TICKS = os.sysconf("SC_CLK_TCK")  # of a second, in /proc/stat


class Usage(NamedTuple):
    """The seconds of CPU that each core has been busy with anything, and that this process has used."""

    when: float
    busy: Mapping[int, float]
    own: float


class Affinity:
    """The core of this process, or None while others have all.

    A choice that somebody else makes while it runs (``taskset``) is left alone.
    """

    def __init__(self) -> None:
        self.core: int | None = None
        self._claim: socket.socket | None = None
        self._allowed = self._set = os.sched_getaffinity(0)
        self._last = usage()
        self._take(self._allowed)

    def look(self) -> None:
        """Move to a quieter core if there is one; at most once in ``INTERVAL``."""
        with suppress(OSError):  # no descriptor is free, say: it stays where it is until the next look
            self._look()

    def _look(self) -> None:
        if time.monotonic() - self._last.when < INTERVAL:
            return
        last, self._last = self._last, usage()
        if os.sched_getaffinity(os.getpid()) != self._set:
            if self._claim:
                self._claim.close()
        elif self.core is None:
            self._take(self._allowed)
        elif random.random() < 0.5:  # noqa: S311 - no secret; processes of two containers would move together for ever
            self._take(quieter(others(last, self._last, self.core, self._allowed), self.core))

    def _take(self, cores: Collection[int]) -> None:
        """Keep all threads on one of these cores that nobody has; threads that they start inherit that."""
        # By chance, because containers know nothing of each other's claims.
        for core in sorted(random.sample(sorted(cores), len(cores)), key=is_second):
            if claim := claimed(core):
                try:
                    os.sched_setaffinity(os.getpid(), {core})
                except OSError as error:
                    claim.close()
                    if error.errno != errno.EINVAL:  # it is offline, or the container has lost it
                        raise
                    continue
                if self._claim:
                    self._claim.close()
                self.core, self._claim, self._set = core, claim, {core}
                break
        if self.core is None:
            return
        with suppress(OSError):  # not to be listed now: the next time
            for task in TASKS.iterdir():
                with suppress(OSError):  # it has ended
                    os.sched_setaffinity(int(task.name), self._set)


def start() -> Affinity | None:
    """Give this process a core; return None, for good, where the machine forbids something of that, as sandboxes do."""
    try:
        return Affinity()
    except (OSError, ValueError) as error:
        logger.warning("cpu_affinity_unavailable", reason=f"{type(error).__name__}: {error}")
        return None


def claimed(core: int) -> socket.socket | None:
    """Return what holds a core for this process until it is closed; None when another process has it."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(CLAIM.format(core))
    except OSError as error:
        claim.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    return claim


@cache
def is_second(core: int) -> bool:
    """Return whether a core is the second thread of one that has two, and should be taken last."""
    try:
        return not Path(SIBLINGS.format(core)).read_text().startswith((f"{core},", f"{core}-", f"{core}\n"))
    except OSError:
        return False


def quieter(shares: Mapping[int, float], core: int) -> list[int]:
    """Return the cores that are worth a move, by the share of each that other programs use. Pure."""
    return [other for other, share in shares.items() if share < shares.get(core, 0) - MARGIN]


def others(last: Usage, now: Usage, core: int, allowed: Iterable[int]) -> dict[int, float]:
    """Return the share of each core that other programs have used while this one was on ``core``. Pure."""
    seconds = now.when - last.when
    known = last.busy.keys() & now.busy.keys()  # a core that is taken offline is no longer there
    shares = {each: (now.busy[each] - last.busy[each]) / seconds for each in known.intersection(allowed)}
    if core in shares:
        shares[core] -= (now.own - last.own) / seconds
    return shares


def usage() -> Usage:
    return Usage(time.monotonic(), busy(STAT.read_text().splitlines()), time.process_time())


def busy(lines: Iterable[str]) -> dict[int, float]:
    """Return the seconds that each core has been busy, from the lines of ``/proc/stat`` (proc_stat(5)). Pure."""
    seconds = {}
    for name, *figures in map(str.split, lines):
        if name.startswith("cpu") and name != "cpu":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, figures[:8])
            seconds[int(name[3:])] = (user + nice + system + irq + softirq + steal) / TICKS
    return seconds
