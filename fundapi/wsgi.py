"""The WSGI application that Granian serves."""

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse

from fundapi.variables import name_settings

name_settings()

import fundapi.web.light  # noqa: E402, F401 - before the settings import structlog

django = get_wsgi_application()

from fundapi.web.overload import OverloadControl  # noqa: E402 - it needs the settings
from fundapi.web.vitals import Vitals  # noqa: E402 - likewise


def in_one_piece(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer by Django. What is no stream is a list: done with when it is returned, and Granian sends it at once."""
    response = django(environ, start_response)
    if not isinstance(response, HttpResponse):
        return response
    body = [response.content]
    response.close()
    return body


application = OverloadControl(in_one_piece)
Vitals(application.held, hung=settings.WEB_HUNG_SECONDS, connections_max=settings.WEB_CONNECTIONS).start()
