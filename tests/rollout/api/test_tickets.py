"""``POST /api/telemetry/ticket``: for sessions and bearer tokens, cheap, and never cached."""

import time
import uuid
from collections.abc import Callable
from datetime import datetime

import httpx
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from fundapi.api import throttling
from rollout import tickets
from tests.answers import assert_problem
from tests.conftest import Api
from tests.servers import Server, running_server

PATH = "/api/telemetry/ticket"


def test_a_token_gets_a_ticket_of_its_user(api: Api, user: User) -> None:
    answer = api.post(PATH)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    body = answer.json()
    assert body.keys() == {"ticket", "expiresAt"}
    assert tickets.read(body["ticket"]) == tickets.signer_of(user.pk)
    lasts = datetime.fromisoformat(body["expiresAt"]).timestamp() - time.time()
    assert 3500 < lasts <= 3600


def test_a_session_gets_one_with_its_csrf_token_only(user: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(user)
    assert browser.post(PATH).status_code == 403
    browser.get("/fund-setup")
    answer = browser.post(PATH, headers={"X-CSRFToken": browser.cookies["csrftoken"].value})
    assert tickets.read(answer.json()["ticket"]) == tickets.signer_of(user.pk)


def test_nobody_else_gets_one(server: Server, make_user: Callable[..., User]) -> None:
    assert_problem(httpx.post(server.url + PATH), 401, "not_authenticated")
    wrong = {"Authorization": "Bearer wrong"}
    assert_problem(httpx.post(server.url + PATH, headers=wrong), 401, "authentication_failed")
    gone = make_user(may_create=False)
    with Api(server, gone) as api:
        assert api.post(PATH).status_code == 200  # no right to create funds is needed
        User.objects.filter(pk=gone.pk).update(is_active=False)
        assert_problem(api.post(PATH), 401, "authentication_failed")


def test_nothing_but_the_caller_is_looked_up(user: User) -> None:
    browser = Client()
    browser.force_login(user)
    with CaptureQueriesContext(connection) as queries:
        assert browser.post(PATH).status_code == 200
    assert [query["sql"].split("FROM")[1].split()[0] for query in queries] == [
        '"django_session"',
        '"auth_user"',
    ]


def test_each_user_has_a_throttle(
    user: User, make_user: Callable[..., User], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttling, "TICKET_RATE", "2/minute")
    browser = Client()
    browser.force_login(user)
    assert [browser.post(PATH).status_code for _ in range(3)] == [200, 200, 429]
    browser.force_login(make_user(may_create=False))
    assert browser.post(PATH).status_code == 200


def test_a_ticket_opens_nothing_else(server: Server, user: User) -> None:
    ticket = tickets.issue(user.pk).text
    for headers in ({"Authorization": f"Bearer {ticket}"}, {"Cookie": f"sessionid={ticket}"}):
        assert httpx.get(f"{server.url}/api/funds", headers=headers).status_code == 401
        assert httpx.post(server.url + PATH, headers=headers).status_code == 401


def test_a_frontend_of_a_listed_origin_gets_one(user: User) -> None:
    ours, other = "https://app.example", "https://evil.example"
    with running_server(workers=1, CORS_ALLOWED_ORIGINS=ours) as server, Api(server, user) as api:
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        allowed = api.options(PATH, headers={"Origin": ours, **asked})
        assert allowed.headers["Access-Control-Allow-Origin"] == ours
        assert "authorization" in allowed.headers["Access-Control-Allow-Headers"]
        answer = api.post(PATH, headers={"Origin": ours})
        assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, ours)
        assert "Access-Control-Allow-Origin" not in api.post(PATH, headers={"Origin": other}).headers
        batch = {"clientId": uuid.uuid4().hex, "sessionId": "1", "events": [], **answer.json()}
        assert api.post("/api/telemetry", json=batch, headers={"Origin": ours}).json().get("ticket") is None
