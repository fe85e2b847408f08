"""A deadline for a whole request: no socket's time-out bounds a body that comes in drops."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def call_within(seconds: float, call: Callable[[], T]) -> T:
    """Run a call in a thread of its own, and wait so long for it.

    Raises:
        TimeoutError: it goes on, and its result is lost.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
            future.set_exception(error)

    Thread(target=run, name="request", daemon=True).start()
    return future.result(seconds)
