"""``/api/schema`` and ``/api/docs``: the views, the sign-in schemes, and the parts that concern the whole document.

The rest is in drf-spectacular's extensions, so that the API's views know nothing of the document. Importing this module
registers them: the setting ``DEFAULT_SCHEMA_CLASS`` imports it, and so does the first request of either view.
"""

import hashlib
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

from csp.decorators import csp_update
from django.conf import settings
from django.http import HttpResponse, HttpResponseBase
from django.utils.cache import get_conditional_response
from django.utils.decorators import method_decorator
from django.views.decorators.gzip import gzip_page
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

import fundapi
from fundapi.schema import funds, telemetry
from fundapi.schema.plain import PATHS
from fundapi.web.problems import CATALOGUE

# One thread generates: drf-spectacular changes what it reads, and concurrent first requests got 500.
_generating = threading.Lock()


@cache
def _written(renderer: Callable[[], BaseRenderer]) -> tuple[bytes, str]:
    """Return the document and its ETag, weak because it may be compressed. It takes up to a second, once."""
    document = SchemaGenerator().get_schema(request=None, public=True)
    body: Any = renderer().render(document, renderer_context={})
    return body, f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


@method_decorator(gzip_page, name="dispatch")  # 17 kB in place of 271
class SchemaView(SpectacularAPIView):
    """``/api/schema``: public, whatever credentials a request has."""

    authentication_classes = []
    permission_classes = []

    def get(self, request: Request, *_args: Any, **_kwargs: Any) -> HttpResponseBase:
        renderer: Any = type(request.accepted_renderer)
        with _generating:
            body, etag = _written(renderer)
        charset = f"; charset={renderer.charset}" if renderer.charset else ""
        headers = {
            "Content-Type": renderer.media_type + charset,
            "Content-Disposition": f'inline; filename="fundapi.{renderer.format}"',
            "ETag": etag,
        }
        response = HttpResponse(body, headers=headers)
        return get_conditional_response(request, etag, response=response) or response


@method_decorator(csp_update({"img-src": ["data:"]}), name="dispatch")  # Swagger UI's own icons
class DocsView(SpectacularSwaggerSplitView):
    """``/api/docs``: Swagger UI, served by this server alone, with its settings in a script of their own."""

    authentication_classes = []
    permission_classes = []
    url_name = "schema"


class BearerScheme(OpenApiAuthenticationExtension):
    target_class = "fundapi.access.authentication.BearerAuthentication"
    name = "bearer"
    priority = 1

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "An opaque token, created in the admin or with `manage.py create_token`.",
        }


class SessionScheme(OpenApiAuthenticationExtension):
    target_class = "rest_framework.authentication.SessionAuthentication"
    name = "session"
    priority = 1

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.SESSION_COOKIE_NAME,
            "description": "The cookie of a signed-in browser. A POST also sends `X-CSRFToken`.",
        }


PROBLEM = {
    "type": "object",
    "description": "A problem (RFC 9457). Branch on `code`: it is stable.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {
            "type": "string",
            "format": "uri-reference",
            "description": "Address of the problem's explanation.",
        },
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What happened and what to do, for people."},
        "code": {"type": "string", "enum": sorted(CATALOGUE)},
        "errors": {
            "type": "array",
            "description": "With `validation_error`: each invalid field; an empty name stands for the whole body.",
            "items": {
                "type": "object",
                "required": ["field", "code", "detail"],
                "properties": {name: {"type": "string"} for name in ("field", "code", "detail")},
            },
        },
    },
}
INTRODUCTION = """\
Creates investment funds exactly once, however often a client sends the request.

Every error is `application/problem+json` (RFC 9457). Its `code` is stable:

| status | code | meaning |
|---|---|---|
"""


def complete(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add what drf-spectacular cannot express or does not see (its post-processing hook)."""
    table = [
        f"| {problem.status} | `{problem.code}` | {problem.title} |"
        for problem in sorted(CATALOGUE.values(), key=lambda problem: (problem.status, problem.code))
    ]
    result["info"] |= {"version": fundapi.__version__, "description": INTRODUCTION + "\n".join(table)}
    result["components"]["schemas"]["Problem"] = PROBLEM
    funds.complete(result["paths"])
    telemetry.complete(result["paths"]["/api/telemetry"]["post"])
    result["paths"] |= PATHS
    return result
