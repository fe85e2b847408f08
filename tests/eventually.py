"""Waiting for what happens soon, but not at once."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(look: Callable[[], T], good: Callable[[T], object] = bool, timeout: float = 60) -> T:
    """Call ``look`` until its result is ``good``, and return the result; fail after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not good(seen := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"still {seen!r} after {timeout} s")
        time.sleep(0.02)
    return seen
