"""A creation with a bearer token goes a short way. Whatever a client sends, its answer is that of the whole way."""

import gc
import json
import re
import uuid
from collections.abc import Callable
from contextlib import closing
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.test import RequestFactory

from tests.conftest import FUND, Api, token_of
from tests.obedience import CRASH, DEADLOCK, FAIL_AT_COMMIT
from tests.servers import Server

GOOD = '{"name": "Harbor", "size": 1}'
# Headers that make a request go the whole way: through DRF's dispatch, and through Django's middlewares.
WHOLE = {
    "dispatch": {"Accept": "application/json, text/plain;q=0.1"},
    "middlewares": {"Cookie": "theme=dark"},
}
OF_ITS_OWN = {"x-request-id", "date", "idempotency-key"}
BODIES = [
    *(
        GOOD,
        "",
        "{}",
        "null",
        "[]",
        "7",
        '"x"',
        "{",
        GOOD + "x",
        '{"name": "a", "name": "b"}',
        '{"size": NaN}',
    ),
    *('{"name": "a\\ud800", "size": 1}', '{"name": "a\\u0000", "size": 1}', '{"name": " ", "size": -1}'),
    *(
        '{"name": "a", "size": 1.001, "color": 1}',
        '{"name": null, "size": "1"}',
        '{"name": "a", "size": 1e400}',
    ),
    *(
        '{"name": "a", "size": 1, "engineResults": {"irr": 0.10}}',
        '{"name": "a", "size": 1, "engineResults": [1]}',
    ),
    '{"name": "a", "size": 1, "engineResults": {"n": [' + "1e1000," * 300 + "1]}}",
    *(f'{{"name": "{name}", "size": 1}}' for name in (CRASH, DEADLOCK, FAIL_AT_COMMIT)),
    "[" * 70 + "]" * 70,
    '{"name": "' + "n" * 300_000 + '"}',
]
HEADERS: list[dict[str, str]] = [
    {},
    {"Content-Type": "text/plain"},
    {"Content-Type": "application/json; charset=utf-8"},
    {"Content-Type": "application/vnd.fund+json"},
    {"Content-Type": "APPLICATION/JSON"},
    {"Content-Type": "application/*"},
    {"Content-Type": ""},
    {"Content-Type": "application/x-www-form-urlencoded"},
    {"Content-Type": "multipart/form-data; boundary=x"},
    {"Content-Encoding": "gzip"},
    {"Idempotency-Key": ""},
    {"Idempotency-Key": '"KEY"'},
    {"Idempotency-Key": "a b"},
    {"Idempotency-Key": "test:fund-create:KEY"},
    {"Authorization": ""},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer a"},
    {"Authorization": "Bearer a b"},
    {"Authorization": "bearer a"},
    {"Authorization": "Basic YTpi"},
    {"Signed-In-As": "0"},
    {"Prefer": "wait=1"},
    {"Origin": "https://evil.example"},
    {"Host": "evil.example"},
    {"X-HTTP-Method-Override": "GET"},
]


def seen(response: httpx.Response) -> Any:
    """Return all of a response that does not differ from one request to the next."""
    headers = {name: value for name, value in response.headers.items() if name not in OF_ITS_OWN}
    headers.pop("location", None)
    headers["vary"] = headers.get("vary", "").replace("Cookie, ", "")  # of a refusal, which no cache keeps
    if response.status_code == 201:
        del headers["content-length"]  # of an id
    return response.status_code, headers, re.sub(r'"(id|createdAt)":("[^"]*"|\d+)', "", response.text)


@pytest.mark.parametrize("whole", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("body", BODIES, ids=lambda body: body[:40])
@pytest.mark.usefixtures("obedience")
def test_every_body_gets_the_same_answer(api: Api, body: str, whole: dict[str, str]) -> None:
    short, long = api.create(body=body), api.create(body=body, **whole)
    assert seen(short) == seen(long)


@pytest.mark.parametrize("whole", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("headers", HEADERS, ids=str)
def test_every_header_gets_the_same_answer(api: Api, headers: dict[str, str], whole: dict[str, str]) -> None:
    answers = []
    for more in ({}, whole):
        key = headers.get("Idempotency-Key", "KEY").replace("KEY", uuid.uuid4().hex)
        answers.append(seen(api.create(body=GOOD, **more | headers | {"Idempotency-Key": key})))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("whole", WHOLE.values(), ids=WHOLE)
def test_either_way_replays_and_refuses_what_came_the_other_way(
    api: Api, key: str, whole: dict[str, str]
) -> None:
    first = api.create(key)
    again = api.create(key, **whole)
    assert (first.status_code, again.status_code, again.content) == (201, 200, first.content)
    assert seen(api.create(key)) == seen(again)
    refused = [api.create(key, FUND | {"name": "Another"}, **more) for more in ({}, whole)]
    assert seen(refused[0]) == seen(refused[1])
    assert refused[0].status_code == 409


@pytest.mark.parametrize("whole", WHOLE.values(), ids=WHOLE)
def test_users_who_may_not_are_told_the_same(
    server: Server, make_user: Callable[..., User], whole: dict[str, str]
) -> None:
    with Api(server, make_user(may_create=False)) as api:
        short, long = api.create(), api.create(**whole)
    assert short.status_code == 403
    assert seen(short) == seen(long)


def requests() -> set[int]:
    """Return the requests that are held. By type: ``isinstance`` would evaluate the lazy objects of other tests."""
    return {id(each) for each in gc.get_objects() if type(each) is WSGIRequest}


@pytest.mark.parametrize(
    ("path", "body", "bearer", "status"),
    [
        ("/api/funds", FUND, True, "201"),
        ("/api/funds", FUND | {"name": ""}, True, "400"),
        ("/api/funds", FUND, False, "401"),
        ("/api/telemetry", {"clientId": "c", "sessionId": "s", "events": []}, False, "202"),
        ("/api/telemetry", {}, False, "400"),
    ],
)
def test_a_body_is_freed_without_the_garbage_collector(
    user: User, path: str, body: dict[str, Any], bearer: bool, status: str
) -> None:
    """It counts objects, not bytes, and each may hold a body of 256 KiB."""
    headers = {"Authorization": f"Bearer {token_of(user) if bearer else 'unknown'}"}
    headers["Idempotency-Key"] = uuid.uuid4().hex
    sent = RequestFactory().post(path, json.dumps(body), "application/json", headers=headers)
    handler: Any = WSGIHandler()
    environ, statuses = sent.environ, list[str]()
    # Empty as it is, it would lead through Django's middlewares, which leave circles of their own.
    del environ["HTTP_COOKIE"]
    gc.collect()
    held_before = requests()
    gc.disable()
    try:
        with closing(handler(environ, lambda line, _: statuses.append(line))) as answer:
            assert b"".join(answer)
        del answer
        assert statuses[0].startswith(status)
        assert requests() <= held_before
    finally:
        gc.enable()
