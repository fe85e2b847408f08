"""The metrics: names, labels, and the right numbers across the server's two processes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.parser import text_string_to_metric_families

from tests.answers import funds_of
from tests.conftest import FUND, Api, token_of
from tests.obedience import CRASH, DEADLOCK, FAIL_AT_COMMIT, Hold, query
from tests.servers import Server

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
OUTCOMES = {"created", "replayed", "key_reused", "in_progress", "failed", "rejected", "unavailable"}


def scrape(server: Server) -> Samples:
    response = httpx.get(f"{server.url}/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


class Watch:
    """The growth of the counters after the watch began."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.before = scrape(server)

    def grown(self, name: str, **labels: str) -> float:
        return value(scrape(self.server), name, **labels) - value(self.before, name, **labels)

    def outcomes(self) -> dict[str, int]:
        after = scrape(self.server)
        each = {
            outcome: value(after, "idempotency_requests_total", operation="fund-create", outcome=outcome)
            - value(self.before, "idempotency_requests_total", operation="fund-create", outcome=outcome)
            for outcome in OUTCOMES
        }
        return {outcome: int(count) for outcome, count in each.items() if count}

    def conflicts(self) -> dict[str, int]:
        """Return the growth of each reason, also of one that this file does not know."""
        each = {
            dict(labels)["reason"]: count - self.before.get((name, labels), 0)
            for (name, labels), count in scrape(self.server).items()
            if name == "fund_create_conflict_total"
        }
        return {reason: int(count) for reason, count in each.items() if count}


@pytest.fixture
def watch(server: Server, api: Api, obedience: None) -> Watch:
    return Watch(server)


def test_every_series_is_there_before_anything_happens(server: Server) -> None:
    """A series that appears with its first increase hides that increase from rate()."""
    samples = scrape(server)
    for outcome in OUTCOMES:
        assert value(samples, "idempotency_requests_total", operation="fund-create", outcome=outcome) >= 0
    for reason in ("key_reused", "in_progress"):
        assert value(samples, "fund_create_conflict_total", reason=reason) >= 0
    for name in ("idempotency_cache_hit_rate", "idempotency_storage_size", "idempotency_purged_keys_total",
                 "idempotency_purge_duration_seconds_count"):  # fmt: skip
        assert value(samples, name) >= 0


def test_no_series_is_there_twice(server: Server) -> None:
    families = [
        family.name for family in text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text)
    ]
    assert len(families) == len(set(families))


def test_a_create_a_replay_and_a_conflict_count_once_each(api: Api, watch: Watch, key: str) -> None:
    api.create(key)
    api.create(key)
    api.create(key, FUND | {"size": 1})
    assert watch.outcomes() == {"created": 1, "replayed": 1, "key_reused": 1}
    assert watch.conflicts() == {"key_reused": 1}


