"""Admission control: the view's authentication, permissions and throttles, run before any key is looked up."""

from collections.abc import Callable
from typing import Any

import structlog
from django.http import HttpRequest, HttpResponseBase
from rest_framework.request import Request
from rest_framework.views import APIView

from idempotency.decorators import mark_of


def admit(request: HttpRequest, view: Callable[..., Any]) -> str | HttpResponseBase:
    """Return the caller's user id, or the response that refuses them: 401, 403 or 429 (``IDEMPOTENCY_ADMIT``).

    So a stored response is as protected as its view, and a replay counts towards the throttle.
    """
    api_view: APIView = view.cls(**view.initkwargs)  # type: ignore[attr-defined]  # DRF's as_view() sets them
    api_view.setup(request)
    api_view.headers = api_view.default_response_headers
    api_view.request = admitted = api_view.initialize_request(request)
    try:
        api_view.perform_authentication(admitted)
        api_view.check_permissions(admitted)
        api_view.check_throttles(admitted)
    except Exception as error:  # noqa: BLE001 - DRF decides: it responds or re-raises
        response = api_view.handle_exception(error)
        return api_view.finalize_response(admitted, response)
    operation = getattr(mark_of(view), "operation", None)
    structlog.contextvars.bind_contextvars(user_id=admitted.user.pk, operation=operation)
    request.admitted = admitted  # type: ignore[attr-defined]
    return str(admitted.user.pk)


class AdmittedMixin(APIView):
    """Mixin for views behind :func:`admit`: skip the steps that it has run."""

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        admitted: Request | None = getattr(request, "admitted", None)
        return admitted or super().initialize_request(request, *args, **kwargs)

    def check_permissions(self, request: Request) -> None:
        if not self._admitted(request):
            super().check_permissions(request)

    def check_throttles(self, request: Request) -> None:
        if not self._admitted(request):
            super().check_throttles(request)

    @staticmethod
    def _admitted(request: Request) -> bool:
        return hasattr(request._request, "admitted")  # noqa: SLF001 - DRF's only way to Django's request
