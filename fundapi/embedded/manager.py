"""The process manager of `make run`: restarts its programs when they die, and takes them along when it ends.

supervisor will not do: it restarts everything on SIGHUP (a closed terminal), gives up on a program that failed a
few times, and leaves all programs running when it is killed itself.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from fundapi.embedded.home import PROJECT
from fundapi.embedded.processes import dying_with_parent, signal_all

MARK = "FUNDAPI_SERVED_FROM"  # names the home in our programs' environment; leftovers are found by it
STOP_GRACE = 30  # s for requests and tasks to end
ORPHAN_GRACE = 20  # s for the children of a killed program to finish their requests and end
REMINDER = 1.0  # s between signals to stop; Granian's workers lose one that comes while they start
BACK_OFF_MAX = 30.0  # s between restarts of a program that keeps dying
STEADY = 10.0  # s of life after which a death counts as the first one


@dataclass
class Program:
    """A command to keep running. `remind`: to stop it, signal its children too, until they end."""

    name: str
    command: Sequence[str]
    remind: bool = False
    process: subprocess.Popen[bytes] | None = None
    started: float = 0
    failures: int = 0
    restart_at: float = 0


class Manager:
    """Run programs. They inherit `pass_fds`: the lock that keeps the embedded services running until they end."""

    def __init__(
        self, home: Path, programs: Sequence[Program], *, env: Mapping[str, str], pass_fds: Sequence[int]
    ) -> None:
        self.programs = programs
        self.env = {**env, MARK: str(home)}
        self.pass_fds = pass_fds
        # Process groups whose leader died, with the time to kill the rest.
        self.orphans: dict[int, float] = {}
        self.reminded = 0.0
        self.say: Callable[[str], None] = say

    def look_after(self) -> None:
        """Start every program that does not run. Call it often."""
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

    def stop(self, hurry: Callable[[], bool]) -> None:
        """Ask all programs to end, and kill those that have not after STOP_GRACE or when `hurry` returns true."""
        alive = [program.process for program in self.programs if program.process is not None]
        for process in alive:
            process.terminate()
        reminded = [
            *self.orphans,
            *(each.process.pid for each in self.programs if each.remind and each.process),
        ]
        self.reminded = time.monotonic()
        deadline = time.monotonic() + STOP_GRACE
        while any(process.poll() is None for process in alive):
            if time.monotonic() > deadline or hurry():
                self.say("killing the programs that have not stopped")
                break
            self._remind(reminded, time.monotonic())
            time.sleep(0.02)
        for group in [*self.orphans, *(process.pid for process in alive)]:
            _signal_group(group, signal.SIGKILL)
        for process in alive:
            process.wait()

    def popen(self, command: Sequence[str], *, stdout: int | None = None) -> subprocess.Popen[bytes]:
        """Start a child that ends when we die, in its own session: a terminal's Ctrl-C must not reach it."""
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
        self.say(f"{program.name} ended with status {process.returncode}; starting it again in {pause:g} s")
        if _signal_group(process.pid, signal.SIGTERM):
            self.orphans[process.pid] = now + ORPHAN_GRACE
        program.process, program.restart_at = None, now + pause


def served_homes() -> set[str]:
    """Return the homes that this user's `make run` serves now."""
    homes = set()
    for process in psutil.process_iter(["uids"]):
        with suppress(psutil.Error):
            if process.info["uids"].real == os.getuid():
                homes.add(process.environ().get(MARK, ""))
    return homes - {""}


def stop_leftovers(home: Path) -> None:
    """Stop the programs of a killed manager of `home`. Call it only when no other manager can be alive."""
    left = []
    for process in psutil.process_iter(["uids"]):
        try:
            if process.info["uids"].real == os.getuid() and process.environ().get(MARK) == str(home):
                left.append(process)
        except psutil.Error:
            continue
    for sig, timeout in ((signal.SIGTERM, ORPHAN_GRACE), (signal.SIGKILL, 5)):
        left = signal_all(left, sig, wait=timeout)


def say(text: str) -> None:
    print(f"make run: {text}", file=sys.stderr, flush=True)


def _signal_group(group: int, sig: int) -> bool:
    """Signal a process group; return whether it had a process."""
    try:
        os.killpg(group, sig)
    except (ProcessLookupError, PermissionError):  # macOS raises the latter for a group of zombies
        return False
    return True