def test_an_early_retry_counts_as_in_progress(api: Api, watch: Watch, hold: Hold, key: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(api.create, key, hold.body)
        hold.running()
        api.create(key, hold.body)
        hold.release()
        assert first.result().status_code == 201
    assert watch.outcomes() == {"created": 1, "in_progress": 1}
    assert watch.conflicts() == {"in_progress": 1}


def test_a_wait_that_ends_well_counts_as_a_replay_alone(api: Api, watch: Watch, hold: Hold, key: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        pool.submit(api.create, key, hold.body)
        hold.running()
        patient = pool.submit(api.create, key, hold.body, Prefer="wait=20")
        hold.waiting()
        hold.release()
        assert patient.result().status_code == 200
    assert watch.outcomes() == {"created": 1, "replayed": 1}
    assert watch.conflicts() == {}


ENDS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "no key": ({"headers": {}}, {"rejected"}),
    "bad key": ({"headers": {"Idempotency-Key": "not a key"}}, {"rejected"}),
    "other environment": ({"headers": {"Idempotency-Key": "prod|fund-create|k"}}, {"rejected"}),
    "bad JSON": ({"content": b"{"}, {"rejected"}),
    "bad field": ({"json": {"size": -1}}, {"failed"}),
    "crash": ({"json": FUND | {"name": CRASH}}, {"failed"}),
    "crash at COMMIT": ({"json": FUND | {"name": FAIL_AT_COMMIT}}, {"failed"}),
    "database": ({"json": FUND | {"name": DEADLOCK}}, {"failed", "unavailable"}),
}


@pytest.mark.parametrize(("options", "outcomes"), ENDS.values(), ids=ENDS.keys())
def test_a_failure_of_any_kind_counts_once_and_not_as_created(
    api: Api, watch: Watch, key: str, options: dict[str, Any], outcomes: set[str]
) -> None:
    headers = {"Content-Type": "application/json"} | options.get("headers", {"Idempotency-Key": key})
    body = {"json": FUND} if "content" not in options else {}
    assert api.post("/api/funds", **body | options | {"headers": headers}).status_code >= 400
    counted = watch.outcomes()
    assert sum(counted.values()) == 1
    assert set(counted) <= outcomes


def test_a_request_that_admission_refuses_is_no_guarded_request(
    server: Server, watch: Watch, key: str, make_user: Callable[..., Any]
) -> None:
    headers = {"Idempotency-Key": key}
    assert httpx.post(f"{server.url}/api/funds", json=FUND, headers=headers).status_code == 401
    with Api(server, make_user(may_create=False)) as api:
        assert api.create(key).status_code == 403
        assert api.get("/api/funds").status_code == 200
    assert watch.outcomes() == {}


def test_both_processes_count_into_one_answer(server: Server, user: Any, watch: Watch) -> None:
    def create(number: int) -> int:
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": f"k{number}"}
        # Over a new connection.
        return httpx.post(f"{server.url}/api/funds", json=FUND, headers=headers).status_code

    token = token_of(user)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(create, range(60))) == {201}
    assert watch.outcomes() == {"created": 60}
    counted_in = [
        path
        for path in Path(server.log_path.parent, "metrics").glob("counter_*.db")
        if any(
            count > 0 and '"created"' in name
            for name, count, *_ in MmapedDict.read_all_values_from_file(str(path))
        )
    ]
    assert len(counted_in) >= 2
    assert funds_of(user) == 60


def test_the_hit_rate_is_replays_per_answer(api: Api, server: Server, key: str) -> None:
    api.create(key)
    for _ in range(5):
        api.create(key)
    samples = scrape(server)
    created, replayed = (
        value(samples, "idempotency_requests_total", operation="fund-create", outcome=outcome)
        for outcome in ("created", "replayed")
    )
    assert replayed >= 5
    assert value(samples, "idempotency_cache_hit_rate") == pytest.approx(replayed / (created + replayed))


def test_the_storage_size_counts_live_keys_exactly(api: Api, watch: Watch, user: Any) -> None:
    for _ in range(3):
        api.create()
    assert watch.grown("idempotency_storage_size") == 3
    query(
        "UPDATE idempotency_store SET created_at = created_at - interval '2 days',"
        " expires_at = expires_at - interval '2 days' WHERE principal = %s",
        str(user.pk),
    )
    assert watch.grown("idempotency_storage_size") == 0


def test_the_time_of_a_request_is_measured_by_route_not_by_address(api: Api, server: Server) -> None:
    location = api.create().headers["Location"]
    labels = {"method": "GET", "route": "api/funds/<int:pk>", "status": "200"}
    api.get(location)
    before = value(scrape(server), "http_request_duration_seconds_count", **labels)
    api.get(location)
    assert value(scrape(server), "http_request_duration_seconds_count", **labels) == before + 1


def test_clients_cannot_make_up_series(api: Api, server: Server) -> None:
    """A label value of the client's choice would let any client fill the memory of Prometheus."""
    mark = "madeup7"
    api.request(mark.upper(), "/api/funds")
    api.get(f"/api/{mark}")
    api.get("/api/funds", params={mark: mark})
    api.create(f"prod|{mark}|{mark}")
    text = httpx.get(f"{server.url}/metrics").text
    assert mark not in text.lower()
