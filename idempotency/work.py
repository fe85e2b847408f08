"""The promise of the marks for code that is no view: a webhook, a Celery task."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction

from idempotency import keys, metrics, store
from idempotency.conf import conf
from idempotency.problems import RequestInProgress

NO_FINGERPRINT = UUID(int=0)  # whoever has the key means the same work


@dataclass(slots=True)
class Work:
    """Work that is done once. True the first time; ``result`` is what the first time left there, as JSON."""

    first: bool
    result: Any = None

    def __bool__(self) -> bool:
        return self.first


@contextmanager
def once(
    operation: str, key: str, principal: str = "", *, ttl: timedelta | None = None, wait: int = 0
) -> Iterator[Work]:
    """Do work at most once for each key: ``with once("webhook", event_id) as work: if work: ...``.

    The block is one transaction on ``IDEMPOTENCY_DATABASE``. An exception rolls it back, and leaves the key unused.

    Args:
        key: any text of 1 to 255 characters, such as the id of an event.
        principal: whose key it is, where two senders may use the same one.
        ttl: how long the work is remembered, in place of ``IDEMPOTENCY_TTL``.
        wait: s to wait for the same work to end elsewhere.

    Raises:
        RequestInProgress: the same work runs elsewhere. Try again later: Celery's ``autoretry_for`` does.
        ValueError: the key is empty, too long, or has a null character.
    """
    if not 1 <= len(key) <= keys.TOKEN_LENGTH_MAX or "\0" in key:
        raise ValueError(f"A key must have 1 to {keys.TOKEN_LENGTH_MAX} characters, none of them U+0000.")
    outcome = "failed"
    try:
        digest = keys.digest(
            environment=conf.environment, operation=operation, principal=principal, token=key
        )
        stored = store.find(digest)
        if stored is None:
            with transaction.atomic(using=conf.database):
                stored = _claim(digest, wait)
                if stored is None:
                    work = Work(first=True)
                    yield work
                    _save(digest, work, operation=operation, principal=principal, token=key, ttl=ttl)
        if stored is not None:
            outcome = "replayed"
            yield Work(first=False, result=json.loads(stored.body))
            return
        outcome = "created"
    except store.AlreadyStored:
        outcome = "in_progress"
        raise RequestInProgress from None
    except RequestInProgress:
        outcome = "in_progress"
        raise
    finally:
        metrics.observe(operation, outcome)


def _claim(digest: UUID, wait: int) -> store.StoredResponse | None:
    try:
        return store.claim(digest)
    except RequestInProgress:
        if not wait:
            raise
        return store.claim(digest, wait=wait)


def _save(
    digest: UUID, work: Work, *, operation: str, principal: str, token: str, ttl: timedelta | None
) -> None:
    body = json.dumps(work.result, cls=DjangoJSONEncoder).encode()
    answer = store.StoredResponse(NO_FINGERPRINT, 200, {"Content-Type": "application/json"}, body)
    store.save(digest, answer, operation=operation, principal=principal, token=token, ttl=ttl)
