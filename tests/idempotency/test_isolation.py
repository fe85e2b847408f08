"""One table, many namespaces: users, environments and operations never meet in it."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User

from idempotency.models import IdempotencyKey
from idempotency.purge import purge_expired
from tests.answers import assert_problem, funds_of
from tests.conftest import FUND, Api
from tests.obedience import query
from tests.servers import Server, running_server


@pytest.fixture(scope="module")
def other_server(database: None) -> Iterator[Server]:
    """Another environment on the same database."""
    with running_server(workers=1, ENVIRONMENT="other") as running:
        yield running


@pytest.fixture
def elsewhere(other_server: Server, user: User) -> Iterator[Api]:
    """The same user, in the other environment."""
    with Api(other_server, user) as client:
        yield client


def test_environments_that_share_a_database_never_replay_each_other(
    api: Api, elsewhere: Api, user: User, key: str
) -> None:
    here, there = api.create(key), elsewhere.create(key)
    assert (here.status_code, there.status_code) == (201, 201)
    assert here.json()["id"] != there.json()["id"]
    assert api.create(key).content == here.content
    assert elsewhere.create(key).content == there.content
    assert funds_of(user) == 2


def test_environments_that_share_a_database_never_conflict(api: Api, elsewhere: Api, key: str) -> None:
    assert api.create(key).status_code == 201
    assert elsewhere.create(key, FUND | {"size": 1}).status_code == 201
    assert api.create(key, FUND | {"size": 1}).status_code == 409
    assert elsewhere.create(key).status_code == 409


def test_each_environment_takes_its_own_namespaced_keys_only(api: Api, elsewhere: Api, key: str) -> None:
    assert api.create(f"test|fund-create|{key}").status_code == 201
    assert elsewhere.create(f"other|fund-create|{key}").status_code == 201
    problem = assert_problem(
        elsewhere.create(f"test|fund-create|{key}"), 400, "idempotency_key_environment_mismatch"
    )
    assert "'other'" in problem["detail"]
    assert_problem(api.create(f"other|fund-create|{key}"), 400, "idempotency_key_environment_mismatch")


def test_a_token_cannot_spell_another_namespace(api: Api, elsewhere: Api, key: str) -> None:
    """Separators of any kind inside a token stay inside it."""
    for token in (f"other:fund-create:{key}", f"other.fund-create.{key}", f"~{key}~"):
        first = api.create(token)
        assert first.status_code == 201
        assert elsewhere.create(token).json()["id"] != first.json()["id"]


def test_the_rows_say_whose_they_are(api: Api, elsewhere: Api, user: User, key: str) -> None:
    api.create(key)
    elsewhere.create(key)
    rows = IdempotencyKey.objects.filter(principal=str(user.pk)).values_list(
        "environment", "operation", "token"
    )
    assert set(rows) == {("test", "fund-create", key), ("other", "fund-create", key)}


def test_users_with_one_key_have_one_answer_each(
    server: Server, make_user: Callable[..., User], key: str
) -> None:
    users = [make_user() for _ in range(3)]
    answers = []
    for size, user in enumerate(users):
        with Api(server, user) as api:
            answers.append(api.create(key, FUND | {"size": size}))
    assert {answer.status_code for answer in answers} == {201}
    for size, (user, answer) in enumerate(zip(users, answers, strict=True)):
        with Api(server, user) as api:
            assert api.create(key, FUND | {"size": size}).content == answer.content
        assert funds_of(user) == 1


def test_a_user_cannot_spell_another_user(server: Server, make_user: Callable[..., User]) -> None:
    """User 1 with the token "1x" and user 11 with the token "x" must stay two."""
    # Free, and ten times it is still an integer.
    short = make_user(id=10_000_000 + uuid.uuid4().int % 100_000_000)
    long = make_user(id=short.pk * 10 + 1)
    with Api(server, short) as one, Api(server, long) as two:
        first: httpx.Response = one.create("1x")
        assert two.create("x").json()["id"] != first.json()["id"]


def test_a_purge_takes_the_expired_keys_of_every_environment(
    api: Api, elsewhere: Api, user: User, key: str
) -> None:
    api.create(key)
    elsewhere.create(key)
    query(
        "UPDATE idempotency_store SET created_at = created_at - interval '2 days',"
        " expires_at = expires_at - interval '2 days' WHERE principal = %s",
        str(user.pk),
    )
    purge_expired()
    left: Any = IdempotencyKey.objects.filter(principal=str(user.pk))
    assert left.count() == 0
