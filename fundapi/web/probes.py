"""Probes that many may ask at once: one evaluation answers everybody who waits for it.

Each probe is evaluated in a thread, with a connection of its own: it needs no slot of ``fundapi.web.overload``, because
a server that is busy is not broken, and no number of clients of one probe makes another one wait.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar

from django.db import close_old_connections, connections

from fundapi.web import cutoff, demoted
from fundapi.web.serve import PROBE_WAITERS

PATIENCE = 2.0  # s; a busy process needs one, and an orchestrator's probe waits three (docker-compose.yml)

T = TypeVar("T")


class Probe(Generic[T]):
    """A value that is evaluated once for all callers who wait for it, after each of them has asked.

    Args:
        evaluate: returns the value; may be slow.
        otherwise: the value when the evaluation takes longer than PATIENCE.
        thread: has one thread; probes that share it are evaluated one after another.
    """

    def __init__(self, evaluate: Callable[[], T], *, otherwise: T, thread: Executor) -> None:
        self._evaluate, self._otherwise, self._thread = evaluate, otherwise, thread
        self._lock = threading.Lock()
        self._next: Future[T] | None = None  # has not begun: whoever asks now may wait for it
        self._latest: T | None = None
        self._waiting = 0

    def __call__(self) -> T:
        """Return the value. When PROBE_WAITERS wait already, return the latest one, which is PATIENCE old at most."""
        with self._lock:
            if self._waiting >= PROBE_WAITERS and self._latest is not None:
                return self._latest
            self._waiting += 1
            if self._next is None:
                self._next = self._thread.submit(self._run)
            turn = self._next
        try:
            return turn.result(PATIENCE)
        except TimeoutError:
            self._latest = self._otherwise
            return self._otherwise
        finally:
            with self._lock:
                self._waiting -= 1

    def _run(self) -> T:
        with self._lock:
            self._next = None
        close_old_connections()  # as Django does at the start of each request
        cutoff.watch(connections.all())
        self._latest = value = self._evaluate()
        demoted.leave(connections.all(initialized_only=True))
        return value
