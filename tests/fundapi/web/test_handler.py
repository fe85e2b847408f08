"""The handler answers as Django's does, and its headers take and refuse what Django's do."""

import pickle
from collections.abc import Iterator
from http import HTTPStatus
from io import BytesIO
from typing import Any

import pytest
from django.core.handlers.base import reset_urlconf
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.http import HttpResponse
from django.http.response import BadHeaderError, ResponseHeaders
from django.urls import get_script_prefix, set_script_prefix

from fundapi.web.handler import Handler, Headers


@pytest.fixture(scope="module")
def handlers(database: None) -> Iterator[tuple[WSGIHandler, Handler]]:
    yield WSGIHandler(), Handler()
    request_finished.connect(reset_urlconf)  # which a handler of ours has no use for


def environ(path: str, **others: str) -> dict[str, Any]:
    sent = {"HTTP_HOST": "localhost", "HTTP_X_REQUEST_ID": "the-same-in-both", **others}
    server = {"SERVER_NAME": "localhost", "SERVER_PORT": "80", "wsgi.url_scheme": "http"}
    return {"REQUEST_METHOD": "GET", "PATH_INFO": path, "wsgi.input": BytesIO(), **server, **sent}


def answer(handler: WSGIHandler, request: dict[str, Any]) -> tuple[Any, ...]:
    said: list[Any] = []

    def start(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
        said.append((status, sorted(headers)))

    response: Any = handler(request, start)
    body = b"".join(response)
    response.close()
    return (*said, body)


@pytest.mark.parametrize(
    "request_of",
    [
        environ("/api/rollouts"),
        environ("/api/nowhere"),
        environ("/api/funds"),
        environ("/api/funds", HTTP_COOKIE="sessionid=none"),
        environ("/nowhere"),
        environ("/admin/"),
        environ("/livez"),
        environ("/api/rollouts", HTTP_HOST="elsewhere.example"),
        environ("/api/problems/throttled", REQUEST_METHOD="OPTIONS", HTTP_ORIGIN="https://a.example"),
        environ("//api//funds", HTTP_ACCEPT="text/html"),
        environ("/admin/", SCRIPT_NAME="/prefix"),
    ],
    ids=lambda request: f"{request['PATH_INFO']} {request['HTTP_HOST']} {request.get('SCRIPT_NAME', '')}",
)
def test_it_answers_as_djangos_own_does(
    handlers: tuple[WSGIHandler, Handler], request_of: dict[str, Any]
) -> None:
    try:
        theirs, ours = (answer(handler, {**request_of, "wsgi.input": BytesIO()}) for handler in handlers)
    finally:
        set_script_prefix("/")
    assert ours == theirs


def test_a_cookie_is_set_once_for_each_of_them(handlers: tuple[WSGIHandler, Handler]) -> None:
    def respond(_request: Any) -> HttpResponse:
        response = HttpResponse("ok")
        response.set_cookie("one", "1")
        response.set_cookie("two", "2", secure=True)
        return response

    handler: Any = Handler()
    handler._middleware_chain = respond
    status, headers = answer(handler, environ("/"))[0]
    assert status == "200 OK"
    cookies = [value.strip() for name, value in headers if name == "Set-Cookie"]
    assert cookies == ["one=1; Path=/", "two=2; Path=/; Secure"]


@pytest.mark.parametrize("status", [HTTPStatus.OK, 200.0, 299, True], ids=repr)
def test_a_status_is_said_as_django_says_it(
    handlers: tuple[WSGIHandler, Handler], monkeypatch: pytest.MonkeyPatch, status: Any
) -> None:
    def respond(_request: Any) -> HttpResponse:
        response = HttpResponse("ok")
        response.status_code = status
        return response

    for handler in handlers:
        monkeypatch.setattr(handler, "_middleware_chain", respond)
    theirs, ours = (answer(handler, environ("/")) for handler in handlers)
    assert ours == theirs


def test_a_server_with_a_prefix_has_it_in_its_addresses(handlers: tuple[WSGIHandler, Handler]) -> None:
    try:
        answer(handlers[1], environ("/livez", SCRIPT_NAME="/prefix"))
        assert get_script_prefix() == "/prefix/"
    finally:
        set_script_prefix("/")


def test_each_request_is_announced_and_closed(handlers: tuple[WSGIHandler, Handler]) -> None:
    seen: list[Any] = []

    def started(sender: Any, **_: Any) -> None:
        seen.append(("started", sender))

    def finished(sender: Any, **_: Any) -> None:
        seen.append(("finished", sender))

    request_started.connect(started)
    request_finished.connect(finished)
    try:
        answer(handlers[1], environ("/livez"))
    finally:
        request_started.disconnect(started)
        request_finished.disconnect(finished)
    assert seen == [("started", Handler), ("finished", Handler)]


VALUES = [
    "text",
    "",
    "größer",
    "naïve €",
    b"bytes",
    b"\xe9",
    17,
    "tab\tinside",
    "two\nlines",
    "two\rlines",
    b"a\nb",
]


@pytest.mark.parametrize("name", ["X-Plain", "X-Gr\xf6sse", "X\nY", b"X-Bytes"])
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_headers_take_and_refuse_what_djangos_do(name: Any, value: Any) -> None:
    def stored(headers: ResponseHeaders) -> Any:
        try:
            headers[name] = value
        except (BadHeaderError, UnicodeError) as error:
            return type(error)
        return list(headers.items())

    assert stored(Headers(ResponseHeaders({}))) == stored(ResponseHeaders({}))


def test_names_of_headers_have_no_case() -> None:
    headers = Headers(ResponseHeaders({"Content-Type": "text/plain"}))
    headers.setdefault("content-type", "text/html")
    headers.setdefault("Vary", "origin")
    assert headers["content-TYPE"] == headers.get("CONTENT-type") == "text/plain"
    assert "vary" in headers
    assert "VARY" in headers
    assert "X-None" not in headers
    assert (headers.get("X-None"), headers.get("X-None", "other")) == (None, "other")
    headers["VARY"] = "cookie"
    assert list(headers.items()) == [("Content-Type", "text/plain"), ("VARY", "cookie")]
    del headers["vary"]
    assert [*headers] == ["Content-Type"]


def test_items_of_headers_compare_and_combine_as_djangos_do() -> None:
    plain = ResponseHeaders({"Content-Type": "text/plain", "Vary": "origin"})
    headers = Headers(ResponseHeaders(plain))
    assert headers.items() == plain.items() == {("Content-Type", "text/plain"), ("Vary", "origin")}
    assert ("VARY", "origin") in headers.items()
    assert ("Vary", "cookie") not in headers.items()
    assert headers.items() - {("Vary", "origin")} == {("Content-Type", "text/plain")}
    assert headers == plain == headers
    assert pickle.loads(pickle.dumps(headers)) == plain
