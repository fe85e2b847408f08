"""The project's middleware: a log line, problem+json, policies for browsers, refusals before any view."""

import re
import time
import uuid
from collections.abc import Callable
from functools import cache
from inspect import unwrap
from typing import Any

import corsheaders.middleware
import structlog
from csp.middleware import CSPMiddleware, PolicyParts
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.middleware.gzip import GZipMiddleware
from django.utils.cache import patch_vary_headers
from django.utils.functional import SimpleLazyObject

from fundapi.metrics import request_duration
from fundapi.web.bodies import fault_of
from fundapi.web.handler import Headers
from fundapi.web.problems import (
    PROBLEM_JSON,
    REFUSAL,
    is_api,
    is_for_programs,
    is_ofrep,
    refusal,
    response_for_status,
)

GetResponse = Callable[[HttpRequest], HttpResponseBase]

logger = structlog.get_logger("fundapi.request")
# Other methods share one label, so that clients cannot invent labels.
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
SAFE = {"GET", "HEAD", "OPTIONS", "TRACE"}  # RFC 9110, 9.2.1
# A request id of this form is taken from the request; any other is replaced.
REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{8,128}")
# There are as many as series.
_durations = cache(request_duration.labels)


class RequestLogMiddleware:
    """Write one log line and one measurement a request, with a request id that the answer carries too."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started = time.perf_counter()
        sent = request.META.get("HTTP_X_REQUEST_ID", "")
        request_id = sent if REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        response = self.get_response(request)
        response.headers["X-Request-ID"] = request_id
        duration = time.perf_counter() - started
        match = request.resolver_match
        method = request.method if request.method in METHODS else "other"
        _durations(method, match.route if match else "", response.status_code).observe(duration)
        guarded = getattr(request, "idempotency", None)
        logger.info(
            "request",
            method=request.method,
            path=request.path,
            status=response.status_code,
            duration_ms=round(duration * 1000, 2),
            user_id=_user_id(request),
            operation=guarded and guarded.operation,
            outcome=guarded.outcome if guarded else request.META.get(REFUSAL),
        )
        return response


def _user_id(request: HttpRequest) -> int | None:
    """Return the caller's id where it is known already; never ask the database for a log line."""
    user = getattr(request, "_cached_user", None) or getattr(request, "user", None)
    if user is None or type(user) is SimpleLazyObject:
        return None
    pk: int | None = user.pk
    return pk


class CorsMiddleware(corsheaders.middleware.CorsMiddleware):
    """Say to caches that an answer depends on its origin, where a request without one asks for no more."""

    def __call__(self, request: HttpRequest) -> Any:
        if "HTTP_ORIGIN" in request.META or request.method == "OPTIONS":
            return super().__call__(request)
        response: Any = self.get_response(request)
        if is_for_programs(request):
            patch_vary_headers(response, ["origin"])
        return response


class ProblemMiddleware:
    """Answer every error under ``/api`` with problem+json, under ``/ofrep`` in its form; no HTML, even with DEBUG."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        form = PROBLEM_JSON if is_api(request) else "application/json" if is_ofrep(request) else ""
        if response.status_code < 400 or response.headers.get("Content-Type", "").startswith(form):
            return response
        problem = response_for_status(request, response.status_code)
        for name, value in response.headers.items():
            if not name.startswith("Content-"):  # those describe the body that was replaced
                problem.headers[name] = value
        return problem


class BrowserPolicyMiddleware(CSPMiddleware):
    """Send Content-Security-Policy and Permissions-Policy: a page may do what its policy lists, the rest nothing.

    An answer that is no page gets a constant policy, because django-csp puts one together for each answer. There is no
    nonce, because nothing is inline. Pages are compressed here: this is where they are told from the API's answers.
    """

    get_response: GetResponse

    def __init__(self, get_response: GetResponse) -> None:
        super().__init__(get_response)
        self.compression = GZipMiddleware(get_response)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if not response.headers.get("Content-Type", "").startswith("text/html"):
            response.headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
            return response
        response.headers["Permissions-Policy"] = settings.PERMISSIONS_POLICY
        return self.compression.process_response(request, self.process_response(request, response))

    def get_policy_parts(
        self,
        request: HttpRequest,
        response: HttpResponseBase,
        report_only: bool = False,  # noqa: FBT001, FBT002 - django-csp's signature
    ) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        match = request.resolver_match
        if match is not None and match.app_name == "admin":
            parts.update = settings.ADMIN_CONTENT_SECURITY_POLICY
        return parts


class ApiMiddleware:
    """Take an API request that has no cookies past Django's own middlewares: for sessions, forms and pages.

    A view without ``csrf_exempt`` that is asked to change something is still refused: Django checks that later.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self.answer = _past_django(get_response)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.META.get("HTTP_COOKIE") or not is_for_programs(request):
            return self.get_response(request)
        request.get_host()  # raises DisallowedHost
        request.user = AnonymousUser()
        response = self.answer(request)
        headers = response.headers = Headers(response.headers)
        headers.setdefault("X-Frame-Options", settings.X_FRAME_OPTIONS)
        if isinstance(response, HttpResponse):
            headers.setdefault("Content-Length", str(len(response.content)))
        return response


def _past_django(get_response: GetResponse) -> GetResponse:
    """Return the rest of a chain of middlewares, from the first one that is not Django's."""
    middleware: Any = unwrap(get_response)  # Django wraps each one
    while type(middleware).__module__.startswith("django."):
        get_response = middleware.get_response
        middleware = unwrap(get_response)
    return get_response


class HttpsMiddleware:
    """Refuse what would change something by plain HTTP: a redirect would make a GET of it, which looks like success."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if settings.SECURE_SSL_REDIRECT and request.method not in SAFE and not request.is_secure():
            return refusal(request, "https_required")
        return self.get_response(request)


class BodyMiddleware:
    """Refuse a body that is not whole, coded, not UTF-8 or too long (``fundapi.web.bodies``), before any view."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        fault = fault_of(request)
        if fault is None:
            return self.get_response(request)
        response = refusal(request, fault.code, fault.detail)
        if response.status_code == 415:
            response.headers["Accept-Encoding"] = "identity"
        return response
