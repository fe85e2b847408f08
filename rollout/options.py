"""Shared by the commands: readers of numbers for options, the width of tables, failed stops and outputs.

A reader goes into ``add_argument(type=...)``: what is not a number of its range, ``nan`` included, is refused in one
sentence before the command does anything.
"""

import os
from argparse import ArgumentTypeError
from collections.abc import Callable
from contextlib import suppress

WIDTH = 140  # characters, without a terminal
ID_MAX = 2**31 - 1  # of the database's integers
NOT_STOPPED = (
    "NOT STOPPED: {} Run it again. Until it goes through, ask people (chat, mail, a notice on the site) to open the "
    "page with ?emergency_rollback=true, which takes their browser out of it."
)
MINUTES_MAX = 31 * 24 * 60  # a month; nobody watches a command for longer


def number(low: float, high: float) -> Callable[[str], float]:
    """Return a reader of numbers in a range."""

    def read(text: str) -> float:
        with suppress(ValueError):
            if low <= float(text) <= high:
                return float(text)
        raise ArgumentTypeError(f"{text!r} is not a number from {low:.3g} to {high:,}")

    return read


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return a reader of whole numbers in a range."""

    def read(text: str) -> int:
        with suppress(ValueError):
            if low <= int(text) <= high:
                return int(text)
        raise ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high:,}")

    return read


def discard(descriptor: int) -> None:
    """Discard what could not be written: Python would try again at its end, and change the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
