"""Decisions of the judge, without a database or a clock."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.judge.decision import AlertKind, Decision, decide
from rollout.judge.evidence import Counts, Evidence
from rollout.judge.policy import Policy
from rollout.judge.scoring import Signal
from rollout.judge.state import Action, Carry, State

T0 = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
POLICY = Policy()

# Telemetry of a minute: 20 new clients each, with a fifth of them given the feature or half or all.
HEALTHY = Evidence(
    events=60,
    clients=20,
    heartbeats=20,
    treatment=20,
    new=Counts(succeeded=10, sample=20, treatment=20, sessions=20),
)
WARNED = replace(HEALTHY, score=1, points=1, errors={"warning": 1}, console_warnings=1)
BROKEN = replace(
    HEALTHY, score=50, points=50, errors={"migration": 5}, new=replace(HEALTHY.new, failed=5, succeeded=5)
)
SILENT = Evidence()


class Stage:
    """A rollout in a stage, judged minute by minute."""

    def __init__(self, percentage: str = "10", timeline: str = "conservative", **fields: Any) -> None:
        self.state = State(
            feature="USE_FUND_STORE",
            percentage=Decimal(percentage),
            stage_started_at=T0,
            timeline=timeline,
            **{"on_hold": False, "auto_rollback": True, "carry": Carry(), **fields},
        )
        self.minute = 0
        self.alerts: list[AlertKind] = []

    def check(self, evidence: Evidence, *, policy: Policy = POLICY, minutes: int = 1) -> Decision:
        self.minute += minutes
        decision = decide(self.state, evidence, T0 + self.minute * MINUTE, policy)
        self.state = replace(self.state, carry=decision.carry)
        self.alerts += decision.alerts
        return decision

    def run(self, evidence: Evidence, *, until: int) -> list[Decision]:
        """Check every minute until the judge does something, or until a minute."""
        made = []
        while self.minute < until:
            made.append(self.check(evidence))
            if made[-1].action is not Action.NONE:
                break
        return made


def acted(decisions: list[Decision]) -> tuple[int, Action, Any]:
    """Return the number of checks until the first action, the action and its target."""
    assert all(decision.action is Action.NONE for decision in decisions[:-1])
    return len(decisions), decisions[-1].action, decisions[-1].target


# --- The breaker --------------------------------------------------------------------------------------------------


def test_three_consecutive_red_checks_roll_back() -> None:
    assert acted(Stage().run(BROKEN, until=10)) == (3, Action.ROLL_BACK, None)


def test_a_green_check_ends_the_row_and_one_without_data_does_not() -> None:
    stage = Stage()
    loud = replace(HEALTHY, score=20, points=20, errors={"default": 7})
    row = [loud, loud, HEALTHY, loud, loud, SILENT, loud]
    assert [stage.check(evidence).carry.reds for evidence in row] == [1, 2, 0, 1, 2, 2, 3]
    assert stage.check(loud).action is Action.ROLL_BACK


def test_without_auto_rollback_it_advises_and_alerts_once() -> None:
    stage = Stage(auto_rollback=False)
    decisions = stage.run(BROKEN, until=6)
    assert {decision.action for decision in decisions} == {Action.NONE}
    assert decisions[2].advice is Action.ROLL_BACK
    assert "auto-rollback is off" in decisions[2].next
    assert stage.alerts == [AlertKind.RED, AlertKind.TRIPPED]


def test_a_hold_of_the_operator_stops_climbing_and_not_rolling_back() -> None:
    assert Stage(on_hold=True).run(HEALTHY, until=200)[-1].action is Action.NONE
    assert acted(Stage(on_hold=True).run(BROKEN, until=10))[1] is Action.ROLL_BACK


def test_what_one_client_says_is_never_red() -> None:
    flood = replace(
        HEALTHY,
        score=10,
        points=30_000,
        errors={"migration": 3000},
        console_errors=1,
        new=replace(HEALTHY.new, failed=1, kill_switch=1),
    )
    stage = Stage()
    stage.check(flood)
    later = replace(flood, new=HEALTHY.new)  # its failure is not new any more
    assert {decision.signal for decision in stage.run(later, until=89)} == {Signal.YELLOW}


def test_two_made_up_clients_roll_back() -> None:
    """Telemetry is public, and nothing tells them from two real ones. It is the price of rolling back early."""
    lies = Evidence(events=2, clients=2, score=20, points=20, errors={"migration": 2}, new=Counts(failed=2))
    assert acted(Stage().run(lies, until=10)) == (3, Action.ROLL_BACK, None)


def test_made_up_successes_do_not_hide_what_fails() -> None:
    """A million made-up clients without errors do not outweigh the points of the others."""
    hidden = replace(
        BROKEN,
        heartbeats=1_000_000,
        treatment=1_000_000,
        new=replace(BROKEN.new, succeeded=1_000_000, sample=1_000_000, treatment=1_000_000),
    )
    assert acted(Stage().run(hidden, until=10)) == (3, Action.ROLL_BACK, None)


# --- No data ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeline", ["accelerated", "conservative"])
def test_silence_is_no_data_for_ever(timeline: str) -> None:
    decisions = Stage(timeline=timeline).run(SILENT, until=3000)
    assert {(decision.signal, decision.action) for decision in decisions} == {(Signal.NO_DATA, Action.NONE)}


def test_silence_does_not_count_as_time_in_the_stage() -> None:
    stage = Stage(timeline="accelerated")
    stage.run(HEALTHY, until=20)
    stage.run(SILENT, until=80)
    decisions = stage.run(HEALTHY, until=200)
    assert acted(decisions) == (10, Action.PROMOTE, Decimal(50))


def test_too_few_samples_are_no_data() -> None:
    few = replace(HEALTHY, new=Counts(sample=19, sessions=19))
    stage = Stage()
    decision = stage.check(few)
    assert (decision.signal, decision.holds) == (
        Signal.NO_DATA,
        ("too few samples: 19 of 20 clients with the feature",),
    )
    assert stage.check(replace(few, new=Counts(sample=1, sessions=1))).signal is Signal.GREEN


def test_lost_telemetry_is_no_data() -> None:
    assert Stage().check(replace(HEALTHY, lossy_clients=1, lost=999)).signal is Signal.GREEN
    decision = Stage().check(replace(HEALTHY, lossy_clients=2, lost=2))
    assert (decision.signal, decision.holds) == (
        Signal.NO_DATA,
        ("telemetry is lost: 2 of 20 clients report dropped events",),
    )


def test_errors_without_heartbeats_are_still_red() -> None:
    assert Stage().check(replace(BROKEN, heartbeats=0)).signal is Signal.RED


def test_the_totals_of_a_bad_stage_are_not_red_again_while_nothing_arrives() -> None:
    stage = Stage()
    assert stage.check(BROKEN).signal is Signal.RED
    assert {decision.signal for decision in stage.run(SILENT, until=60)} == {Signal.NO_DATA}


# --- Timelines ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeline", "percentage", "evidence", "minutes", "target"),
    [
        ("accelerated", "10", HEALTHY, 30, 50),
        ("accelerated", "50", HEALTHY, 120, 100),
        ("accelerated", "10", WARNED, 90, 50),  # an error: the conservative timeline
        ("accelerated", "50", WARNED, 360, 100),
        ("conservative", "10", HEALTHY, 60, 50),
        ("conservative", "10", WARNED, 90, 50),
        ("conservative", "50", HEALTHY, 360, 100),
        ("conservative", "50", WARNED, 360, 100),
        ("conservative", "5", HEALTHY, 60, 10),
        ("conservative", "25", HEALTHY, 60, 50),
        ("conservative", "75", HEALTHY, 360, 100),
    ],
)
def test_a_timeline_climbs_at_its_minute(
    timeline: str, percentage: str, evidence: Evidence, minutes: int, target: int
) -> None:
    decisions = Stage(percentage, timeline).run(evidence, until=minutes + 5)
    assert acted(decisions) == (minutes, Action.PROMOTE, Decimal(target))


@pytest.mark.parametrize("timeline", ["accelerated", "conservative"])
@pytest.mark.parametrize("red", [{"score": 15, "points": 15}, {"score": 6, "points": 6, "console_errors": 2}])
def test_a_stage_that_was_red_once_climbs_only_by_hand(timeline: str, red: dict[str, Any]) -> None:
    stage = Stage(timeline=timeline)
    stage.check(replace(HEALTHY, **red, errors={"default": 5}))
    decisions = stage.run(HEALTHY, until=1000)
    assert {decision.action for decision in decisions} == {Action.NONE}
    assert "only a person promotes to 50 %" in decisions[-1].next


def test_the_manual_timeline_only_advises() -> None:
    decisions = Stage(timeline="manual").run(HEALTHY, until=100)
    assert {decision.action for decision in decisions} == {Action.NONE}
    assert decisions[-1].advice is Action.PROMOTE
    assert decisions[-1].next.startswith("Ready for 50 %")
    assert "its timeline is manual" in decisions[-1].next


def test_it_says_when_the_next_step_is_due() -> None:
    decision = Stage(timeline="accelerated").check(HEALTHY)
    assert decision.due_at == T0 + 30 * MINUTE
    assert decision.next == "To 50 % after 30 min, if: no error event in the stage."


# --- The day at 100 % ---------------------------------------------------------------------------------------------


def test_a_day_at_100_percent_within_the_limits_is_complete() -> None:
    decisions = Stage("100").run(HEALTHY, until=1500)
    assert acted(decisions) == (24 * 60, Action.COMPLETE, None)
    assert AlertKind.COMPLETED in decisions[-1].alerts


@pytest.mark.parametrize(
    ("always", "first", "why"),
    [
        ({"succeeded": 99, "failed": 1}, {}, "migration success under 99.5 %"),
        ({}, {"kill_switch": 6}, "6 users of a kill switch"),
        ({}, {"error_sessions": 30}, "30 of 28800 sessions had errors"),
    ],
)
def test_a_day_outside_a_limit_is_not_complete_and_says_why(
    always: dict[str, int], first: dict[str, int], why: str
) -> None:
    stage = Stage("100")
    usual = replace(HEALTHY, new=replace(HEALTHY.new, **always))
    stage.check(replace(usual, new=replace(usual.new, **first)))
    decisions = stage.run(usual, until=1440)
    assert {decision.action for decision in decisions} == {Action.NONE}
    assert why in decisions[-1].next


def test_a_high_score_begins_the_day_anew() -> None:
    stage = Stage("100")
    stage.run(HEALTHY, until=600)
    stage.check(replace(HEALTHY, score=5, points=5, errors={"validation": 1}))
    assert stage.run(HEALTHY, until=2040)[-1].action is Action.NONE
    assert stage.check(HEALTHY).action is Action.COMPLETE  # 24 h after minute 601


# --- Alerts -------------------------------------------------------------------------------------------------------


def test_each_event_is_told_once() -> None:
    stage = Stage()
    stage.run(HEALTHY, until=5)
    stage.run(SILENT, until=120)
    assert stage.alerts == [AlertKind.NO_DATA]
    stage.run(HEALTHY, until=125)
    stage.run(BROKEN, until=140)
    assert stage.alerts == [AlertKind.NO_DATA, AlertKind.RED, AlertKind.ROLLED_BACK]


def test_no_data_between_two_reds_is_no_news() -> None:
    stage = Stage()
    stage.check(BROKEN)
    stage.check(SILENT)
    stage.check(BROKEN)
    assert stage.alerts == [AlertKind.RED]


# --- Always -------------------------------------------------------------------------------------------------------

counts = st.integers(min_value=0, max_value=10**6)


@st.composite
def evidences(draw: Any) -> Evidence:
    new = Counts(**{name: draw(counts) for name in Counts.__dataclass_fields__})
    numbers = ("events", "clients", "heartbeats", "treatment", "control", "score", "lossy_clients")
    return Evidence(
        **{name: draw(counts) for name in numbers},
        console_errors=draw(st.integers(0, 5)),
        console_warnings=draw(st.integers(0, 5)),
        new=new,
    )


@given(
    st.lists(evidences(), min_size=1, max_size=8),
    st.sampled_from(["0.01", "10", "50", "99.99", "100"]),
    st.sampled_from(["accelerated", "conservative", "manual"]),
    st.integers(1, 2000),
)
def test_whatever_arrives_a_decision_is_made_can_be_stored_and_replayed(
    arriving: list[Evidence], percentage: str, timeline: str, minutes: int
) -> None:
    stage = Stage(percentage, timeline)
    for evidence in arriving:
        state, now = stage.state, T0 + (stage.minute + minutes) * MINUTE
        decision = stage.check(evidence, minutes=minutes)
        stored = msgspec.json.decode(msgspec.json.encode([state, evidence, POLICY, decision]))
        replayed = decide(
            msgspec.convert(stored[0], State, strict=False),
            msgspec.convert(stored[1], Evidence, strict=False),
            now,
            msgspec.convert(stored[2], Policy, strict=False),
        )
        assert replayed == decision == msgspec.convert(stored[3], Decision, strict=False)
        if decision.action is Action.PROMOTE:
            assert decision.signal in {Signal.GREEN, Signal.YELLOW}
            assert decision.target is not None
            assert decision.target > state.percentage
        if not evidence.events or (not evidence.heartbeats and decision.signal is not Signal.RED):
            assert decision.signal is Signal.NO_DATA


def test_no_data_is_never_green() -> None:
    for events, heartbeats, sample in itertools.product([0, 5], [0, 5], [0, 50]):
        if events and heartbeats and sample:
            continue
        evidence = Evidence(events=events, heartbeats=heartbeats, clients=5, new=Counts(sample=sample))
        assert Stage().check(evidence).signal is Signal.NO_DATA
