"""A watchdog beside each Celery process, which kills it when it hangs; whatever runs it then starts it anew.

    alive(60)  # "expect the next sign of life within 60 s"

A stopped process (SIGSTOP), or one that waits for ever for a broker, cannot end itself, and Docker restarts only what
has ended. So a small process of its own listens at a pipe. It also kills children of the process that stay stopped: a
frozen process of Celery's pool would never take the task that it was given. It runs this file alone, without Django.
Under systemd, the same signs of life feed ``WatchdogSec``.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

LOOK = 1  # s between two looks

# By process, because a fork needs a watchdog of its own: the watchdog, and the end of the pipe to write to.
_watchdogs: dict[int, tuple["subprocess.Popen[bytes]", int]] = {}


def alive(seconds: int, patience: int = 1) -> None:
    """Give a sign of life, and say that the next one comes within so many seconds; 0: the watchdog is off.

    With ``patience`` it may take so many times as long, but a process may not stay stopped for longer than usual.
    """
    if seconds:
        _notify_systemd()
        _tell(seconds, patience)


def _tell(seconds: int, patience: int) -> None:
    watchdog, signs = _watchdogs.get(os.getpid()) or _start(seconds)
    if watchdog.poll() is not None or is_stopped(watchdog.pid):
        watchdog.kill()
        os.close(signs)
        watchdog, signs = _start(seconds)
    with contextlib.suppress(OSError):  # it has just ended, or is frozen itself: the next sign comes soon
        os.write(signs, b"%d\n" % (seconds * patience))


def _start(seconds: int) -> tuple["subprocess.Popen[bytes]", int]:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    command = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(seconds)]
    # In the group of the process: whoever kills that kills this, too, also where it is stopped itself.
    started = subprocess.Popen(command, stdin=reading), writing
    os.close(reading)
    _watchdogs[os.getpid()] = started
    return started


def _notify_systemd() -> None:
    """Tell systemd that the process is ready and alive (sd_notify(3)), if it asked for that."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"READY=1\nWATCHDOG=1", address.replace("@", "\0", 1))


# --- The process beside it ------------------------------------------------------------------------------------------


def watch(watched: int, seconds: int, signs: int) -> None:
    """Kill a process that gives no sign of life in time, or stays stopped, as its children; return when it has ended.

    The time is counted in own looks: of a machine that slept, the watchdog slept too.
    """
    allowed, silent = seconds, 0
    stopped: dict[int, int] = {}
    while os.getppid() == watched:
        time.sleep(LOOK)
        silent += LOOK
        if select.select([signs], [], [], 0)[0]:
            text = os.read(signs, 65536)
            if not text:
                return
            allowed, silent = int(text.split()[-1]), 0
        family = [watched, *_children(watched)]
        stopped = {each: stopped.get(each, 0) + LOOK for each in family if is_stopped(each)}
        for each, time_stopped in stopped.items():
            if time_stopped > seconds:
                _kill(each, "process_stopped", time_stopped)
        if silent > allowed:
            _kill(watched, "process_hung", silent)


def _kill(process: int, event: str, seconds: int) -> None:
    line = {
        "event": event,
        "level": "critical",
        "logger": "fundapi.watchdog",
        "pid": process,
        "seconds": seconds,
    }
    sys.stderr.write(f"{json.dumps(line)}\n")
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def _children(process: int) -> Iterator[int]:
    with contextlib.suppress(OSError):  # not Linux, or it has just ended
        yield from map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())


def is_stopped(process: int) -> bool:
    """Return whether a process is stopped by a signal; False where there is no /proc (macOS)."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


if __name__ == "__main__":
    # A terminal's Ctrl-C must not end it before the process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watch(int(sys.argv[1]), int(sys.argv[2]), sys.stdin.fileno())
