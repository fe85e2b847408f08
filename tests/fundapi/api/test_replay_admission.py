"""A replay is as protected as the view: each retry is admitted anew, however often the key was replayed before."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from knox.models import AuthToken

from idempotency.models import IdempotencyKey
from tests.answers import funds_of
from tests.conftest import FUND, token_of

Post = Callable[..., Any]


@pytest.fixture
def post(user: User, key: str) -> Post:
    """Send the same request under ``key``, in this process."""
    client, bearer = Client(), f"Bearer {token_of(user)}"

    def send(authorization: str = bearer, body: Any = FUND) -> Any:
        headers = {"Idempotency-Key": key, "Authorization": authorization}
        return client.post("/api/funds", json.dumps(body), content_type="application/json", headers=headers)

    return send


@pytest.fixture
def stored(post: Post) -> Any:
    """The first answer, which has been replayed once already."""
    first = post()
    assert first.status_code == 201
    assert post().content == first.content
    return first


def test_a_replay_takes_two_reads_and_no_transaction(post: Post, stored: Any) -> None:
    """Reads of a replay: the caller, then the stored answer."""
    with CaptureQueriesContext(connection) as captured:
        again = post()
    assert (again.status_code, again.content) == (200, stored.content)
    statements = [query["sql"].split()[0] for query in captured]
    assert statements == ["SELECT", "SELECT"]
    assert "knox_authtoken" in captured[0]["sql"]
    assert "FROM idempotency_store" in captured[1]["sql"]


def test_what_is_kept_of_a_request_holds_no_credentials(post: Post, user: User) -> None:
    """Views and log lines find it on the request."""
    token = token_of(user)
    request = post(f"Bearer {token}").wsgi_request
    assert str(user.pk) in repr(request.idempotency)
    assert token not in repr(request.idempotency)


def test_a_session_retries_too(user: User, key: str) -> None:
    client = Client()
    client.force_login(user)

    def send() -> Any:
        headers = {"Idempotency-Key": key}
        return client.post("/api/funds", json.dumps(FUND), content_type="application/json", headers=headers)

    first = send()
    assert [send().content, send().content] == [first.content] * 2
    assert funds_of(user) == 1


def revoke(user: User) -> None:
    AuthToken.objects.filter(user=user).delete()


def expire(user: User) -> None:
    AuthToken.objects.filter(user=user).update(expiry=timezone.now() - timedelta(seconds=1))


def deactivate(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)


def forbid(user: User) -> None:
    user.user_permissions.remove(Permission.objects.get(codename="add_fund"))


@pytest.mark.parametrize(
    ("fault", "status"), [(revoke, 401), (expire, 401), (deactivate, 401), (forbid, 403)]
)
def test_a_caller_who_is_turned_away_sees_nothing_of_the_stored_answer(
    post: Post, stored: Any, user: User, fault: Callable[[User], None], status: int
) -> None:
    fault(user)
    answer = post()
    assert answer.status_code == status
    assert json.loads(stored.content)["createdAt"] not in answer.content.decode()
    assert "Idempotency-Status" not in answer.headers


def test_another_user_with_the_same_key_creates_their_own_fund(
    post: Post, stored: Any, make_user: Callable[..., User]
) -> None:
    other = make_user()
    theirs = f"Bearer {token_of(other)}"
    first = post(theirs)
    assert first.status_code == 201
    assert post(theirs).content == first.content != stored.content


def test_another_body_is_a_conflict_after_a_replay_too(post: Post, stored: Any) -> None:
    assert post(body=FUND | {"size": 1}).status_code == 409
    assert post().content == stored.content


def test_a_key_that_was_deleted_after_a_replay_creates_anew(
    post: Post, stored: Any, user: User, key: str
) -> None:
    """An operator has deleted it: that this process stored it does not count."""
    IdempotencyKey.objects.filter(token__endswith=key, principal=str(user.pk)).delete()
    assert post().status_code == 201
    assert funds_of(user) == 2
