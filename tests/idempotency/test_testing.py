"""The helpers for the tests of a project, and the signal of each guarded request."""

import json
import uuid
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from idempotency.models import IdempotencyKey
from idempotency.signals import answered
from idempotency.testing import assert_idempotent, forget_keys, in_progress, new_key

FUND = {"name": "Harbor Growth I", "size": 250_000_000}


@pytest.fixture
def client(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def post(client: Client, key: str, **fields: Any) -> Any:
    return client.post(
        "/api/funds", json.dumps(FUND | fields), "application/json", headers={"Idempotency-Key": key}
    )


def test_a_view_that_keeps_the_promise_passes(client: Client) -> None:
    assert assert_idempotent(lambda key: post(client, key)).status_code == 201


def test_a_view_that_does_not_is_named(client: Client) -> None:
    with pytest.raises(AssertionError, match="first answer has the status 400"):
        assert_idempotent(lambda key: post(client, key, size="much"))
    with pytest.raises(AssertionError, match="first answer has the status 302 and Idempotency-Status None"):
        assert_idempotent(lambda _: client.get("/admin/login"))


def test_keys_can_be_forgotten(client: Client, user: User) -> None:
    key = new_key()
    post(client, key)
    assert forget_keys(principal="somebody else") == 0
    assert forget_keys(principal=str(user.pk)) == 1
    assert not IdempotencyKey.objects.filter(token=key).exists()
    assert post(client, key, size=1).status_code == 201


def test_a_key_can_be_in_progress(client: Client, user: User) -> None:
    key = new_key()
    with in_progress("fund-create", key, principal=str(user.pk)):
        refused = post(client, key)
    assert (refused.status_code, refused.json()["code"]) == (409, "idempotency_request_in_progress")
    assert post(client, key).status_code == 201


def test_a_project_hears_how_each_guarded_request_ended(client: Client, user: User) -> None:
    heard: list[tuple[str, str, str]] = []

    def listen(*, idempotency: Any, **_: Any) -> None:
        heard.append((idempotency.operation, idempotency.principal, idempotency.outcome))
        raise ZeroDivisionError  # and changes no answer

    key = uuid.uuid4().hex
    answered.connect(listen)
    try:
        statuses = [
            post(client, key, **fields).status_code for fields in ({}, {}, {"size": 1}, {"size": "x"})
        ]
    finally:
        answered.disconnect(listen)
    assert statuses == [201, 200, 409, 409]
    assert heard == [
        ("fund-create", str(user.pk), outcome)
        for outcome in ("created", "replayed", "key_reused", "key_reused")
    ]
