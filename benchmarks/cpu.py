"""Seconds of CPU that a program has used: its processes, and those that have ended."""

import time
from contextlib import suppress

import psutil

CPUCLOCK_SCHED = 2  # Linux's clock of the CPU time of a whole process, in nanoseconds


def used(pid: int) -> float:
    """Return the seconds of CPU of a process, its children, theirs, and the ended ones that were waited for."""
    program = psutil.Process(pid)
    seconds = 0.0
    for process in (program, *program.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # ended meanwhile: its parent has its seconds now
            seconds += sum(process.cpu_times()[:4])  # of its own and of ended children, user and system
    return seconds


def used_alone(pid: int) -> float:
    """Return the seconds of CPU, user and system, of one running process: exact, where ``used`` counts in 10 ms."""
    with suppress(OSError):  # another system's clocks have other numbers
        return time.clock_gettime(~pid << 3 | CPUCLOCK_SCHED)
    return float(sum(psutil.Process(pid).cpu_times()[:2]))
