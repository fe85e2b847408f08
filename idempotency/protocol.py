"""The life of a guarded request, from its headers to its answer: one key, one effect.

Everything happens in one PostgreSQL transaction: the claim on the key, the view's writes, the stored response.
A crash at any instant leaves all of it or nothing (design: docs/explanation/architecture.md, after Brandur Leach's
"Implementing Stripe-like idempotency keys in Postgres", with a lock instead of recovery points).
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured, RequestDataTooBig
from django.db import Error, connections, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.utils.translation import gettext

from idempotency import differences, formdata, keys, metrics, store
from idempotency import fingerprint as fingerprints
from idempotency.conf import conf
from idempotency.faults import is_unavailable
from idempotency.fingerprint import Compared
from idempotency.marks import Mark
from idempotency.preferences import wait_seconds
from idempotency.problems import (
    BodyTooLarge,
    IdempotencyError,
    KeyReused,
    RequestInProgress,
    Unavailable,
    translated,
)
from idempotency.replays import replays
from idempotency.signals import answered
from idempotency.waiters import Waiters

logger = logging.getLogger(__name__)
waiters = Waiters()

View = Callable[[], HttpResponse]
NOTHING = UUID(int=0)
# Characters of each value of an origin.
ORIGIN_MAX = 200


@dataclass(slots=True)
class Guarded:
    """A guarded request, as views and log lines find it in ``request.idempotency``."""

    mark: Mark
    principal: str
    # The header or the form's field, as the client sent it.
    key: str | None = None
    token: str | None = None
    # Of environment, operation, principal and token.
    digest: UUID = NOTHING
    # The JSON body, already parsed.
    document: Any = None
    # Seconds of ``Prefer: wait`` that were honoured.
    waited: int = 0
    # One of metrics.OUTCOMES.
    outcome: str = "failed"
    # Until the answer is there.
    running: bool = True
    # While the answer is still to be rendered.
    claim: "Claim | None" = None

    @property
    def operation(self) -> str:
        return self.mark.operation


def guard(request: HttpRequest, view: View, *, mark: Mark, principal: str) -> HttpResponse:
    """Answer ``request``: run ``view`` if its key is new, else replay the stored answer or refuse.

    An exception of the view passes through, after everything that the view wrote is rolled back. An answer that is
    still to be rendered is returned with its transaction open: rendering ends it.
    """
    outer: Guarded | None = request.idempotency  # type: ignore[attr-defined]
    if outer is not None and outer.running:
        raise ImproperlyConfigured(
            f"{mark.place} runs inside {outer.mark.place}, and both are marked: remove one of the two marks."
        )
    end_atomic_request(request)
    guarded = Guarded(mark, principal)
    request.idempotency = guarded  # type: ignore[attr-defined]
    return _conclude(guarded, partial(_answer, request, view, guarded))


def begin_atomic_request(request: HttpRequest) -> None:
    """Begin the block of ``ATOMIC_REQUESTS`` of a view, which may not be guarded this time: a PUT beside a POST."""
    block = transaction.atomic(using=conf.database)
    block.__enter__()
    request.idempotency_block = block  # type: ignore[attr-defined]  # until a guard or the middleware ends it


def end_atomic_request(request: HttpRequest, error: BaseException | None = None) -> None:
    """Commit that block, or roll it back after an error. A project's own block inside it ends first."""
    block = getattr(request, "idempotency_block", None)
    if block is None or connections[conf.database].atomic_blocks[-1] is not block:
        return
    request.idempotency_block = None  # type: ignore[attr-defined]  # likewise
    block.__exit__(*(type(error), error, error.__traceback__) if error else (None, None, None))


def _conclude(guarded: Guarded, step: Callable[[], HttpResponse]) -> HttpResponse:
    """Take a step; unless it left the transaction open, count the request and complete its answer."""
    try:
        response = step()
    except IdempotencyError as error:
        response = _refuse(error, guarded)
    except Error as error:
        if not is_unavailable(error):
            raise
        logger.warning("The database failed under a guarded request", exc_info=error)
        response = _refuse(Unavailable(), guarded)
    finally:
        if guarded.claim is None:
            guarded.running = False
            metrics.observe(guarded.operation, guarded.outcome)
            answered.send_robust(sender=Guarded, idempotency=guarded)
    if guarded.claim is None and guarded.waited:
        response.headers["Preference-Applied"] = f"wait={guarded.waited}"
    return response


