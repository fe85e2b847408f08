"""The process manager of `make run`: a few programs, restarted when they die, all gone when it is.

Not supervisor, which restarts everything on SIGHUP (a closed terminal), gives up on a program that failed a
few times, and leaves all of them running when it is killed itself.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from fundapi.embedded.home import PROJECT
from fundapi.embedded.processes import dying_with_parent, signal_all

MARK = "FUNDAPI_SERVED_FROM"  # in the environment of our programs: their home, by which leftovers are known
STOP_GRACE = 30  # s for requests and tasks to end
ORPHAN_GRACE = 20  # s for what a killed program leaves to end by itself, its requests included
REMINDER = 1.0  # s between requests to stop; Granian's workers swallow one that comes while they start
BACK_OFF_MAX = 30.0  # s between restarts of a program that keeps dying
STEADY = 10.0  # s of life after which a death counts as the first one


@dataclass
class Program:
    """A command to keep running. `remind`: ask its children too, again and again, when it has to stop."""

    name: str
    command: Sequence[str]
    remind: bool = False
    process: subprocess.Popen[bytes] | None = None
    started: float = 0
    failures: int = 0
    restart_at: float = 0


class Manager:
    """Runs programs; they inherit `pass_fds`: the lock that keeps the embedded services up until they are
    gone.
    """

    def __init__(
        self, home: Path, programs: Sequence[Program], *, env: Mapping[str, str], pass_fds: Sequence[int]
    ) -> None:
        self.programs = programs
        self.env = {**env, MARK: str(home)}
        self.pass_fds = pass_fds
        self.orphans: dict[int, float] = {}  # process groups whose leader died: when to kill the rest
        self.reminded = 0.0

    def look_after(self) -> None:
        """Start what does not run. Call it often."""
        now = time.monotonic()
        for program in self.programs:
            if program.process is not None and program.process.poll() is not None:
                self._bury(program, program.process, now)
            if program.process is None and now >= program.restart_at:
                program.started = now
                program.process = self.popen(program.command)
        for group, deadline in list(self.orphans.items()):
            if now > deadline or not _signal_group(group, 0):
                _signal_group(group, signal.SIGKILL)
                del self.orphans[group]
        self._remind(self.orphans, now)

    def stop(self, impatient: Callable[[], bool]) -> None:
        """Ask all to end, wait until they have, no longer than `impatient` lets us, and kill what is left."""
        alive = [program.process for program in self.programs if program.process is not None]
        for process in alive:
            process.terminate()
        asked_again = [
            *self.orphans,
            *(each.process.pid for each in self.programs if each.remind and each.process),
        ]
        self.reminded = time.monotonic()
        deadline = time.monotonic() + STOP_GRACE
        while any(process.poll() is None for process in alive):
            if time.monotonic() > deadline or impatient():
                say("killing what has not stopped")
                break
            self._remind(asked_again, time.monotonic())
            time.sleep(0.02)
        for group in [*self.orphans, *(process.pid for process in alive)]:
            _signal_group(group, signal.SIGKILL)
        for process in alive:
            process.wait()

    def popen(self, command: Sequence[str], *, stdout: int | None = None) -> subprocess.Popen[bytes]:
        """A child in a session of its own (a terminal's Ctrl-C is for us alone) that ends when we die."""
        return subprocess.Popen(
            command,
            cwd=PROJECT,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            pass_fds=self.pass_fds,
            start_new_session=True,
            preexec_fn=dying_with_parent(signal.SIGTERM),  # noqa: PLW1509 - one thread: safe after fork
        )

    def _remind(self, groups: Iterable[int], now: float) -> None:
        if now - self.reminded > REMINDER:
            self.reminded = now
            for group in groups:
                _signal_group(group, signal.SIGTERM)

    def _bury(self, program: Program, process: subprocess.Popen[bytes], now: float) -> None:
        program.failures = 1 if now - program.started > STEADY else program.failures + 1
        pause = 0 if program.failures == 1 else min(BACK_OFF_MAX, 0.25 * 2**program.failures)
        say(f"{program.name} ended with status {process.returncode}; starting it again in {pause:g} s")
        if _signal_group(process.pid, signal.SIGTERM):
            self.orphans[process.pid] = now + ORPHAN_GRACE
        program.process, program.restart_at = None, now + pause


def stop_leftovers(home: Path) -> None:
    """Stop the programs of a manager of `home` that was killed. Call it only when no other manager can be
    alive.
    """
    left = []
    for process in psutil.process_iter(["uids"]):
        try:
            if process.info["uids"].real == os.getuid() and process.environ().get(MARK) == str(home):
                left.append(process)
        except psutil.Error:
            continue
    for sig, patience in ((signal.SIGTERM, ORPHAN_GRACE), (signal.SIGKILL, 5)):
        left = signal_all(left, sig, wait=patience)


def say(text: str) -> None:
    print(f"make run: {text}", file=sys.stderr, flush=True)


def _signal_group(group: int, sig: int) -> bool:
    """Whether there was anybody in the process group to signal."""
    try:
        os.killpg(group, sig)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
        return False
    return True
