"""How many requests of this process wait for another one at the same time. Bounded, so that waiting never
takes the last thread from those who could work."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Waiters:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    @contextmanager
    def place(self, *, maximum: int) -> Iterator[bool]:
        """Give ``True`` and hold a place, or ``False`` at once when ``maximum`` are taken."""
        with self._lock:
            granted = self._count < maximum
            self._count += granted
        try:
            yield granted
        finally:
            with self._lock:
                self._count -= granted
