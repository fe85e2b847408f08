"""Write numbers into a table of one server as fast as it takes them, and note each that it acknowledged.

    python -m chaos.cluster.writer URL FILE

A COMMIT with a warning is no acknowledgement: PostgreSQL gave up waiting for a standby.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import psycopg

PAUSE = 0.1  # s between two rows


def main(url: str, acknowledged: Path) -> None:
    numbers = count(1)
    with acknowledged.open("w", buffering=1) as notes:
        while True:
            with suppress(psycopg.Error):
                _write(url, numbers, notes.write)
            time.sleep(PAUSE)


def _write(url: str, numbers: Iterator[int], note: Callable[[str], object]) -> None:
    warnings: list[str] = []
    with psycopg.connect(url, autocommit=True, connect_timeout=2) as connection:
        connection.add_notice_handler(lambda notice: warnings.append(notice.severity or ""))
        while not warnings:
            number = next(numbers)
            connection.execute("INSERT INTO probe VALUES (%s)", [number])
            if not warnings:
                note(f"{number}\n")
            time.sleep(PAUSE)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
