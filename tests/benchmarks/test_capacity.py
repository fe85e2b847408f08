"""The capacity model beside measurements that its costs were not taken from."""

import json
import math
from typing import Any

import pytest

from benchmarks.capacity import (
    OFF,
    Costs,
    Demand,
    Machines,
    connections,
    cores,
    most_creates,
    most_requests,
    rate,
    read,
    rows,
    wal,
)
from benchmarks.rounds import CONNECTIONS
from benchmarks.stack import RESULTS

CORES = 2  # of the machine of all measurements, shared by web, PostgreSQL, Valkey and the clients


@pytest.fixture(scope="module")
def costs() -> Costs:
    return read()


def document(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.joinpath(f"{name}.json").read_text())
    return found


def measured_storm(weather: str) -> Demand:
    """Answers per second of two processes with four threads each, kept busy by 64 clients."""
    storm = document("results")["storm"]
    samples = storm["samples"][weather]
    seconds = sum(sample["count"] / sample["rate"] for sample in samples)
    others = sum(sample["count"] for sample in samples) / seconds
    statuses = storm["storms"].get(weather, {"statuses": {}})["statuses"]
    # The statuses are of one round more, which warmed up.
    per_second = {
        status: count * len(samples) / (len(samples) + 1) / seconds for status, count in statuses.items()
    }
    creates = others + per_second.pop("201", 0)
    return Demand(creates=creates, retries=sum(per_second.values()) / creates)


@pytest.mark.parametrize("weather", ["64 clients, one key", "64 clients, a key each"])
def test_a_busy_machine_is_as_busy_as_the_model_says(costs: Costs, weather: str) -> None:
    """No cost was taken from more than one process, from more than eight clients, or from a mix of both requests."""
    assert cores(costs, measured_storm(weather)).both == pytest.approx(CORES, rel=OFF)


def test_two_clients_that_wait_for_their_answers_leave_the_cores_some_rest(costs: Costs) -> None:
    assert cores(costs, measured_storm("calm")).both < CORES


@pytest.mark.parametrize("keys", ["0", "1,000,000", "10,000,000"])
def test_replays_and_creates_of_another_run_cost_what_the_model_says(costs: Costs, keys: str) -> None:
    """However many keys there are. The machine was slower that day: its speed is that of its creates without keys."""
    scale = document("scale")
    speed = rate(scale, "create, 0 keys") * costs.create.both
    assert rate(scale, f"create, {keys} keys") == pytest.approx(speed / costs.create.both, rel=OFF)
    assert rate(scale, f"replay, {keys} keys") == pytest.approx(speed / costs.replay.both, rel=OFF)


def test_creates_beside_a_purge_cost_what_the_model_says(costs: Costs) -> None:
    most = most_requests(costs.create, cores=CORES, processes=1, clients=CONNECTIONS, round_trip=0)
    assert rate(document("purge"), "create beside a purge") == pytest.approx(most, rel=OFF)


def test_a_key_of_the_smaller_table_takes_as_many_bytes(costs: Costs) -> None:
    smaller = document("scale")["at rest"][0]
    assert sum(smaller["sizes"].values()) == pytest.approx(smaller["keys"] * costs.key, rel=0.02)


def test_the_most_that_cores_carry_is_what_fills_them(costs: Costs) -> None:
    machines = Machines(web_cores=16, database_cores=4)
    most, end = most_creates(costs, Demand(creates=1, retries=0.3), machines)
    busy = cores(costs, Demand(creates=most, retries=0.3))
    full = {"web": busy.web / machines.web_cores, "database": busy.database / machines.database_cores}
    assert full[end] == pytest.approx(machines.utilisation) == max(full.values())


def test_the_log_is_at_least_what_is_stored_and_at_most_two_pages_more_for_each_key(costs: Costs) -> None:
    for creates in (1, 1000, 10_000):
        stored, whole = wal(costs, Demand(creates=creates))
        assert stored < whole <= stored + creates * 86_400 * 2 * 8192


def test_a_connection_is_in_use_for_as_long_as_its_request(costs: Costs) -> None:
    busy = 1000 * costs.create.both
    assert connections(costs, Demand(creates=1000)) == math.ceil(busy + 3 * math.sqrt(busy))


def test_the_plan_says_what_is_not_enough_and_what_nobody_measured(costs: Costs) -> None:
    plan = {what: figure for what, figure, _ in rows(costs, Demand(creates=10_000), Machines(8, 8))}
    assert "NOT enough" in plan["web cores"]
    assert "CANNOT keep up" in plan["purge"]
    assert plan["disk and log of funds"].startswith("not measured")
