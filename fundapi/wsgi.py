import os
import sys
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fundapi.settings")
# Django REST Framework and structlog import what they find. Commands need the first two, and the admin and the API's
# document the others, when they are shown; a web worker does without: 11 MiB and 0.1 s of its start.
_unused = ("requests", "rich")
_unused_by_drf = ("pygments", "yaml")
for _name in _unused + _unused_by_drf:
    sys.modules.setdefault(_name, None)  # type: ignore[arg-type]  # Python's own way to say "is not there"

django = get_wsgi_application()

import rest_framework.compat  # noqa: E402, F401 - where it looks for them

for _name in _unused_by_drf:
    if sys.modules[_name] is None:
        del sys.modules[_name]

from fundapi.web.overload import Admission  # noqa: E402 - it needs the settings


def in_one_piece(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer by Django. What is no stream is a list: done with when it is returned, and Granian sends it at once."""
    response = django(environ, start_response)
    if not isinstance(response, HttpResponse):
        return response
    body = [response.content]
    response.close()
    return body


application = Admission(in_one_piece)
