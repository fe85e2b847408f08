"""Guard the views that are marked with ``@idempotent``. SQL and rules are elsewhere: see ``protocol``."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from idempotency.conf import conf
from idempotency.decorators import mark_of
from idempotency.protocol import echo_key, guard


class IdempotencyMiddleware:
    """Last in ``MIDDLEWARE``: it runs the marked view itself, inside the transaction that holds the key."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if "Idempotency-Key" in request.headers:
            _keep_body(request)
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> HttpResponseBase | None:
        mark = mark_of(view)
        if mark is None or request.method not in mark.methods:
            return None
        run = partial(view, request, *args, **kwargs)
        principal = conf.admit(request, view)
        if isinstance(principal, HttpResponseBase):
            echo_key(request, principal)
            return principal
        return guard(request, run, operation=mark.operation, principal=principal)


def _keep_body(request: HttpRequest) -> None:
    """Read the body as bytes, before a CSRF check reads it as a form: after that, Django has no bytes to give."""
    # Raised before reading; a later reader of the body gets it again.
    with suppress(RequestDataTooBig):
        _ = request.body
