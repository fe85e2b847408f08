"""Whole rollouts through the judge: the study's traffic, its goals, and that its page is what the code does."""

from collections.abc import Iterator

import numpy as np
import pytest

from docs.tools import judge_rollouts as study
from docs.tools.judge_rollouts import HEALTH, MIDDLE, SIZES, Case
from docs.tools.judge_statistics import PAGE
from docs.tools.judge_traffic import Fault, Traffic

RESULTS = study.load()
CASES = study.healthy_cases() | study.broken_cases()
SMALL, LARGE = SIZES[0], SIZES[-1]


def recomputed() -> Iterator[str]:
    """Yield cases whose first run takes a few checks, and one that takes a whole rollout."""
    for name, found in RESULTS.broken.items():
        fault = CASES[name][0].fault
        if fault is not None and not fault.at and found.first.back_minutes and found.first.back_minutes < 60:
            yield name
    yield study.healthy_name(Case(LARGE, literal=True))
    yield study.healthy_name(Case(SMALL, watch=1))


@pytest.mark.parametrize("size", SIZES)
def test_the_traffic_counts_everybody_once(size: int) -> None:
    """Through two promotions no number of clients is negative, and those of the evidence are those of the stage."""
    traffic = Traffic(np.random.default_rng(5), size, HEALTH["limit"], 0.1)
    for share in (0.1, 0.5, 1.0):
        if share > traffic.share:
            traffic.enter(share)
        new = switched = 0
        for minute in range(60):
            evidence, _ = traffic.minute(minute, Fault())
            new += evidence.new.treatment
            switched += evidence.new.kill_switch
            ours, others = traffic.ours, traffic.others
            assert min(*ours.known, *others.known, ours.live, others.live) >= 0
            assert evidence.new.failed + evidence.new.succeeded <= evidence.new.treatment
            assert evidence.new.treatment_errors <= evidence.feature.failing
        assert new - switched == ours.seen + ours.erred


def test_a_healthy_feature_makes_no_difference() -> None:
    """Without this, the study's false alarms would be its own: errors and clients, by the share of the rollout."""
    traffic = Traffic(np.random.default_rng(6), LARGE, HEALTH["limit"], 0.1)
    minutes = [traffic.minute(minute, Fault())[0] for minute in range(90)]
    ours, others, active, all_active, assigned, unassigned = np.sum(
        [
            (
                each.new.treatment_errors,
                each.new.control_errors,
                each.feature.active,
                each.feature.active + each.baseline.active,
                each.new.assigned,
                each.new.unassigned,
            )
            for each in minutes
        ],
        axis=0,
    )
    assert ours / (ours + others) == pytest.approx(0.1, abs=4 * (0.09 / (ours + others)) ** 0.5)
    assert active / all_active == pytest.approx(0.1, rel=0.02)
    assert assigned / (assigned + unassigned) == pytest.approx(0.1, rel=0.01)


def test_the_tables_of_the_page_are_the_stored_results() -> None:
    """Otherwise: ``.venv/bin/python -m docs.tools.judge_rollouts``."""
    written = PAGE.read_text().partition(study.BEGIN)[2].partition(study.END)[0]
    assert written.strip() == study.tables(RESULTS)


@pytest.mark.parametrize("name", list(recomputed()))
def test_the_stored_results_are_what_the_code_does(name: str) -> None:
    """The first rollout of each kind, again; otherwise: ``.venv/bin/python -m docs.tools.judge_rollouts``."""
    stored = (RESULTS.healthy.get(name) or RESULTS.broken[name]).first
    assert study.run(CASES[name][0], study.seed_of(name, 0)) == stored


@pytest.mark.parametrize("size", [*SIZES, MIDDLE])
def test_healthy_rollouts_reach_100_percent_by_themselves(size: int) -> None:
    found = RESULTS.healthy[study.healthy_name(Case(size, watch=1))]
    assert found.rolled_back <= 0.01 * found.runs
    assert found.full >= 0.95 * found.runs


@pytest.mark.parametrize("size", SIZES)
def test_healthy_rollouts_stay_at_100_percent(size: int) -> None:
    found = RESULTS.healthy[study.healthy_name(Case(size))]
    assert found.rolled_back <= 0.01 * found.runs


def test_the_runbook_to_the_letter_rolls_back_every_large_rollout() -> None:
    """Otherwise the limits need not grow."""
    found = RESULTS.healthy[study.healthy_name(Case(LARGE, literal=True))]
    assert found.rolled_back == found.runs


@pytest.mark.parametrize("kind", study.KINDS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("percentage", [10, 100])
def test_what_is_broken_for_everybody_is_found_at_once(kind: str, size: int, percentage: int) -> None:
    early, late = (
        RESULTS.broken[f"{kind}, {size}, {percentage} %, 1.0, {at}, ours"] for at in (0, study.LATE)
    )
    assert early.red_prompt == early.rolled_back == early.runs
    # A break that comes late needs more evidence, and sometimes more than ten clients.
    assert late.red_prompt >= 0.9 * late.runs
    assert late.rolled_back == late.runs


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("percentage", [10, 100])
def test_one_migration_in_twenty_that_fails_is_found_within_100_clients(size: int, percentage: int) -> None:
    """Or in the first check, which has more of them where the traffic is heavy."""
    found = RESULTS.broken[f"migrations, {size}, {percentage} %, 0.05, 0, ours"]
    assert found.red_clients is not None
    assert found.red_clients <= 100 or found.red_minutes == 1
