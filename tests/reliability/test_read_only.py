"""A database that takes no writes: whatever needs none is answered as ever, and a first request is a 503."""

import uuid
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from idempotency import keys
from idempotency.conf import conf
from idempotency.models import IdempotencyKey
from tests.conftest import FUND, Api
from tests.reliability.conftest import funds_of
from tests.servers import Server, running_server, superuser_url

OTHER = FUND | {"name": "Harbor Growth II"}


@pytest.fixture(scope="module")
def read_only(database: None) -> Iterator[Server]:
    """The product on a role whose transactions are read-only, as all are on a server in recovery."""
    role, settings = f"read_only_{uuid.uuid4().hex[:8]}", connection.settings_dict
    with psycopg.connect(superuser_url(), autocommit=True) as superuser:
        superuser.execute(f"CREATE ROLE {role} LOGIN IN ROLE fundapi")
        superuser.execute(f"ALTER ROLE {role} SET default_transaction_read_only = on")
        url = f"postgres://{role}@/{settings['NAME']}?host={settings['HOST']}"
        with running_server(workers=1, DATABASE_URL=url) as running:
            yield running
        superuser.execute(f"DROP ROLE {role}")


@pytest.fixture
def stuck(read_only: Server, user: User) -> Iterator[Api]:
    """A client of the same user as ``api``, who finds the database read-only."""
    with Api(read_only, user) as client:
        yield client


def test_a_retry_is_replayed(api: Api, stuck: Api, key: str) -> None:
    first = api.create(key)
    again = stuck.create(key)
    assert (again.status_code, again.headers["Idempotency-Status"]) == (200, "replayed")
    assert (again.content, again.headers["Location"]) == (first.content, first.headers["Location"])


def test_a_reused_key_is_a_conflict(api: Api, stuck: Api, user: User, key: str) -> None:
    """It cannot be counted on the key, and the client is told all the same."""
    api.create(key)
    answer = stuck.create(key, OTHER)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_reused")
    assert answer.headers["Idempotency-Status"] == "conflict"
    assert "Retry-After" not in answer.headers
    stored = IdempotencyKey.objects.get(principal=str(user.pk), token=key)
    assert (stored.conflicts, funds_of(user)) == (0, 1)


@pytest.mark.parametrize("waits", [{}, {"Prefer": "wait=1"}], ids=["at once", "after a wait"])
def test_a_running_request_is_a_conflict(stuck: Api, user: User, key: str, waits: dict[str, str]) -> None:
    digest = keys.digest(
        environment=conf.environment, operation="fund-create", principal=str(user.pk), token=key
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (keys.lock_id(digest),))
        answer = stuck.create(key, **waits)
        cursor.execute("SELECT pg_advisory_unlock(%s)", (keys.lock_id(digest),))
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_request_in_progress")
    assert answer.headers["Retry-After"] == "1"


def test_a_first_request_is_told_to_come_back(stuck: Api, user: User, key: str) -> None:
    answer = stuck.create(key)
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert answer.headers["Retry-After"] == "1"
    assert funds_of(user) == 0


def test_an_expired_key_is_a_first_request(api: Api, stuck: Api, user: User, key: str) -> None:
    api.create(key)
    long_ago = timezone.now() - timedelta(days=2)
    IdempotencyKey.objects.filter(principal=str(user.pk), token=key).update(
        created_at=long_ago, expires_at=long_ago + timedelta(days=1)
    )
    assert stuck.create(key).status_code == 503


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("not a key", "idempotency_key_invalid"),
        ("prod|fund-create|a", "idempotency_key_environment_mismatch"),
        ("test|fund-delete|a", "idempotency_key_operation_mismatch"),
    ],
)
def test_a_wrong_key_is_wrong(stuck: Api, key: str, code: str) -> None:
    answer = stuck.create(key)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_a_missing_key_is_missing(stuck: Api) -> None:
    assert stuck.post("/api/funds", json=FUND).json()["code"] == "idempotency_key_missing"


def test_a_wrong_fund_is_wrong(stuck: Api) -> None:
    assert stuck.create(body=FUND | {"size": -1}).status_code == 400


def test_a_stranger_is_turned_away(read_only: Server) -> None:
    with Api(read_only) as stranger:
        assert stranger.create().status_code == 401


def test_what_reads_is_answered(api: Api, stuck: Api) -> None:
    made = api.create().json()
    assert stuck.get(f"/api/funds/{made['id']}").json() == made
    assert stuck.get("/api/funds").json()["results"] == [made]
    assert stuck.get("/api/rollouts").status_code == 200
    assert stuck.post("/ofrep/v1/evaluate/flags", json={"context": {"targetingKey": "a"}}).status_code == 200
