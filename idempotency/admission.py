"""The default of ``IDEMPOTENCY_ADMIT``: users that Django's own sessions sign in."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase


def signed_in_user(request: HttpRequest, _view: Callable[..., Any]) -> str | HttpResponseBase:
    """Return the id of the signed-in user, or a 401."""
    if request.user.is_authenticated:
        return str(request.user.pk)
    return HttpResponse("Sign in first.", status=401, content_type="text/plain")
