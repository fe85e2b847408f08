"""PostgreSQL on a disk that is small enough to be filled up: a tmpfs, which root may mount."""

import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from chaos.stack import Stack
from fundapi.embedded.reach import temporary_directory

SIZE = "300m"  # of which a new PostgreSQL takes 60 MB, and its log 80 MB at most
FULL, EMPTY = 4.0, 4.0  # s


class NotRoot(Exception):
    """Nobody else may mount a disk."""


@contextmanager
def small_disk() -> Iterator[Path]:
    """A directory with room for ``SIZE``. Raises NotRoot."""
    with temporary_directory("fundapi-disk-") as directory:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=711", "tmpfs", str(directory)],
            check=False,
            capture_output=True,
            text=True,
        )
        if mounted.returncode != 0:
            raise NotRoot(mounted.stderr.strip())
        try:
            yield directory
        finally:
            subprocess.run(["umount", "--lazy", str(directory)], check=True)


def disk_full(stack: Stack, _random: random.Random) -> Iterator[float]:
    """Leave PostgreSQL no room, make room again, and start it if it has given up: it does without room for a log."""
    ballast = stack.postgres.home.path / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(8192))
    yield FULL
    ballast.unlink()
    if not stack.postgres.running():
        stack.postgres.start()
    yield EMPTY
