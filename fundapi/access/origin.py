"""The origin of a request that used an idempotency key: which log line, which token."""

import structlog
from django.http import HttpRequest

# Characters of a token: enough to tell two apart, too few to guess the rest.
PREFIX_SHOWN = 8


def origin(request: HttpRequest) -> dict[str, str]:
    """Return the request's id, and the beginning of its bearer token (``IDEMPOTENCY_ORIGIN``)."""
    request_id = structlog.contextvars.get_contextvars().get("request_id", "")
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    return {
        "request_id": request_id,
        "token": token.strip()[:PREFIX_SHOWN] if scheme.lower() == "bearer" else "",
    }