def _answer(request: HttpRequest, view: View, guarded: Guarded) -> HttpResponse:
    try:
        header = guarded.mark.header
        guarded.key = formdata.key_of(request, header)
        guarded.token = keys.parse(
            guarded.key, environment=conf.environment, operation=guarded.operation, name=header
        )
        compared = _compared(request, guarded)
    except RequestDataTooBig:
        raise BodyTooLarge from None
    guarded.digest = keys.digest(
        environment=conf.environment,
        operation=guarded.operation,
        principal=guarded.principal,
        token=guarded.token,
    )
    # A retry is answered without a transaction, because a stored answer never changes: a replay takes 0.85 of the time
    # that it takes by the claim. A new key pays for this look-up with some 5 % of a create.
    if stored := store.find(guarded.digest):
        return _settle(stored, request, compared, guarded)
    claim = Claim(request, compared, guarded)
    with claim.rolled_back_after_an_error():
        stored = _claim(wait_seconds(request.META.get("HTTP_PREFER"), maximum=conf.wait_max), guarded)
        response = _first(view, guarded) if stored is None else None
    if response is None:
        claim.leave()
        return _settle(stored, request, compared, guarded)
    if not getattr(response, "is_rendered", True):
        guarded.claim = claim
        response.add_post_render_callback(claim.conclude)
        return response  # type: ignore[no-any-return]  # a SimpleTemplateResponse
    return claim.finish(response)


def _first(view: View, guarded: Guarded) -> Any:
    # Before any hook of the view, to tell "COMMIT failed" from "an effect after COMMIT failed".
    transaction.on_commit(partial(setattr, guarded, "outcome", "created"), using=conf.database)
    response: Any = _kept_unless_error(partial(_response_of, view, guarded.mark), guarded.mark.stored_errors)
    # Somebody else's block ends before Django would render. A TestCase's own outlives the request.
    blocks: list[Any] = connections[conf.database].atomic_blocks[:-1]
    if all(block._from_testcase for block in blocks):  # noqa: SLF001 - as Django's own ``durable`` asks
        return response
    return response if getattr(response, "is_rendered", True) else response.render()


def _response_of(view: View, mark: Mark) -> HttpResponse:
    response: Any = view()
    if isinstance(response, HttpResponseBase):
        return response  # type: ignore[return-value]  # one that streams is refused when it is to be stored
    raise TypeError(
        f"{mark.place} returned {type(response).__name__}, and should return an HttpResponse, which is stored."
    )


def _kept_unless_error(view: View, errors: frozenset[int]) -> HttpResponse:
    """Run the view; if its answer is an error that is stored, roll back what it wrote, and its hooks."""
    if not errors:
        return view()
    with transaction.atomic(using=conf.database):
        response = view()
        if response.status_code in errors:
            transaction.set_rollback(True, using=conf.database)
    return response


class Claim:
    """The transaction that holds a key. It stays open until the view's answer is rendered."""

    def __init__(self, request: HttpRequest, compared: Compared, guarded: Guarded) -> None:
        self.request, self.compared, self.guarded = request, compared, guarded
        self._block = transaction.atomic(using=conf.database)
        self._block.__enter__()

    def leave(self, error: BaseException | None = None) -> None:
        """Commit; after an error, roll back."""
        self.guarded.claim = None
        if error is None:
            self._block.__exit__(None, None, None)
        else:
            self._block.__exit__(type(error), error, error.__traceback__)

    @contextmanager
    def rolled_back_after_an_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.leave(error)
            raise

    def conclude(self, response: HttpResponse) -> HttpResponse:
        """Finish a request whose answer is rendered now, and return the answer that it gets."""
        self.guarded.claim = None
        return _conclude(self.guarded, partial(self.finish, response))

    def finish(self, response: HttpResponse) -> HttpResponse:
        """Store the answer and commit; roll a failure back."""
        try:
            with self.rolled_back_after_an_error():
                _store(response, self.request, self.compared, self.guarded)
            self.leave()
        except store.AlreadyStored:
            stored = store.find(self.guarded.digest)
            return _settle(stored, self.request, self.compared, self.guarded)
        except Exception:
            if self.guarded.outcome != "created":
                raise
            logger.exception("An effect after COMMIT failed. What is committed stands, and is the answer")
        return response


def _settle(
    stored: store.StoredResponse | None, request: HttpRequest, compared: Compared, guarded: Guarded
) -> HttpResponse:
    """Replay the stored answer to the same request; refuse another one."""
    if stored is None:  # stored by another request, and deleted again within this one
        raise RequestInProgress
    if stored.fingerprint != compared.fingerprint:
        _record_conflict(request, compared, guarded)
        raise KeyReused
    replays.count(guarded.digest)
    return _replay(stored, guarded)


