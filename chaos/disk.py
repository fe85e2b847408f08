"""PostgreSQL on a disk that is small enough to fill: a tmpfs, which only root may mount."""

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
    """Only root may mount a disk."""


@contextmanager
def small_disk() -> Iterator[Path]:
    """Mount a directory with room for ``SIZE``. Raises NotRoot."""
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
    """Fill PostgreSQL's disk, make room again, and restart it if it stopped, as it does without room for its log."""
    ballast = stack.postgres.home.path / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(8192))
    yield FULL
    ballast.unlink()
    if not stack.postgres.running():
        stack.postgres.start()
    yield EMPTY
