"""Errors under ``/api`` as ``application/problem+json`` (RFC 9457), and the catalogue of their codes.

Those under ``/ofrep`` have that protocol's form, from :func:`rollout.api.ofrep.refusal`.
"""

import logging
import sys
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from rest_framework import exceptions
from structlog.contextvars import get_contextvars

from fundapi.exactjson import ExactJSONRenderer
from idempotency import problems as idempotency_problems
from idempotency.faults import is_unavailable, is_unmigrated
from idempotency.problems import IdempotencyError, Unavailable
from rollout.api import ofrep

PROBLEM_JSON = "application/problem+json"
REFUSAL = "fundapi.refusal"  # in the WSGI environment: the code of a middleware's refusal, for the log

CSRF_FAILED = (
    f"The CSRF check failed: send the value of the cookie '{settings.CSRF_COOKIE_NAME}' in X-CSRFToken, from an origin "
    "that the server trusts."
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Problem:
    """One entry of the catalogue. ``code`` is stable: clients branch on it."""

    status: int
    code: str
    title: str
    detail: str  # the default; a response may say more

    @property
    def type(self) -> str:
        return f"/api/problems/{self.code}"

    def body(self, detail: str = "", **extra: Any) -> dict[str, Any]:
        return {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": detail or self.detail,
            "code": self.code,
            **extra,
        }


_OWN = [
    Problem(
        400,
        "bad_request",
        "The request cannot be read",
        "Correct the address and the headers: one is malformed, or Host is none of this server's.",
    ),
    Problem(400, "validation_error", "Some fields are not valid", "Correct the fields named in 'errors'."),
    Problem(401, "not_authenticated", "Sign in first", "Send 'Authorization: Bearer <token>', or sign in."),
    Problem(
        401,
        "authentication_failed",
        "The token is not valid",
        "The token is malformed, unknown, expired or revoked: send 'Authorization: Bearer <token>' with a valid one.",
    ),
    Problem(403, "permission_denied", "You may not do this", "Ask an administrator for the permission."),
    Problem(
        403,
        "https_required",
        "Use https",
        "Nothing was done: send it by https, and replace a token or password that went by plain HTTP.",
    ),
    Problem(
        403,
        "signed_in_as_another",
        "Another user is signed in",
        "The session is not that of the user in Signed-In-As: load the page again.",
    ),
    Problem(404, "not_found", "Not found", "There is nothing here, or it is not yours."),
    Problem(
        405, "method_not_allowed", "Method not allowed", "See the Allow header for what this address takes."
    ),
    Problem(
        406,
        "not_acceptable",
        "Nothing you accept",
        "Accept application/json, or leave the Accept header out.",
    ),
    Problem(
        415,
        "unsupported_media_type",
        "Send uncoded JSON",
        "Send the body as application/json, with that Content-Type.",
    ),
    Problem(429, "throttled", "Too many requests", "Slow down: try again after the seconds in Retry-After."),
    Problem(
        503,
        "overloaded",
        "The server is busy",
        "Nothing was done. Send the same request again after the seconds in Retry-After.",
    ),
    Problem(
        500,
        "server_error",
        "Something went wrong here",
        "The error is logged. Nothing was stored; try again.",
    ),
]
_IDEMPOTENCY = [
    Problem(
        error.status, error.code, error.title, getattr(error, "detail", "The key is meant for somebody else.")
    )
    for error in vars(idempotency_problems).values()
    if isinstance(error, type) and issubclass(error, IdempotencyError) and hasattr(error, "code")
]
CATALOGUE: dict[str, Problem] = {problem.code: problem for problem in (*_OWN, *_IDEMPOTENCY)}
_BY_STATUS = {problem.status: problem for problem in reversed((*_OWN, CATALOGUE["body_too_large"]))}
_BY_STATUS[503] = CATALOGUE["database_unavailable"]


def is_api(request: HttpRequest) -> bool:
    """Return whether errors of this request are problem+json."""
    return _is_below(request, "api")


def is_ofrep(request: HttpRequest) -> bool:
    """Return whether errors of this request are in OFREP's form."""
    return _is_below(request, "ofrep")


def is_for_programs(request: HttpRequest) -> bool:
    """Return whether a request is for ``/api`` or ``/ofrep``, and for no page."""
    return is_api(request) or is_ofrep(request)


def _is_below(request: HttpRequest, name: str) -> bool:
    """Return whether the path begins with a name, also after two slashes: clients join a base that ends in one."""
    return request.path.lstrip("/").partition("/")[0] == name


def _database_failed(error: BaseException | None) -> bool:
    """Return whether the database is away, busy or read-only, or its schema is older than this code."""
    return is_unmigrated(error) or is_unavailable(error)


def refusal(request: HttpRequest, code: str, detail: str = "") -> HttpResponse:
    """Return a problem of the catalogue in the form of its address: problem+json, OFREP's or text.

    For middlewares, whose requests reach no view.
    """
    request.META[REFUSAL] = code
    if is_api(request):
        return problem_response(code, detail)
    problem = CATALOGUE[code]
    if is_ofrep(request):
        return ofrep.refusal(request, detail or problem.detail, problem.status)
    return HttpResponse(detail or problem.detail, "text/plain; charset=utf-8", problem.status)


def problem_response(code: str, detail: str = "", **extra: Any) -> HttpResponse:
    """Return a problem of the catalogue as a response, with ``detail`` instead of its default."""
    problem = CATALOGUE[code]
    body = problem.body(detail, **extra)
    return JsonResponse(body, status=problem.status, content_type=PROBLEM_JSON)


def response_for_status(request: HttpRequest, status: int) -> HttpResponse:
    """Return the answer to an HTTP status in the form of its address: problem+json or OFREP's."""
    problem = _BY_STATUS.get(status) or (_BY_STATUS[500] if status >= 500 else _BY_STATUS[400])
    if is_ofrep(request):
        response = ofrep.refusal(request, problem.detail, status)
    else:
        body = {**problem.body(), "status": status}
        response = JsonResponse(body, status=status, content_type=PROBLEM_JSON)
    # The response has passed CommonMiddleware, which would have set it.
    response.headers["Content-Length"] = str(len(response.content))
    return response


def exception_handler(exc: Exception, _context: dict[str, Any]) -> HttpResponse | None:
    """Return the answer to an exception in a DRF view.

    ``None`` re-raises the exception, which Django logs and :func:`server_error` answers.
    """
    headers: dict[str, str] = {}
    if _database_failed(exc):
        logger.warning("The database failed", exc_info=exc)
        exc = Unavailable()
    if isinstance(exc, IdempotencyError):
        return _response(CATALOGUE[exc.code], exc.detail, exc.headers)
    if isinstance(exc, Http404):
        exc = exceptions.NotFound()
    elif isinstance(exc, PermissionDenied):
        exc = exceptions.PermissionDenied()
    if not isinstance(exc, exceptions.APIException):
        return None
    if isinstance(exc, exceptions.ValidationError):
        return _response(CATALOGUE["validation_error"], "", headers, errors=_errors(exc))
    if auth_header := getattr(exc, "auth_header", None):
        headers["WWW-Authenticate"] = auth_header
    if wait := getattr(exc, "wait", None):
        headers["Retry-After"] = str(wait)
    known = CATALOGUE.get(getattr(exc.detail, "code", ""))
    problem = known if known and known.status == exc.status_code else _BY_STATUS[exc.status_code]
    return _response(problem, _own_detail(exc), headers)


def _own_detail(exc: exceptions.APIException) -> str:
    """Return the detail if it is ours. DRF's and knox's say less than the catalogue, or speak of the server's code."""
    detail = str(exc.detail)
    if isinstance(exc, exceptions.PermissionDenied) and detail.startswith("CSRF Failed"):
        return CSRF_FAILED
    drf = str(exc.default_detail).partition("{")[0]
    is_foreign = isinstance(exc, exceptions.AuthenticationFailed | exceptions.Throttled)
    return "" if is_foreign or detail.startswith(drf) else detail


def _response(problem: Problem, detail: str, headers: dict[str, str], **extra: Any) -> HttpResponse:
    """Return problem+json even where the view renders YAML (the schema) or HTML (its page)."""
    body = ExactJSONRenderer().render(problem.body(detail, **extra))
    return HttpResponse(body, status=problem.status, headers=headers, content_type=PROBLEM_JSON)


def _errors(exc: exceptions.ValidationError) -> list[dict[str, str]]:
    """Flatten DRF's details; ``field`` is empty where the whole body is wrong."""
    full: Any = exc.get_full_details()
    details: dict[str, Any] = full if isinstance(full, dict) else {"": full}
    return [
        {
            "field": field,
            "code": item["code"],
            "detail": str(item["message"]),
        }
        for field, items in details.items()
        for item in items
    ]


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer an exception that nothing else has answered: 503 when the database failed, else 500."""
    lost = _database_failed(sys.exception())
    problem = CATALOGUE["database_unavailable" if lost else "server_error"]
    if is_for_programs(request):
        response = refusal(request, problem.code)
    else:
        context = {"problem": problem, "request_id": get_contextvars().get("request_id")}
        response = HttpResponse(render_to_string("500.html", context), status=problem.status)
    if lost:
        response.headers["Retry-After"] = "1"
    return response
