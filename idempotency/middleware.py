"""Prepare requests for the views that are marked with ``@idempotent``, and end what a view left open."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.db import connections
from django.http import HttpRequest, HttpResponse, RawPostDataException
from django.http.request import HttpHeaders
from django.urls import get_resolver

from idempotency.conf import conf, require_app
from idempotency.decorators import headers
from idempotency.marks import SAFE_METHODS, is_marked
from idempotency.protocol import Claim, Guarded, begin_atomic_request, end_atomic_request


class IdempotencyMiddleware:
    """Last in ``MIDDLEWARE``. Marks guard the views; see ``protocol``."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        require_app()
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.idempotency = None  # type: ignore[attr-defined]  # the guarded request, once there is one
        sent = _sent(request)
        if sent:
            _keep_body(request)
        try:
            response = self.get_response(request)
            end_atomic_request(request)
        except BaseException as error:
            end_atomic_request(request, error)
            if claim := _open_claim(request):
                claim.leave(error)
            raise
        # Nobody has rendered the view's own answer.
        if claim := _open_claim(request):
            response = claim.conclude(response)
        # Repeat the key as the client sent it: that tells our answer, a refusal too, from one of something on the way.
        for name, key in sent.items():
            if key.isascii() and key.isprintable():
                response.headers[name] = key
        return response

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], _args: tuple[Any, ...], _kwargs: dict[str, Any]
    ) -> None:
        """Begin what ``ATOMIC_REQUESTS`` promises, so that a guard can end it for a transaction of its own."""
        if connections[conf.database].settings_dict["ATOMIC_REQUESTS"] and _takes_over(view, conf.database):
            begin_atomic_request(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> None:
        """Roll back, as ``ATOMIC_REQUESTS`` does, what no guard has taken over."""
        end_atomic_request(request, error)


def _takes_over(view: Any, using: str) -> bool:
    """Turn Django's ``ATOMIC_REQUESTS`` off for a view that leads to a mark; return whether the project has it on."""
    off = getattr(view, "_non_atomic_requests", set[str]())
    if using in off:
        return getattr(view, "idempotency_takes_over", False)
    if not is_marked(view):
        return False
    # In this order: other threads ask the other way round.
    view.idempotency_takes_over = True
    view._non_atomic_requests = {*off, using}  # noqa: SLF001 - as transaction.non_atomic_requests does; wraps() shares it
    return True


def _sent(request: HttpRequest) -> dict[str, str]:
    """Return the headers with a key of a request that may change something."""
    if request.method in SAFE_METHODS:
        return {}
    # The first request of a process imports the URLs, and with them the marks that name the headers.
    _ = get_resolver(getattr(request, "urlconf", None)).url_patterns
    # Not by `request.headers`, which Django makes of all headers: 20 µs.
    named = ((name, HttpHeaders.to_wsgi_name(name)) for name in headers)
    return {name: request.META[field] for name, field in named if field in request.META}


def _open_claim(request: HttpRequest) -> Claim | None:
    guarded: Guarded | None = request.idempotency  # type: ignore[attr-defined]
    return None if guarded is None else guarded.claim


def _keep_body(request: HttpRequest) -> None:
    """Read the body as bytes, before others read the stream: after that, Django has no bytes to give.

    A form that is larger than ``DATA_UPLOAD_MAX_MEMORY_SIZE`` stays unread, and so does one that has been read.
    """
    with suppress(RequestDataTooBig, RawPostDataException):
        _ = request.body
