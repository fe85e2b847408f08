"""Django REST Framework: who calls a marked view."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from rest_framework.request import Request

from idempotency.admission import signed_in_user


def admit(request: Request | HttpRequest, view: Callable[..., Any]) -> str | HttpResponseBase:
    """Return the id of the user that the view's own authentication has found, or refuse (``IDEMPOTENCY_ADMIT``).

    A mark on a class of views or on one of its handlers runs behind the view's authentication, permissions and
    throttles, so there is nothing left to run, and nothing that counts twice.

    Raises:
        NotAuthenticated, PermissionDenied: nobody is signed in, whatever the view's permissions let pass.
    """
    if not isinstance(request, Request):
        return signed_in_user(request, view)
    if not request.user.is_authenticated:
        request.parser_context["view"].permission_denied(request)
    return str(request.user.pk)