def _compared(request: HttpRequest, guarded: Guarded) -> Compared:
    of_request = partial(
        fingerprints.compared,
        method=request.method or "",
        path=request.path,
        query=request.META.get("QUERY_STRING", ""),
    )
    if formdata.is_form(request):
        return of_request(form=formdata.form_of(request))
    body = request.body
    if body and fingerprints.is_json(request.META.get("CONTENT_TYPE", "")):
        guarded.document = fingerprints.parse_json(body)
        return of_request(document=guarded.document)
    return of_request(body=body)


def _claim(wait: int, guarded: Guarded) -> store.StoredResponse | None:
    try:
        return store.claim(guarded.digest)
    except RequestInProgress:
        with waiters.slot(maximum=conf.waiters_max if wait else 0) as granted:
            if not granted:
                raise
            guarded.waited = wait
            return store.claim(guarded.digest, wait=wait)


def _store(response: HttpResponse, request: HttpRequest, compared: Compared, guarded: Guarded) -> None:
    """Store the answer of a view in the claiming transaction; a failure is to be rolled back instead."""
    if response.status_code >= 400 and response.status_code not in guarded.mark.stored_errors:
        transaction.set_rollback(True, using=conf.database)
        # A view may answer a lost database itself.
        if response.status_code == Unavailable.status:
            guarded.outcome = Unavailable.outcome
        return
    if response.streaming:
        response.close()
        raise TypeError(
            f"{guarded.mark.place} streams its answer, and should return an HttpResponse with all of it, which is "
            "stored for retries."
        )
    headers = {name: response.headers[name] for name in conf.replayed_headers if name in response.headers}
    store.save(
        guarded.digest,
        store.StoredResponse(compared.fingerprint, response.status_code, headers, response.content),
        operation=guarded.operation,
        principal=guarded.principal,
        token=guarded.token or "",
        ttl=guarded.mark.ttl,
        origin=_origin(request),
        parts=differences.digests(compared.parts, guarded.digest),
    )
    response.headers["Idempotency-Status"] = "created"


def _origin(request: HttpRequest) -> dict[str, str]:
    """Return what the project tells about a request, each value cut to what a page has room for.

    A fault of the project's function costs no answer; only a database error does, as the transaction is lost with it.
    """
    if conf.origin is None:
        return {}
    try:
        told = {str(name): str(value) for name, value in conf.origin(request).items() if value}
    except Error:
        raise
    except Exception:
        logger.exception("IDEMPOTENCY_ORIGIN failed: nothing is kept of where this request came from.")
        return {}
    return {_storable(name): _storable(value) for name, value in told.items()}


def _storable(text: str) -> str:
    """Return a text that ``jsonb`` takes: it has neither null characters nor halves of surrogate pairs."""
    return text[:ORIGIN_MAX].replace("\0", "\ufffd").encode(errors="replace").decode()


def _record_conflict(request: HttpRequest, compared: Compared, guarded: Guarded) -> None:
    """Count a conflict on its key, if the database takes writes: the 409 is right either way."""
    try:
        first = store.parts_of(guarded.digest)
        differs = differences.differing(first, compared.parts, guarded.digest)
        store.record_conflict(guarded.digest, differs=differs, origin=_origin(request))
    except Error as error:
        if not is_unavailable(error):
            raise
        logger.warning("A conflict was not counted on its key: %s", type(error).__name__)


def _replay(stored: store.StoredResponse, guarded: Guarded) -> HttpResponse:
    guarded.outcome = "replayed"
    status = guarded.mark.replay_status
    # A redirect that is no redirect would be a blank page, and a stored error is no success.
    if status == "original" or stored.status >= 300:
        status = stored.status
    own = {"Idempotency-Status": "replayed", "Cache-Control": "no-store"}
    response = HttpResponse(stored.body, status=status, headers=stored.headers | own)
    # As the first answer had them: Django's own Content-Type is none of it.
    if "Content-Type" not in stored.headers:
        del response.headers["Content-Type"]
    return response


def _refuse(error: IdempotencyError, guarded: Guarded) -> HttpResponse:
    guarded.outcome = error.outcome
    return JsonResponse(
        {
            "type": conf.problem_type.format(code=error.code),
            "title": gettext(error.title),
            "status": error.status,
            "detail": translated(error.text, gettext),
            "code": error.code,
        },
        status=error.status,
        content_type="application/problem+json",
        headers=error.headers,
    )
