"""Seconds of CPU that a program has used: its processes, and those that have ended."""

from contextlib import suppress

import psutil


def used(pid: int) -> float:
    """Return the seconds of CPU of a process, its children, theirs, and the ended ones that were waited for."""
    program = psutil.Process(pid)
    seconds = 0.0
    for process in (program, *program.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # ended meanwhile: its parent has its seconds now
            seconds += sum(process.cpu_times()[:4])  # of its own and of ended children, user and system
    return seconds
