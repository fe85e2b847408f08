"""The runbook's tables, to the digit."""

import pytest

from rollout.judge.events import ErrorClass, classify
from rollout.judge.policy import Policy
from rollout.judge.scoring import (
    Signal,
    console_signal,
    kill_switch_signal,
    migration_signal,
    points,
    score,
    score_signal,
    thresholds,
    worst,
)

POLICY = Policy()
FEW = thresholds(100, 1, 100, POLICY)  # the runbook's limits


@pytest.mark.parametrize(
    ("event", "category", "weight"),
    [
        ("migration_failed", "error", 10),
        ("validation_error", "error", 5),
        ("console_warning", "error", 1),
        ("console_error", "error", 3),
        ("error", "error", 3),
        ("fund_create_failure", "error", 3),
        ("something_new", "usage", 3),
        ("validation_error", "migration", 10),  # both: it scores once, by the more severe
        ("console_warning", "validation", 5),
        ("draft_lost", "migration", 10),
    ],
)
def test_an_event_scores_once_by_its_most_severe_class(event: str, category: str, weight: int) -> None:
    assert points({classify(event, category): 1}, POLICY) == weight


def test_a_client_adds_no_more_than_its_cap() -> None:
    flood = {ErrorClass.MIGRATION: 1000, ErrorClass.WARNING: 7}
    assert points(flood, POLICY) == 10_007
    assert score([flood], POLICY) == 10
    assert score([flood, {ErrorClass.WARNING: 3}, {ErrorClass.DEFAULT: 1}], POLICY) == 16


@pytest.mark.parametrize(
    ("score", "signal"),
    [(0, "green"), (5, "green"), (6, "yellow"), (14, "yellow"), (15, "red"), (500, "red")],
)
def test_the_score_s_colours(score: int, signal: str) -> None:
    assert score_signal(score, FEW) == signal


@pytest.mark.parametrize(
    ("succeeded", "failed", "signal"),
    [
        (0, 0, "green"),
        (1000, 0, "green"),
        (996, 4, "green"),
        (995, 5, "yellow"),  # 99.5 % is not more than 99.5 %
        (950, 50, "yellow"),  # 95 % is not less than 95 %
        (949, 51, "red"),
        (0, 1, "yellow"),
        (33, 2, "yellow"),  # under 40, two are yellow
        (0, 2, "yellow"),
        (36, 3, "red"),
        (0, 3, "red"),
        (38, 2, "yellow"),  # from 40 on, 95 %
        (37, 3, "red"),
        (57, 3, "yellow"),
    ],
)
def test_migration_success_s_colours(succeeded: int, failed: int, signal: str) -> None:
    assert migration_signal(succeeded, failed, POLICY) == signal


@pytest.mark.parametrize(
    ("users", "signal"), [(0, "green"), (4, "green"), (5, "yellow"), (20, "yellow"), (21, "red")]
)
def test_the_kill_switch_s_colours(users: int, signal: str) -> None:
    assert kill_switch_signal(users, FEW) == signal


@pytest.mark.parametrize(
    ("warnings", "errors", "signal"),
    [(0, 0, "green"), (1, 0, "yellow"), (500, 0, "yellow"), (0, 1, "yellow"), (0, 2, "red"), (9, 2, "red")],
)
def test_the_console_s_colours(warnings: int, errors: int, signal: str) -> None:
    assert console_signal(warnings, errors, FEW) == signal


def test_the_worst_cell_is_the_signal() -> None:
    assert worst([Signal.GREEN, Signal.YELLOW]) is Signal.YELLOW
    assert worst([Signal.NO_DATA, Signal.YELLOW]) is Signal.NO_DATA
    assert worst([Signal.NO_DATA, Signal.RED, Signal.GREEN]) is Signal.RED
    assert worst([]) is Signal.GREEN


def test_every_threshold_can_be_set() -> None:
    strict = Policy(error_threshold=4, score_green_max=1, kill_switch_yellow_max=6, points_warning=2)
    limits = thresholds(100, 1, 100, strict)
    assert score_signal(4, limits) == "red"
    assert score_signal(2, limits) == "yellow"
    assert kill_switch_signal(7, limits) == "red"
    assert points({ErrorClass.WARNING: 2}, strict) == 4


def test_limits_grow_in_proportion_beyond_a_hundred_clients() -> None:
    for clients in (0, 1, 99, 100):
        assert thresholds(clients, 1, clients, POLICY) == thresholds(clients, 1, 0, POLICY)
        assert thresholds(clients, 1, 0, POLICY).score_red == 15
    many = thresholds(5000, 2, 30_000, POLICY)
    assert (many.score_green, many.score_red) == (500, 1500)
    assert (many.console_yellow, many.console_red) == (50, 50)
    assert (many.kill_switch_yellow, many.kill_switch_red) == (30, 150)
    assert console_signal(49, 49, many) == "green"
    assert console_signal(50, 0, many) == "yellow"
    assert console_signal(0, 50, many) == "red"
    assert kill_switch_signal(29, many) == "green"
    assert kill_switch_signal(150, many) == "yellow"
    assert kill_switch_signal(151, many) == "red"


@pytest.mark.parametrize("clients", [120, 820, 1640, 3220])
@pytest.mark.parametrize("windows", [1, 2, 3, 7])
def test_a_limit_that_is_a_whole_number_is_exactly_that(clients: int, windows: int) -> None:
    limits = thresholds(clients, windows, clients, POLICY)
    assert limits.score_green == clients * windows // 20
    assert limits.score_red == clients * windows * 3 // 20


def test_zero_score_clients_is_the_runbook_to_the_letter() -> None:
    letter = thresholds(5000, 1, 30_000, Policy(score_clients=0))
    assert (letter.score_green, letter.score_red, letter.console_yellow, letter.console_red) == (5, 15, 1, 2)
    assert (letter.kill_switch_yellow, letter.kill_switch_red) == (5, 20)
