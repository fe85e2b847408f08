"""The life of a guarded request, from its headers to its answer: one key, one effect.

Everything happens in one PostgreSQL transaction: the claim on the key, the view's writes, the stored response.
A crash at any instant leaves all of it or nothing (design: docs/explanation/architecture.md, after Brandur Leach's
"Implementing Stripe-like idempotency keys in Postgres", with a lock instead of recovery points).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from django.core.exceptions import RequestDataTooBig
from django.db import Error, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse

from idempotency import fingerprint as fingerprints
from idempotency import keys, metrics, store
from idempotency.conf import conf
from idempotency.faults import is_unavailable
from idempotency.preferences import wait_seconds
from idempotency.problems import BodyTooLarge, IdempotencyError, KeyReused, RequestInProgress, Unavailable
from idempotency.waiters import Waiters

logger = logging.getLogger(__name__)
waiters = Waiters()

View = Callable[[], HttpResponse]


@dataclass(slots=True)
class Guarded:
    """A guarded request, as views and log lines find it in ``request.idempotency``."""

    operation: str
    principal: str
    token: str | None = None
    # The JSON body, already parsed.
    document: Any = None
    # Seconds of ``Prefer: wait`` that were honoured.
    waited: int = 0
    # One of metrics.OUTCOMES.
    outcome: str = "failed"


def guard(request: HttpRequest, view: View, *, operation: str, principal: str) -> HttpResponse:
    """Answer ``request``: run ``view`` if its key is new, else replay the stored answer or refuse.

    An exception of the view passes through, after everything that the view wrote is rolled back.
    """
    guarded = Guarded(operation, principal)
    request.idempotency = guarded  # type: ignore[attr-defined]
    header = request.headers.get("Idempotency-Key")
    try:
        guarded.token = keys.parse(header, environment=conf.environment, operation=operation)
        response = _answer(request, view, guarded, guarded.token)
    except IdempotencyError as error:
        response = _refuse(error, guarded)
    except Error as error:
        if not is_unavailable(error):
            raise
        logger.warning("The database failed under a guarded request", exc_info=error)
        response = _refuse(Unavailable(), guarded)
    finally:
        metrics.observe(operation, guarded.outcome)
    echo_key(request, response)
    if guarded.waited:
        response.headers["Preference-Applied"] = f"wait={guarded.waited}"
    return response


def echo_key(request: HttpRequest, response: HttpResponseBase) -> None:
    """Repeat the key as the client sent it: that tells our answer from one of something on the way."""
    header = request.headers.get("Idempotency-Key")
    if header is not None and header.isascii() and header.isprintable():
        response.headers["Idempotency-Key"] = header


def _answer(request: HttpRequest, view: View, guarded: Guarded, token: str) -> HttpResponse:
    fingerprint = _fingerprint(request, guarded)
    digest = keys.digest(
        environment=conf.environment, operation=guarded.operation, principal=guarded.principal, token=token
    )
    wait = wait_seconds(request.headers.get("Prefer"), maximum=conf.wait_max)
    answer = _claim_or_first(view, guarded, digest=digest, fingerprint=fingerprint, wait=wait)
    if isinstance(answer, HttpResponse):
        return answer
    if answer.fingerprint != fingerprint:
        _record_conflict(digest)
        raise KeyReused
    return _replay(answer, guarded)


def _claim_or_first(
    view: View, guarded: Guarded, *, digest: UUID, fingerprint: UUID, wait: int
) -> store.StoredResponse | HttpResponse:
    """Return the stored answer of the key, or run the view in the one transaction and return its committed answer."""
    # A retry is answered without a transaction, because a stored answer never changes: a replay takes 0.85 of the time
    # that it takes by the claim. A new key pays for this look-up with some 5 % of a create.
    if stored := store.find(digest):
        return stored
    response = None
    try:
        with transaction.atomic(using=conf.database, durable=True):
            stored = _claim(digest, wait, guarded)
            if stored is not None:
                return stored
            # Before any hook of the view, to tell "COMMIT failed" from "an effect after COMMIT failed".
            transaction.on_commit(partial(setattr, guarded, "outcome", "created"), using=conf.database)
            response = _first(view, guarded, digest, fingerprint)
    except store.AlreadyStored:
        stored = store.find(digest)
        # Stored, and deleted again within this request.
        if stored is None:
            raise RequestInProgress from None
        return stored
    except Exception:
        if response is None or guarded.outcome != "created":
            raise
        logger.exception("An effect after COMMIT failed. What is committed stands, and is the answer")
    return response


def _fingerprint(request: HttpRequest, guarded: Guarded) -> UUID:
    try:
        body = request.body
    except RequestDataTooBig:
        raise BodyTooLarge from None
    document = ...
    if body and fingerprints.is_json(request.META.get("CONTENT_TYPE", "")):
        document = guarded.document = fingerprints.parse_json(body)
    return fingerprints.fingerprint(
        method=request.method or "",
        path=request.path,
        query=request.META.get("QUERY_STRING", ""),
        document=document,
        body=body,
    )


def _claim(digest: UUID, wait: int, guarded: Guarded) -> store.StoredResponse | None:
    try:
        return store.claim(digest)
    except RequestInProgress:
        with waiters.slot(maximum=conf.waiters_max if wait else 0) as granted:
            if not granted:
                raise
            guarded.waited = wait
            return store.claim(digest, wait=wait)


def _first(view: View, guarded: Guarded, digest: UUID, fingerprint: UUID) -> HttpResponse:
    """Run the view inside the claiming transaction; store its answer, or roll everything back."""
    response = view()
    render = getattr(response, "render", None)
    if callable(render):
        response = render()
    if response.status_code >= 400:
        transaction.set_rollback(True, using=conf.database)
        # A view may answer a lost database itself.
        if response.status_code == Unavailable.status:
            guarded.outcome = Unavailable.outcome
        return response
    store.save(
        digest,
        operation=guarded.operation,
        principal=guarded.principal,
        token=guarded.token or "",
        status=response.status_code,
        response=store.StoredResponse(
            fingerprint=fingerprint,
            content_type=response.headers.get("Content-Type", ""),
            location=response.headers.get("Location"),
            etag=response.headers.get("ETag"),
            body=response.content,
        ),
    )
    response.headers["Idempotency-Status"] = "created"
    return response


def _record_conflict(digest: UUID) -> None:
    """Count a conflict on its key, if the database takes writes: the 409 is right either way."""
    try:
        store.record_conflict(digest)
    except Error as error:
        if not is_unavailable(error):
            raise
        logger.warning("A conflict was not counted on its key: %s", type(error).__name__)


def _replay(stored: store.StoredResponse, guarded: Guarded) -> HttpResponse:
    guarded.outcome = "replayed"
    response = HttpResponse(stored.body, status=200, content_type=stored.content_type)
    response.headers["Idempotency-Status"] = "replayed"
    response.headers["Cache-Control"] = "no-store"
    if stored.location is not None:
        response.headers["Location"] = stored.location
    if stored.etag is not None:
        response.headers["ETag"] = stored.etag
    return response


def _refuse(error: IdempotencyError, guarded: Guarded) -> HttpResponse:
    guarded.outcome = error.outcome
    return JsonResponse(
        {
            "type": conf.problem_type.format(code=error.code),
            "title": error.title,
            "status": error.status,
            "detail": error.detail,
            "code": error.code,
        },
        status=error.status,
        content_type="application/problem+json",
        headers=error.headers,
    )
