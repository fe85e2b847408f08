"""Valkey counts for throttles and carries tasks. Without it funds are created, replayed and refused as ever."""

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User

from rollout.models import Rollout
from tests.conftest import Api
from tests.eventually import eventually
from tests.reliability.conftest import fund, funds_of
from tests.reliability.valkey import Valkey
from tests.servers import Server, running_server


@pytest.fixture
def throttled(valkey: Valkey, database: None) -> Iterator[Server]:
    """A server that lets each user create three funds an hour, while it can count. Nothing is judged."""
    Rollout.objects.update(percentage=0)
    with running_server(workers=1, threads=2, REDIS_URL=valkey.url, FUND_CREATE_RATE="3/hour") as running:
        yield running


@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_without_valkey_the_throttle_opens_and_nothing_else_changes(
    throttled: Server, valkey: Valkey, user: User, key: str, fault: str
) -> None:
    with Api(throttled, user) as api:
        assert [api.create().status_code for _ in range(4)] == [201, 201, 201, 429]
        assert api.get("/health").json()["status"] == "ok"
        getattr(valkey, fault)()

        created = api.create(key)
        assert (created.status_code, created.headers["Idempotency-Status"]) == (201, "created")
        replayed = api.create(key)
        assert (replayed.status_code, replayed.content) == (200, created.content)
        conflict = api.create(key, fund(size=1))
        assert (conflict.status_code, conflict.json()["code"]) == (409, "idempotency_key_reused")
        for _ in range(20):
            assert api.create().status_code == 201
        health = api.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert health.json()["checks"] == {"database": "ok", "valkey": "unavailable", "judge": "idle"}
        assert api.get("/readyz").status_code == 200
    assert funds_of(user) == 24
    # Not every request has paid for the time-out: after one, none asks Valkey until it takes a write again.
    assert throttled.log.count("valkey_not_usable") == 1


def test_when_valkey_is_back_the_throttle_counts_again(throttled: Server, valkey: Valkey, user: User) -> None:
    with Api(throttled, user) as api:
        assert api.create().status_code == 201
        valkey.kill()
        assert api.create().status_code == 201
        valkey.start()
        eventually(api.create, lambda answer: answer.status_code == 429)
        assert api.get("/health").json()["status"] == "ok"
