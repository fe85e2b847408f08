"""Principals: the default of ``IDEMPOTENCY_ADMIT``, for Django's own sessions, and the hosts that keep them apart."""

from collections.abc import Callable
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.http.request import split_domain_port
from django.utils.translation import gettext

from idempotency.conf import conf


def signed_in_user(request: HttpRequest, _view: Callable[..., Any]) -> str | HttpResponseBase:
    """Return the id of the signed-in user, or a 401."""
    if not hasattr(request, "user"):
        raise ImproperlyConfigured(
            "A marked view does not know its caller: add django.contrib.auth.middleware.AuthenticationMiddleware to "
            "MIDDLEWARE, or set IDEMPOTENCY_ADMIT."
        )
    if request.user.is_authenticated:
        return str(request.user.pk)
    return HttpResponse(gettext("Sign in first."), status=401, content_type="text/plain")


def scope_of(request: HttpRequest) -> str:
    """Return what comes before the principals of a request: its host, where keys are kept apart by it, or nothing."""
    if not conf.scope_by_host:
        return ""
    host, _port = split_domain_port(request.get_host())
    return f"{host}/"
