import os
import sys
from collections.abc import Iterable
from io import BytesIO
from wsgiref.types import StartResponse, WSGIEnvironment

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fundapi.settings")
# Commands need them. Django REST Framework and structlog import what they find, and in a web worker nobody uses it:
# 8 MiB and 0.1 s of its start.
for _unused in ("requests", "rich"):
    sys.modules.setdefault(_unused, None)  # type: ignore[arg-type]  # Python's own way to say "is not there"

django = get_wsgi_application()

from fundapi.overload import Admission  # noqa: E402 - it needs the settings


def in_one_piece(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer by Django. What is no stream is a list: done with when it is returned, and Granian sends it at once."""
    response = django(environ, start_response)
    if not isinstance(response, HttpResponse):
        return response
    body = [response.content]
    response.close()
    return body


admitted = Admission(in_one_piece)


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Serve a request; a chunked body, which Django takes for an empty one, gets the length it turns out to have.

    One byte over the limit is read and no more: BodyLimitMiddleware refuses it by that.
    """
    if environ.get("HTTP_TRANSFER_ENCODING") and not environ.get("CONTENT_LENGTH"):
        body = environ["wsgi.input"].read(settings.BODY_LIMIT + 1)
        environ |= {"wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body))}
    return admitted(environ, start_response)
