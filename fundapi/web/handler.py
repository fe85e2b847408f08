"""Django's WSGI handler and its headers, shorter where this project needs less: 0.91 of a replay, 0.87 of a poll.

Django notes the prefix of all addresses and the URLconf for each thread, at each request. Here the URLconf is always
``ROOT_URLCONF``, and there is a prefix only where the server has one. So a middleware must not set ``request.urlconf``,
and tools that patch ``WSGIHandler.__call__`` or ``get_response`` see no request.

This leans on internals: ``_middleware_chain`` of Django's handlers, ``_resource_closers`` and ``_handler_class`` of a
response, ``_store`` of its headers, and the receiver ``reset_urlconf``.
"""

from collections.abc import ItemsView, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from django.core.handlers.base import reset_urlconf
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest, get_script_name
from django.core.signals import request_finished, request_started
from django.http.response import ResponseHeaders
from django.urls import set_script_prefix
from django.utils.log import log_response


class Handler(WSGIHandler):
    """Django's handler, for one URLconf. A file of a view is sent as any other stream."""

    def __init__(self) -> None:
        super().__init__()
        request_finished.disconnect(reset_urlconf)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        if environ.get("SCRIPT_NAME"):
            set_script_prefix(get_script_name(environ))
        request_started.send(sender=Handler, environ=environ)
        request = WSGIRequest(environ)
        response: Any = self._middleware_chain(request)  # type: ignore[attr-defined]  # not in the stubs
        response._resource_closers.append(request.close)  # noqa: SLF001 - closed with it
        response._handler_class = Handler  # noqa: SLF001 - who sends request_finished
        if response.status_code >= 400:
            log_response("%s: %s", response.reason_phrase, request.path, response=response, request=request)
        cookies = [("Set-Cookie", cookie.output(header="")) for cookie in response.cookies.values()]
        status = f"{int(response.status_code)} {response.reason_phrase}"  # 200.0 is one to Django, and not to Granian
        start_response(status, [*response.headers.items(), *cookies])
        return response


class Headers(ResponseHeaders):
    """Headers of a response that take plain text as it is. Django tries to encode each name and each value."""

    def __init__(self, others: ResponseHeaders) -> None:
        """Go on with the headers of a response."""
        self._store: dict[str, tuple[str, str]] = others._store  # noqa: SLF001 - of the same class

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._store

    def __setitem__(self, name: str, value: Any) -> None:
        is_text = type(name) is str and type(value) is str
        if is_text and (name + value).isascii() and (name + value).isprintable():
            self._store[name.lower()] = (name, value)
        else:
            super().__setitem__(name, value)

    def get(self, name: str, default: Any = None) -> Any:
        return self._store.get(name.lower(), (name, default))[1]

    def setdefault(self, name: str, value: Any) -> None:
        if name not in self:
            self[name] = value

    def items(self) -> ItemsView[str, str]:
        return Items(self)


class Items(ItemsView[str, str]):
    """The names and values of headers, without looking each name up."""

    _mapping: Headers

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._mapping._store.values())  # noqa: SLF001 - of the class above
