import os
import sys
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

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


application = Admission(in_one_piece)
