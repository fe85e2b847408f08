"""Two machines: the model is asked with the network's delay, and both stand in the report."""

import json

import pytest

from benchmarks.capacity import CREATE_TRIPS, REPLAY_TRIPS, Cost, Demand, connections, most_requests, read
from benchmarks.figures import Sample
from benchmarks.machines import Case, Found, Reading, delay_rows, modelled, speed_rows
from benchmarks.stack import RESULTS

COST = Cost(web=0.004, database=0.001, trips=5)


@pytest.mark.parametrize(
    ("limits", "per_second"),
    [
        ({"cores": 2, "processes": 4, "clients": 16, "round_trip": 0.001}, 400),
        ({"cores": 8, "processes": 1, "clients": 16, "round_trip": 0.001}, 250),
        ({"cores": 8, "processes": 8, "clients": 1, "round_trip": 0.001}, 100),
        ({"cores": 8, "processes": 8, "clients": 1, "round_trip": 0.0}, 200),
    ],
)
def test_the_first_limit_decides(limits: dict[str, float], per_second: float) -> None:
    assert most_requests(COST, **limits) == pytest.approx(per_second)  # type: ignore[arg-type]  # cores are whole


def test_a_network_takes_connections_and_no_cores() -> None:
    costs = read()
    near, far = Demand(creates=1000), Demand(creates=1000, round_trip=0.01)
    assert connections(costs, far) > connections(costs, near) + 1000 * CREATE_TRIPS * 0.01 - 1


def found(*, fast: float, slow: float) -> Found:
    """Creates of one client, without a delay and with one of a ms."""
    cases = {Case("create", 1, 1, delayed=delayed): rate for delayed, rate in ((False, fast), (True, slow))}
    return Found(
        {},
        trip=(0.25, 1.25),
        readings={
            case: [Reading(Sample(100, rate, 1000 / rate, 20), web=4, database=1, network=0.5)]
            for case, rate in cases.items()
        },
    )


def test_the_model_is_as_fast_as_the_machine_and_predicts_the_delay() -> None:
    costs = read()
    measured = found(fast=100, slow=50)
    assert list(modelled(measured, costs).values()) == pytest.approx([100, 1 / (0.01 + CREATE_TRIPS * 0.001)])


def test_a_row_has_the_figures_of_its_case() -> None:
    measured = found(fast=100, slow=62.5)
    shown = speed_rows(measured, read())
    assert shown[1] == [
        *("create", "1", "1", "1.0", "62", "62-62", "62", "1.00", "16.0", "20.0", "4.00", "1.00", "0.50")
    ]
    assert delay_rows(measured, read()) == [
        ["create", "1", "1", "0.62", "0.62-0.62", "6.0", "6.0", str(CREATE_TRIPS)]
    ]


@pytest.mark.parametrize(("action", "trips"), [("create", CREATE_TRIPS), ("replay", REPLAY_TRIPS)])
def test_a_request_makes_as_many_round_trips_as_the_model_says(action: str, trips: int) -> None:
    """By the committed measurement: what one client waits longer, over what a round trip takes longer."""
    document = json.loads(RESULTS.joinpath("machines.json").read_text())
    p50 = {
        reading["delayed"]: [each["sample"]["p50"] for each in reading["rounds"]]
        for reading in document["readings"]
        if reading["action"] == action and reading["clients"] == 1
    }
    near, far = document["trip"]
    longer = sorted(b - a for a, b in zip(p50[False], p50[True], strict=True))
    assert longer[len(longer) // 2] / (far - near) == pytest.approx(trips, rel=0.35)
