"""Run pip, and show how far it is: one moving line at a terminal, and elsewhere a line every ten seconds.

    python requirements/progress.py MEGABYTES python -m pip install ... -r requirements/run.txt

By itself, pip says nothing for minutes, or three lines for each package. MEGABYTES is about what it downloads.
This runs before anything is installed, so it needs the standard library alone.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

TERMINAL = sys.stderr.isatty()
PAUSE = 0.2 if TERMINAL else 10.0  # s between lines
MEND = "pip says why above; without a network, it finds no distribution. "
UNPACKING = "unpacking"
ESTIMATED_FROM = 2.0  # MB: before that, a speed says little
INTERRUPTED = 130  # exit status, as a shell has it
AGAIN = "Run the same command again: pip keeps what it has downloaded."
NAMED = re.compile(r"(?:Collecting|Processing|Requirement already satisfied:) (?:/\S*/)?([^\s;]+)")


class Progress:
    """Packages and bytes so far. pip names each package, and downloads into `directory`."""

    def __init__(self, packages: int, megabytes: str, directory: Path) -> None:
        self.packages, self.megabytes, self.directory = packages, megabytes, directory
        self.named, self.size, self.doing = 0, 0.0, "asking for the packages"
        self.start = time.monotonic()

    def follow(self, line: str) -> None:
        """Note a line that pip writes to stdout."""
        if found := NAMED.match(line):
            self.named, self.doing = self.named + 1, found[1]
        elif line.startswith("Ignoring "):  # a package for other systems
            self.packages -= 1
        elif line.startswith("Installing collected packages"):
            self.doing = UNPACKING

    def __str__(self) -> str:
        with suppress(FileNotFoundError):  # pip may remove a file meanwhile, and removes them all in the end
            files = self.directory.rglob("*.whl")
            self.size = max(self.size, sum(file.stat().st_size for file in files) / 1e6)
        return (
            f"  {self.named} of {self.packages} packages, {self.size:.0f} of about {self.megabytes} MB, "
            f"{self.time}{self.left}: {self.doing}"
        )

    @property
    def time(self) -> str:
        return clock(time.monotonic() - self.start)

    @property
    def left(self) -> str:
        """Return the time that is left at the speed so far, or "" before there is one."""
        if self.size < ESTIMATED_FROM or self.doing == UNPACKING:
            return ""
        speed = self.size / (time.monotonic() - self.start)
        return f", about {clock(max(0.0, float(self.megabytes) - self.size) / speed)} left"


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def write(line: str, *, moving: bool = False) -> None:
    """Write a line. The next one replaces it if it is moving."""
    if TERMINAL:
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r\x1b[K{line[:width]}" if moving else f"\r\x1b[K{line}\n")
    else:
        sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def reader(stream: IO[str] | None, read: Callable[[str], None]) -> threading.Thread:
    """Start to hand each line of a stream to `read`."""

    def follow() -> None:
        for line in stream or ():
            read(line.rstrip())

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    return thread


def wait(pip: subprocess.Popen[str], progress: Progress) -> int:
    """Show the progress until pip ends, and return its exit status."""
    while True:
        try:
            return pip.wait(PAUSE)
        except subprocess.TimeoutExpired:
            write(str(progress), moving=True)


def main(megabytes: str, *command: str) -> int:
    packages = len(re.findall(r"^\S+==", Path(command[-1]).read_text(encoding="utf-8"), re.MULTILINE))
    with tempfile.TemporaryDirectory(prefix="pip-") as directory:
        progress = Progress(packages, megabytes, Path(directory))
        write(f"Installing {command[-1]}: about {megabytes} MB to download")
        # Ctrl-C reaches this process alone, which ends pip: by itself, pip might end with a traceback.
        on_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.default_int_handler)  # a closed terminal
        pip = subprocess.Popen(
            command,
            env={**os.environ, "TMPDIR": directory, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
        signal.signal(signal.SIGINT, on_interrupt)
        readers = [reader(pip.stdout, progress.follow), reader(pip.stderr, write)]
        try:
            status = wait(pip, progress)
        except KeyboardInterrupt:
            pip.terminate()
            pip.wait()
            status = INTERRUPTED
        for each in readers:
            each.join()
        if status == 0:
            write(f"{progress.named} packages are installed, after {progress.time}.")
        else:
            write(f"Not installed, after {progress.time}. {'' if status == INTERRUPTED else MEND}{AGAIN}")
        return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
