"""``GET /api/rollouts``, which browsers poll. Public; a 304 costs no SQL."""

from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.utils.http import parse_etags
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from rollout import configuration

# s; a cache on the way delays an emergency stop by so much at most, and a busy process by COPY_SECONDS before that
MAX_AGE = 5


@csrf_exempt  # a POST is answered with 405, not with a missing token
@require_safe
def rollouts(request: HttpRequest) -> HttpResponse:
    current = configuration.current()
    response = (
        HttpResponseNotModified()
        if matches(request, current.etag)
        else HttpResponse(current.body, content_type="application/json")
    )
    response.headers["ETag"] = current.etag
    response.headers["Cache-Control"] = f"public, max-age={MAX_AGE}"
    return response


def matches(request: HttpRequest, etag: str) -> bool:
    """Return whether the client has ``etag`` already (RFC 9110, "If-None-Match": weak comparison)."""
    # Not by `request.headers`, which Django makes of all headers: a twelfth of a poll's CPU.
    sent = parse_etags(request.META.get("HTTP_IF_NONE_MATCH", ""))
    return "*" in sent or etag in {tag.removeprefix("W/") for tag in sent}
