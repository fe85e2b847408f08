"""The promise of the marks for code that is no view: a webhook, a Celery task."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any
from uuid import UUID

from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction

from idempotency import keys, metrics, store
from idempotency.conf import conf, require_app
from idempotency.marks import is_life
from idempotency.problems import RequestInProgress
from idempotency.replays import replays

NO_FINGERPRINT = UUID(int=0)  # whoever has the key means the same work
USAGE = "once() guards what asks it inside of a block, each time: with once(...) as work: if work: ..."
# Digests of the blocks that this thread is in: PostgreSQL gives a session a lock that it holds already once more.
_open: ContextVar[frozenset[UUID]] = ContextVar("idempotency_open", default=frozenset())


@dataclass(slots=True)
class Work:
    """Work that is done once. True the first time; ``result`` is what the first time left there, as JSON."""

    _is_first: bool
    result: Any = None
    _asked: bool = False

    def __bool__(self) -> bool:
        self._asked = True
        return self._is_first

    def require_asked(self) -> None:
        """Raise TypeError for a block that never asked: it would do its work each time."""
        if not self._asked:
            raise TypeError(USAGE)


class Once(AbstractContextManager[Work]):
    """The block of :func:`once`. As a decorator, or without ``with``, it would guard nothing, and raises."""

    def __init__(self, block: AbstractContextManager[Work]) -> None:
        self._block = block

    def __enter__(self) -> Work:
        return self._block.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return self._block.__exit__(kind, error, traceback)

    def __bool__(self) -> bool:
        raise TypeError(USAGE)

    def __call__(self, *_: Any) -> Any:
        raise TypeError(USAGE)


def once(
    operation: str, key: str, principal: str = "", *, ttl: timedelta | None = None, wait: int = 0
) -> Once:
    """Do work at most once for each key: ``with once("webhook", event_id) as work: if work: ...``.

    The block is one transaction on ``IDEMPOTENCY_DATABASE``. An exception rolls it back, and leaves the key unused.

    Args:
        key: any text of 1 to 255 characters, such as the id of an event.
        principal: whose key it is, where two senders may use the same one.
        ttl: how long the work is remembered, in place of ``IDEMPOTENCY_TTL``.
        wait: s to wait for the same work to end elsewhere.

    Raises:
        TypeError: the block did not ask ``if work``, so it would work each time. It is rolled back the first time.
        RequestInProgress: the same work runs elsewhere. Try again later: Celery's ``autoretry_for`` does.
        RuntimeError: the code is inside of a block for the same work, which would have to wait for itself.
        ValueError: the key is empty, too long, or has a null character; or another argument is wrong.
    """
    require_app()
    _refuse_wrong_arguments(operation, key, principal, ttl, wait)
    return Once(_once(operation, key, principal, ttl, wait))


@contextmanager
def _once(operation: str, key: str, principal: str, ttl: timedelta | None, wait: int) -> Iterator[Work]:
    outcome = "failed"
    try:
        digest = keys.digest(
            environment=conf.environment, operation=operation, principal=principal, token=key
        )
        if digest in _open.get():
            raise RuntimeError(
                f"once({operation!r}) is inside of a block with the same operation, key and principal: give the inner "
                "work another operation."
            )
        stored = store.find(digest)
        if stored is None:
            with transaction.atomic(using=conf.database):
                stored = _claim(digest, wait)
                if stored is None:
                    work = Work(_is_first=True)
                    with _opened(digest):
                        yield work
                    work.require_asked()
                    _save(digest, work, operation=operation, principal=principal, token=key, ttl=ttl)
        if stored is not None:
            outcome = "replayed"
            replays.count(digest)
            work = Work(_is_first=False, result=json.loads(stored.body))
            yield work
            work.require_asked()
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


@contextmanager
def _opened(digest: UUID) -> Iterator[None]:
    before = _open.get()
    _open.set(before | {digest})
    try:
        yield
    finally:
        # Not by a token: an async caller may leave in another context.
        _open.set(before)


def _refuse_wrong_arguments(
    operation: object, key: object, principal: object, ttl: object, wait: object
) -> None:
    """Refuse what the database would refuse in its own words, or read as something else."""
    if not isinstance(operation, str) or not keys.TOKEN.fullmatch(operation):
        raise ValueError(f"The operation is {operation!r}, and should be 1 to 255 of A-Z a-z 0-9 _ . : ~ -")
    if not _is_text(key) or key == "":
        raise ValueError(f"A key must have 1 to {keys.TOKEN_LENGTH_MAX} characters, none of them U+0000.")
    if not _is_text(principal):
        raise ValueError(
            f"A principal must have at most {keys.TOKEN_LENGTH_MAX} characters, none of them U+0000."
        )
    if not is_life(ttl):
        raise ValueError(
            f"The ttl is {ttl!r}, and should be a timedelta greater than 0 and at most 100 years."
        )
    longest = conf.statement_timeout.total_seconds()
    if isinstance(wait, bool) or not isinstance(wait, int) or not 0 <= wait < longest:
        raise ValueError(f"The wait is {wait!r}, and should be whole seconds from 0, less than {longest:g}.")


def _is_text(value: object) -> bool:
    if not isinstance(value, str) or len(value) > keys.TOKEN_LENGTH_MAX or "\0" in value:
        return False
    # Half of a surrogate pair has no bytes.
    return value.encode(errors="ignore").decode() == value


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
