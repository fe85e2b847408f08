"""``GET /api/rollouts`` answers all browsers that poll it, cheaply."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from typing import Any

import httpx
import psycopg
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from rollout import configuration, operations
from rollout.models import Rollout
from tests.eventually import eventually
from tests.rollout.conftest import MakeRollout
from tests.servers import Server, database_url, running_server

BLOCKED = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    " AND query LIKE '%%rollout_rollout%%'"
)


def entry_of(response: httpx.Response, feature: str) -> dict[str, Any]:
    (found,) = [rollout for rollout in response.json()["rollouts"] if rollout["feature"] == feature]
    return dict(found)


def test_anybody_gets_every_rollout_in_the_shape_the_browser_module_reads(
    server: Server, make_rollout: MakeRollout
) -> None:
    rollout = make_rollout(percentage=Decimal("12.34"), track_migrations=False)
    response = httpx.get(server.url + "/api/rollouts")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "public, max-age=5"
    document = response.json()
    assert set(document) == {"environment", "pollInterval", "rollouts"}
    assert (document["environment"], document["pollInterval"]) == ("test", 15)
    assert entry_of(response, rollout.feature) == {
        "feature": rollout.feature,
        "enabled": True,
        "percentage": 12.34,
        "emergencyStop": False,
        "hashVersion": 2,
        "trackMigrations": False,
        "version": 1,
    }


@pytest.mark.parametrize("sent", ["{}", "W/{}", '"other", {}', "*"])
def test_a_browser_that_has_it_already_gets_a_304(server: Server, sent: str) -> None:
    etag = httpx.get(server.url + "/api/rollouts").headers["ETag"]
    response = httpx.get(server.url + "/api/rollouts", headers={"If-None-Match": sent.format(etag)})
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["ETag"] == etag
    assert response.headers["Cache-Control"] == "public, max-age=5"


@pytest.mark.parametrize("sent", ['"other"', "nonsense", ""])
def test_a_browser_that_has_something_else_gets_the_configuration(server: Server, sent: str) -> None:
    response = httpx.get(server.url + "/api/rollouts", headers={"If-None-Match": sent})
    assert response.status_code == 200
    assert response.json()["rollouts"]


def test_head_is_answered_and_nothing_can_be_written(server: Server) -> None:
    head = httpx.head(server.url + "/api/rollouts")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["ETag"]
    for method in ("POST", "PUT", "DELETE"):
        refused = httpx.request(method, server.url + "/api/rollouts")
        assert refused.status_code == 405
        assert refused.json()["code"] == "method_not_allowed"
        assert refused.headers["Allow"] == "GET, HEAD"


OPERATIONS: list[Callable[[str], Rollout]] = [
    lambda feature: operations.set_percentage(feature, Decimal(50), reason="test"),
    lambda feature: operations.promote(feature, reason="test"),
    lambda feature: operations.hold(feature, reason="test"),
    lambda feature: operations.roll_back(feature, reason="test"),
    lambda feature: operations.stop(feature, reason="test"),
    lambda feature: operations.configure(feature, {"enabled": False}, reason="test"),
]


@pytest.mark.parametrize("operate", OPERATIONS)
def test_a_change_is_served_at_once_under_a_new_tag(
    server: Server, make_rollout: MakeRollout, operate: Callable[[str], Rollout]
) -> None:
    rollout = make_rollout(percentage=10)
    before = httpx.get(server.url + "/api/rollouts")
    changed = operate(rollout.feature)
    after = httpx.get(server.url + "/api/rollouts", headers={"If-None-Match": before.headers["ETag"]})
    assert after.status_code == 200
    assert after.headers["ETag"] != before.headers["ETag"]
    assert entry_of(after, rollout.feature) == {
        "feature": rollout.feature,
        "enabled": changed.enabled,
        "percentage": float(changed.percentage),
        "emergencyStop": changed.emergency_stop,
        "hashVersion": changed.hash_version,
        "trackMigrations": changed.track_migrations,
        "version": 2,
    }


def test_nothing_new_costs_no_sql(make_rollout: MakeRollout) -> None:
    make_rollout()
    client = Client()
    with CaptureQueriesContext(connection) as first:
        etag = client.get("/api/rollouts").headers["ETag"]
    assert len(first) == 1, "this test would not notice SQL"
    with CaptureQueriesContext(connection) as again:
        assert client.get("/api/rollouts", headers={"If-None-Match": etag}).status_code == 304
        assert client.get("/api/rollouts").status_code == 200
    assert len(again) == 0


def test_a_signed_in_browser_costs_no_sql_either(
    make_rollout: MakeRollout, make_user: Callable[..., Any]
) -> None:
    make_rollout()
    client = Client()
    client.force_login(make_user())
    etag = client.get("/api/rollouts").headers["ETag"]
    with CaptureQueriesContext(connection) as queries:
        assert client.get("/api/rollouts", headers={"If-None-Match": etag}).status_code == 304
    assert len(queries) == 0


def test_what_the_cache_holds_says_the_same_as_the_database(make_rollout: MakeRollout) -> None:
    for percentage in ("0", "0.01", "33.33", "99.99", "100"):
        make_rollout(percentage=Decimal(percentage))
    assert configuration.current().rollouts == tuple(rollout.config for rollout in Rollout.objects.all())
    assert configuration.current().rollouts == configuration.read().rollouts


def test_a_change_that_did_not_reach_the_cache_is_served_within_its_seconds(
    make_rollout: MakeRollout, settings: Any
) -> None:
    settings.ROLLOUT_CACHE_SECONDS = 1
    feature = make_rollout().feature
    client = Client()
    client.get("/api/rollouts")
    Rollout.objects.filter(feature=feature).update(emergency_stop=True)  # behind the application's back
    stopped = []
    for _ in range(30):
        document = json.loads(client.get("/api/rollouts").content)
        stopped = [each["feature"] for each in document["rollouts"] if each["emergencyStop"]]
        if feature in stopped:
            break
        time.sleep(0.1)
    assert feature in stopped


def test_without_valkey_browsers_get_the_same_and_at_once(make_rollout: MakeRollout) -> None:
    rollout = make_rollout(percentage=10)
    with running_server(workers=1, REDIS_URL="redis://127.0.0.1:1/0") as alone:
        first = httpx.get(alone.url + "/api/rollouts")
        assert entry_of(first, rollout.feature)["percentage"] == 10
        etag = {"If-None-Match": first.headers["ETag"]}
        assert httpx.get(alone.url + "/api/rollouts", headers=etag).status_code == 304
        operations.stop(rollout.feature, reason="test")
        second = httpx.get(alone.url + "/api/rollouts", headers=etag)
        assert entry_of(second, rollout.feature)["emergencyStop"] is True


def test_while_one_thread_waits_for_the_configuration_the_others_take_its_last_answer(
    make_rollout: MakeRollout,
) -> None:
    rollout = make_rollout(percentage=10)
    with (
        running_server(workers=1, threads=2) as alone,
        psycopg.connect(database_url()) as locking,
        psycopg.connect(database_url(), autocommit=True) as look,
        ThreadPoolExecutor(1) as threads,
    ):
        poll = partial(httpx.get, alone.url + "/api/rollouts", timeout=30)
        poll()
        locking.execute("LOCK TABLE rollout_rollout IN ACCESS EXCLUSIVE MODE")
        configuration.forget()  # in the cache; the process keeps its copy
        first = threads.submit(poll)
        eventually(lambda: look.execute(BLOCKED).fetchone()[0] == 1)  # type: ignore[index]
        assert entry_of(poll(), rollout.feature)["percentage"] == 10
        assert not first.done()
        locking.rollback()
        assert first.result(timeout=30).status_code == 200


def test_without_a_database_it_says_so_and_browsers_keep_what_they_have(database: None) -> None:
    with running_server(workers=1, DATABASE_URL="postgres://nobody@127.0.0.1:1/gone") as blind:
        response = httpx.get(blind.url + "/api/rollouts")
        assert response.status_code == 503
        assert response.headers["Content-Type"].startswith("application/problem+json")
        assert "ETag" not in response.headers
        assert "max-age" not in response.headers.get("Cache-Control", "")
