"""A thread without an event loop: Playwright keeps its own running in a worker's main thread."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connections

T = TypeVar("T")


def in_a_thread(work: Callable[[], T]) -> T:
    """Return what ``work`` returns in a thread of its own, with database connections of its own."""

    def run() -> T:
        try:
            return work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()
