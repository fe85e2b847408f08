"""Bound the requests of this process that wait for another one, so that some threads always work."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Waiters:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    @contextmanager
    def slot(self, *, maximum: int) -> Iterator[bool]:
        """Yield ``True`` and hold a slot, or ``False`` at once when ``maximum`` are taken."""
        with self._lock:
            granted = self._count < maximum
            self._count += granted
        try:
            yield granted
        finally:
            with self._lock:
                self._count -= granted
