"""Helpers for the tests of a project that uses the app. They work inside a ``TestCase`` and outside."""

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from django.http import HttpResponseBase

from idempotency import keys, store
from idempotency.conf import conf
from idempotency.models import IdempotencyKey


def new_key() -> str:
    """Return a key that nobody has used."""
    return uuid.uuid4().hex


def assert_idempotent(send: Callable[[str], Any]) -> Any:
    """Send a request twice with one key, and return the first answer.

    ``send`` takes the key: ``lambda key: client.post("/orders", order, headers={"Idempotency-Key": key})``.

    Raises:
        AssertionError: the first answer was not stored, or the second one is not its replay.
    """
    key = new_key()
    first, second = _whole(send(key)), _whole(send(key))
    for name, answer, expected in (("first", first, "created"), ("second", second, "replayed")):
        if (status := answer.headers.get("Idempotency-Status")) != expected:
            raise AssertionError(
                f"The {name} answer has the status {answer.status_code} and Idempotency-Status {status!r} instead of "
                f"{expected!r}."
            )
    if first.content != second.content:
        raise AssertionError("The second answer has other content than the first.")
    return first


def _whole(answer: HttpResponseBase) -> Any:
    if answer.streaming:
        raise AssertionError("The answer is streamed, and cannot be stored.")
    return answer


def in_progress(operation: str, key: str, *, principal: str) -> AbstractContextManager[None]:
    """Hold a key as another request would that still runs: with it, a client gets 409, or waits.

    Args:
        principal: as the admission names it, such as ``str(user.pk)``; with ``IDEMPOTENCY_SCOPE_BY_HOST`` behind the
            host, ``f"shop.example/{user.pk}"``.
    """
    digest = keys.digest(environment=conf.environment, operation=operation, principal=principal, token=key)
    return store.held_elsewhere(digest)


def forget_keys(**conditions: str) -> int:
    """Delete the stored keys of an ``operation``, ``principal`` or ``token``, or all; return how many."""
    deleted, _ = IdempotencyKey.objects.using(conf.database).filter(**conditions).delete()
    return deleted
