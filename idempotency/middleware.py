"""Prepare requests for the views that are marked with ``@idempotent``, and end what a view left open."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, RawPostDataException

from idempotency.conf import conf
from idempotency.decorators import headers
from idempotency.marks import SAFE_METHODS, is_marked
from idempotency.protocol import Claim, Guarded


class IdempotencyMiddleware:
    """Last in ``MIDDLEWARE``. Marks guard the views; see ``protocol``."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.idempotency = None  # type: ignore[attr-defined]  # the guarded request, once there is one
        sent = {}
        if request.method not in SAFE_METHODS:
            sent = {name: request.headers[name] for name in headers if name in request.headers}
        if sent:
            _keep_body(request)
        try:
            response = self.get_response(request)
        except BaseException as error:
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
        self, _request: HttpRequest, view: Callable[..., Any], _args: tuple[Any, ...], _kwargs: dict[str, Any]
    ) -> None:
        """Turn ``ATOMIC_REQUESTS`` off for a marked view, whose transaction has to end with its answer."""
        if connections[conf.database].settings_dict["ATOMIC_REQUESTS"] and is_marked(view):
            transaction.non_atomic_requests(using=conf.database)(view)


def _open_claim(request: HttpRequest) -> Claim | None:
    guarded: Guarded | None = request.idempotency  # type: ignore[attr-defined]
    return None if guarded is None else guarded.claim


def _keep_body(request: HttpRequest) -> None:
    """Read the body as bytes, before others read the stream: after that, Django has no bytes to give.

    A form that is larger than ``DATA_UPLOAD_MAX_MEMORY_SIZE`` stays unread, and so does one that has been read.
    """
    with suppress(RequestDataTooBig, RawPostDataException):
        _ = request.body
