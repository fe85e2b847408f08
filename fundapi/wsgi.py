"""The WSGI application that Granian serves."""

import os
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fundapi.settings")

import fundapi.web.light  # noqa: F401 - before the settings import structlog

django = get_wsgi_application()

from fundapi.web.overload import OverloadControl  # noqa: E402 - it needs the settings


def in_one_piece(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer by Django. What is no stream is a list: done with when it is returned, and Granian sends it at once."""
    response = django(environ, start_response)
    if not isinstance(response, HttpResponse):
        return response
    body = [response.content]
    response.close()
    return body


application = OverloadControl(in_one_piece)
