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
    worst,
)

POLICY = Policy()


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
    assert score_signal(score, POLICY) == signal


@pytest.mark.parametrize(
    ("succeeded", "failed", "signal"),
    [
        (0, 0, "green"),
        (1000, 0, "green"),
        (996, 4, "green"),
        (995, 5, "yellow"),  # 99.5 % is not more than 99.5 %
        (950, 50, "yellow"),  # 95 % is not less than 95 %
        (949, 51, "red"),
        (0, 2, "red"),
        (0, 1, "yellow"),  # one client alone never makes red
        (5, 1, "yellow"),
    ],
)
def test_migration_success_s_colours(succeeded: int, failed: int, signal: str) -> None:
    assert migration_signal(succeeded, failed, POLICY) == signal


@pytest.mark.parametrize(
    ("users", "signal"), [(0, "green"), (4, "green"), (5, "yellow"), (20, "yellow"), (21, "red")]
)
def test_the_kill_switch_s_colours(users: int, signal: str) -> None:
    assert kill_switch_signal(users, POLICY) == signal


@pytest.mark.parametrize(
    ("warnings", "errors", "signal"),
    [(0, 0, "green"), (1, 0, "yellow"), (500, 0, "yellow"), (0, 1, "yellow"), (0, 2, "red"), (9, 2, "red")],
)
def test_the_console_s_colours(warnings: int, errors: int, signal: str) -> None:
    assert console_signal(warnings, errors, POLICY) == signal


def test_the_worst_cell_is_the_signal() -> None:
    assert worst([Signal.GREEN, Signal.YELLOW]) is Signal.YELLOW
    assert worst([Signal.NO_DATA, Signal.YELLOW]) is Signal.NO_DATA
    assert worst([Signal.NO_DATA, Signal.RED, Signal.GREEN]) is Signal.RED
    assert worst([]) is Signal.GREEN


def test_every_threshold_can_be_set() -> None:
    strict = Policy(error_threshold=4, score_green_max=1, kill_switch_yellow_max=6, points_warning=2)
    assert score_signal(4, strict) == "red"
    assert score_signal(2, strict) == "yellow"
    assert kill_switch_signal(7, strict) == "red"
    assert points({ErrorClass.WARNING: 2}, strict) == 4
