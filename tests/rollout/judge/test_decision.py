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
from rollout.judge.evidence import Counts, Evidence, Side
from rollout.judge.policy import Policy
from rollout.judge.scoring import Signal
from rollout.judge.state import Action, Carry, State

T0 = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
POLICY = Policy()

# Telemetry of a minute: 20 new clients with the feature, of whom ten migrate.
HEALTHY = Evidence(
    events=60,
    clients=20,
    feature=Side(active=20),
    new=Counts(succeeded=10, treatment=20, assigned=20, sessions=20),
)
SILENT = Evidence()


def failing(clients: int, points: int = 3, *, active: int = 20, **fields: int) -> Side:
    """Return a side on which so many clients fail, each with so many points."""
    score = clients * points
    return Side(active=active, score=score, points=score, errors=clients, failing=clients, **fields)


WARNED = replace(HEALTHY, feature=failing(1, 1, console_warnings=1), errors={"warning": 1})
LOUD = replace(HEALTHY, feature=failing(7), errors={"default": 7})
BROKEN = replace(
    HEALTHY,
    feature=failing(5, 10),
    errors={"migration": 5},
    new=replace(HEALTHY.new, failed=5, succeeded=5),
)


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
        self.minute: float = 0
        self.alerts: list[AlertKind] = []

    def check(self, evidence: Evidence, *, policy: Policy = POLICY, minutes: float = 1) -> Decision:
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
    row = [LOUD, LOUD, HEALTHY, LOUD, LOUD, SILENT, LOUD]
    assert [stage.check(evidence).carry.reds for evidence in row] == [1, 2, 0, 1, 2, 2, 3]
    assert stage.check(LOUD).action is Action.ROLL_BACK


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
        feature=Side(active=20, score=10, points=30_000, errors=3000, failing=1, console_errors=1),
        errors={"migration": 3000},
        new=replace(HEALTHY.new, failed=1, kill_switch=1),
    )
    stage = Stage()
    stage.check(flood)
    later = replace(flood, new=HEALTHY.new)  # its failure is not new any more
    assert {decision.signal for decision in stage.run(later, until=89)} == {Signal.YELLOW}


def test_made_up_successes_do_not_hide_what_fails() -> None:
    """The points of the others count, up to the share of clients from which the limits grow."""
    hidden = replace(
        BROKEN,
        feature=failing(5, 10, active=333),
        new=replace(BROKEN.new, succeeded=1_000_000, treatment=1_000_000),
    )
    assert acted(Stage().run(hidden, until=10)) == (3, Action.ROLL_BACK, None)


def test_only_new_evidence_adds_to_the_breaker_and_a_red_without_it_neither_adds_nor_ends_the_row() -> None:
    stage = Stage()
    three = replace(HEALTHY, new=replace(HEALTHY.new, succeeded=30, failed=3))
    later = replace(HEALTHY, new=replace(HEALTHY.new, succeeded=0))
    made = [stage.check(evidence) for evidence in (three, *[later] * 10, three, *[later] * 10)]
    assert {decision.signal for decision in made} == {Signal.RED}
    assert [decision.carry.reds for decision in made] == [1] * 11 + [2] * 11
    assert made[0].next == "2 more consecutive red checks roll it back."
    assert made[10].next == (
        "No new failures in this check. 2 more consecutive red checks with new failures roll it back."
    )
    assert stage.check(three).action is Action.ROLL_BACK


def test_two_of_a_few_migrations_are_yellow_and_do_not_roll_back() -> None:
    stage = Stage()
    first = replace(BROKEN, feature=failing(2, 10), new=replace(HEALTHY.new, succeeded=33, failed=2))
    assert stage.check(first).signal is Signal.RED  # 20 points in this check
    decisions = stage.run(replace(HEALTHY, new=replace(HEALTHY.new, succeeded=0)), until=200)
    assert {decision.action for decision in decisions} == {Action.NONE}
    assert {decision.signal for decision in decisions} == {Signal.YELLOW}


def test_kill_switch_users_who_are_merely_still_there_do_not_roll_back() -> None:
    stage = Stage()
    stage.check(replace(HEALTHY, new=replace(HEALTHY.new, kill_switch=21)))
    decisions = stage.run(HEALTHY, until=100)
    assert {(decision.signal, decision.action) for decision in decisions} == {(Signal.RED, Action.NONE)}
    more = replace(HEALTHY, new=replace(HEALTHY.new, kill_switch=1))
    assert [stage.check(more).action for _ in range(2)] == [Action.NONE, Action.ROLL_BACK]


# --- Limits that grow ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("active", "score", "signal"),
    [
        (100, 5, "green"),
        (100, 6, "yellow"),
        (100, 14, "yellow"),
        (100, 15, "red"),
        (1000, 50, "green"),
        (1000, 51, "yellow"),
        (1000, 149, "yellow"),
        (1000, 150, "red"),
        (5000, 31, "green"),
    ],
)
def test_the_limits_of_the_score_grow_with_the_clients(active: int, score: int, signal: str) -> None:
    busy = replace(HEALTHY, feature=Side(active=active, score=score, points=score))
    decision = Stage().check(busy)
    assert decision.cells[0].signal == signal
    assert decision.thresholds is not None
    assert decision.thresholds.clients == active
    literal = replace(POLICY, score_clients=0)
    assert Stage().check(busy, policy=literal).cells[0].signal == (
        "red" if score >= 15 else "yellow" if score > 5 else "green"
    )


def test_a_check_says_its_limit_and_what_it_grew_with() -> None:
    says = Stage().check(replace(HEALTHY, feature=Side(active=5000, score=31, points=31))).cells[0].says
    assert says == "31 points in this check, red from 750 with 5,000 clients"
    says = Stage().check(replace(HEALTHY, feature=failing(10)), minutes=60).cells[0].says
    assert says == "30 points in this check, red from 900 with 60 intervals"
    assert Stage().check(HEALTHY).cells[0].says == "0 points in this check, red from 15"


def test_an_hour_without_a_judge_is_measured_by_the_limits_of_an_hour() -> None:
    hour = replace(HEALTHY, feature=failing(50, 6, active=60), errors={"default": 100})
    assert Stage().check(hour, minutes=60).cells[0].signal is Signal.GREEN  # up to 300
    assert Stage().check(hour).cells[0].signal is Signal.RED


def test_a_beat_that_is_late_or_early_by_some_seconds_changes_no_limit() -> None:
    for seconds in (31, 59, 60.2, 89):
        decision = Stage().check(replace(HEALTHY, feature=failing(5)), minutes=seconds / 60)
        assert decision.cells[0].signal is Signal.RED
        assert decision.cells[0].says == "15 points in this check, red from 15"


def test_errors_at_a_million_sessions_an_hour_that_both_groups_have_are_green() -> None:
    minute = replace(
        HEALTHY,
        feature=failing(4, active=5000, console_errors=4),
        baseline=failing(36, active=45_000, console_errors=36),
        errors={"default": 4},
        new=Counts(
            succeeded=1600,
            treatment=1600,
            assigned=1600,
            unassigned=14_400,
            control=14_400,
            sessions=1600,
            treatment_errors=1,
            control_errors=7,
        ),
    )
    decisions = Stage(timeline="conservative").run(minute, until=60)
    assert acted(decisions) == (60, Action.PROMOTE, Decimal(50))


# --- Whom a check counts ------------------------------------------------------------------------------------------


def test_when_every_client_of_a_small_site_fails_it_is_rolled_back_within_five_clients() -> None:
    stage = Stage("100")
    clients = 0
    for minute in range(1, 60):
        new = minute % 2  # a client every other minute
        one = Evidence(
            events=3 * new,
            feature=failing(new, active=new),
            errors={"default": new} if new else {},
            new=Counts(treatment=new, treatment_errors=new, sessions=new, error_sessions=new),
        )
        clients += new
        if stage.check(one).action is Action.ROLL_BACK:
            break
    assert clients <= 5


def test_clients_without_the_feature_that_fail_alone_are_yellow_alerted_and_block_the_promotion() -> None:
    for broken in (failing(3, 5, active=180), failing(2, 3, active=180, console_errors=2)):
        stage = Stage(timeline="conservative")
        decisions = stage.run(replace(HEALTHY, baseline=broken), until=200)
        assert {(decision.signal, decision.action) for decision in decisions} == {
            (Signal.YELLOW, Action.NONE)
        }
        assert stage.alerts == [AlertKind.BASELINE]
        assert "only clients without the feature fail" in decisions[-1].reason
        stage.run(HEALTHY, until=201)
        assert stage.state.carry.signal is Signal.GREEN


def test_networks_that_fail_without_the_feature_are_named_as_networks() -> None:
    decision = Stage().check(replace(HEALTHY, unsigned_baseline=failing(10, active=100), networks=100))
    assert "only networks without the feature fail: 10 of 100" in decision.reason


def test_noise_of_many_clients_without_the_feature_blocks_nothing() -> None:
    noise = replace(
        HEALTHY,
        feature=failing(83, 1, active=5000, console_warnings=45),
        baseline=failing(750, 1, active=45_000, console_warnings=400),
    )
    decision = Stage().check(noise)
    assert (decision.signal, decision.alerts) == (Signal.GREEN, ())


def test_at_100_percent_old_tabs_without_the_feature_block_nothing() -> None:
    decision = Stage("100").check(replace(HEALTHY, baseline=failing(30, 5, active=30)))
    assert (decision.signal, decision.alerts) == (Signal.GREEN, ())


WEATHER = replace(
    HEALTHY,
    feature=failing(20, active=20, console_errors=20),
    baseline=failing(20, active=20, console_errors=20),
    errors={"default": 20},
    new=replace(HEALTHY.new, treatment_errors=20, control=20, unassigned=20, control_errors=20),
)


def test_when_everybody_fails_there_is_no_data_an_alert_and_neither_promotion_nor_rollback() -> None:
    stage = Stage("50")
    stage.run(HEALTHY, until=3)
    decisions = stage.run(WEATHER, until=400)
    assert {(decision.signal, decision.action) for decision in decisions} == {(Signal.NO_DATA, Action.NONE)}
    assert "not the feature: everybody has errors" in decisions[0].reason
    assert decisions[0].alerts == (AlertKind.WEATHER,)
    assert stage.alerts.count(AlertKind.WEATHER) == 1
    stage.run(HEALTHY, until=401)
    # The errors of those minutes are not held against the feature.
    assert stage.state.carry.signal is Signal.GREEN


def test_the_same_failures_are_red_with_too_few_clients_to_compare() -> None:
    alone = replace(WEATHER, baseline=failing(19, active=19, console_errors=19))
    assert Stage("50").check(alone).signal is Signal.RED


def test_the_feature_is_red_in_bad_weather_once_it_is_known_to_be_worse() -> None:
    worse = replace(
        WEATHER,
        feature=failing(60, active=60, console_errors=60),
        baseline=failing(30, active=60, console_errors=30),
        new=replace(HEALTHY.new, treatment_errors=60, control_errors=6, unassigned=20),
    )
    assert Stage("50").check(worse).signal is Signal.RED


def test_one_broken_browser_without_the_feature_is_no_weather() -> None:
    ours = failing(16, active=160, console_errors=16)
    for theirs in (failing(1, 10, active=40), failing(1, active=40, console_errors=1)):
        one = replace(HEALTHY, feature=ours, baseline=theirs)
        decision = Stage("80").check(one)
        assert (decision.signal, decision.alerts) == (Signal.RED, (AlertKind.RED,))


def test_a_feature_that_is_worse_than_the_weather_is_found_with_time() -> None:
    many = Counts(treatment=160, treatment_errors=32, sessions=160, control=40, control_errors=3)
    worse = replace(
        HEALTHY,
        feature=failing(32, active=160),
        baseline=failing(3, active=40),
        new=replace(many, assigned=160, unassigned=40),
    )
    stage = Stage("80")
    assert stage.check(worse).alerts == (AlertKind.WEATHER,)
    decisions = stage.run(worse, until=30)
    assert decisions[-1].action is Action.ROLL_BACK


def test_events_without_a_variant_or_a_flag_are_yellow_at_most_and_in_no_sample() -> None:
    lost = Evidence(events=400, clients=40, unknown=failing(40, 10, active=40, console_errors=40))
    decision = Stage().check(lost)
    assert decision.signal is Signal.NO_DATA
    assert decision.carry.totals.treatment == 0
    stage = Stage()
    decisions = stage.run(replace(HEALTHY, unknown=lost.unknown), until=50)
    assert {(decision.signal, decision.action) for decision in decisions} == {(Signal.YELLOW, Action.NONE)}


def unsigned(networks: int, **fields: Any) -> Evidence:
    """Return a healthy minute in which so many networks report failures without a ticket."""
    return replace(
        HEALTHY,
        unsigned=failing(networks, 10, active=networks, console_errors=networks),
        networks=networks,
        new_unsigned=Counts(failed=networks),
        **fields,
    )


def test_at_100_percent_old_tabs_that_fail_shield_no_broken_feature() -> None:
    broken = replace(WEATHER, feature=failing(60, active=60), baseline=failing(25, active=25))
    assert acted(Stage("100").run(broken, until=5)) == (3, Action.ROLL_BACK, None)


def test_bad_weather_hides_no_failed_migrations_of_networks() -> None:
    minute = replace(
        HEALTHY,
        unsigned=failing(10, 10, active=50),
        unsigned_baseline=failing(25, 10, active=25),
        new_unsigned=Counts(failed=10, succeeded=40),
    )
    assert Stage("50").check(minute).signal is Signal.RED
    weather = replace(minute, new_unsigned=Counts(succeeded=50))
    assert Stage("50").check(weather).signal is Signal.NO_DATA


def test_one_network_without_a_ticket_stops_nothing() -> None:
    stage = Stage(timeline="conservative")
    stage.check(unsigned(1))
    decisions = stage.run(replace(unsigned(1), new_unsigned=Counts()), until=90)
    assert acted(decisions) == (89, Action.PROMOTE, Decimal(50))
    assert stage.alerts == []


@pytest.mark.parametrize(
    ("networks", "signal", "alerts"),
    [(4, "yellow", [AlertKind.UNSIGNED]), (5, "red", [AlertKind.RED, AlertKind.ROLLED_BACK])],
)
def test_networks_without_a_ticket_are_red_from_five_on(
    networks: int, signal: str, alerts: list[AlertKind]
) -> None:
    stage = Stage()
    decisions = [stage.check(unsigned(networks))]
    decisions += stage.run(replace(unsigned(networks), new_unsigned=Counts()), until=3)
    assert {decision.signal.value for decision in decisions} == {signal}
    assert stage.alerts == alerts


@pytest.mark.parametrize(("theirs", "signal"), [(25, Signal.NO_DATA), (2, Signal.RED)])
@pytest.mark.parametrize("side", ["unsigned_baseline", "baseline"])
def test_a_few_networks_that_fail_without_the_feature_are_no_weather(
    theirs: int, signal: Signal, side: str
) -> None:
    sides: dict[str, Any] = {"unsigned": failing(30, 10, active=30), side: failing(theirs, 10, active=25)}
    assert Stage("50").check(replace(HEALTHY, networks=55, **sides)).signal is signal


def test_networks_that_are_red_say_by_which_number() -> None:
    fled = replace(
        HEALTHY,
        unsigned=Side(active=30, failing=6, score=6, errors=6, console_errors=6),
        networks=30,
        new_unsigned=Counts(treatment=30, kill_switch=21),
    )
    decision = Stage("50").check(fled)
    assert decision.signal is Signal.RED
    assert "6 of 30 networks without a ticket report failures, 6 of them console errors" in decision.reason
    assert "21 kill-switch users" in decision.reason


def test_networks_without_a_ticket_are_no_sample_and_promote_nothing() -> None:
    many = Evidence(
        events=900,
        clients=300,
        unsigned=Side(active=300),
        networks=300,
        new_unsigned=Counts(treatment=300, succeeded=300, sessions=300),
    )
    decisions = Stage(timeline="accelerated").run(many, until=100)
    assert {(decision.signal, decision.action) for decision in decisions} == {(Signal.NO_DATA, Action.NONE)}
    assert "300 networks without a ticket, which promote nothing" in decisions[-1].reason


def test_the_server_s_own_outcomes_are_the_first_cell() -> None:
    broken = replace(HEALTHY, server=failing(5, active=6), server_baseline=failing(1, active=60))
    decisions = Stage().run(broken, until=5)
    assert acted(decisions) == (3, Action.ROLL_BACK, None)
    assert (
        decisions[0]
        .cells[0]
        .says.startswith("creates with the feature failed for 5 of 6 users; without it 1 of 60")
    )
    away = replace(HEALTHY, server=failing(20, active=20), server_baseline=failing(60, active=60))
    assert Stage().check(away).signal is Signal.NO_DATA


@pytest.mark.parametrize(
    ("theirs", "others", "signal"),
    [
        (failing(5, active=5), Side(active=90), Signal.NO_DATA),
        (failing(2, active=2), Side(active=20), Signal.NO_DATA),
        (failing(1, active=1), Side(active=90), Signal.RED),  # one user's mistake
        (failing(2, active=9), Side(active=90), Signal.RED),  # less often than with the feature
        (failing(5, active=5), Side(active=19), Signal.RED),  # too few without the feature
        (failing(25, active=25), Side(), Signal.NO_DATA),  # users without telemetry are clients too
    ],
)
def test_an_outage_is_weather_for_the_few_who_create_something_meanwhile(
    theirs: Side, others: Side, signal: Signal
) -> None:
    away = replace(HEALTHY, server=failing(5, active=5), server_baseline=theirs, baseline=others)
    assert Stage().check(away).signal is signal


def test_creations_that_fail_for_a_few_without_the_feature_are_no_weather() -> None:
    broken = replace(
        HEALTHY,
        server=failing(30, active=30),
        server_baseline=failing(8, active=25),
        baseline=Side(active=90),
    )
    assert Stage("50").check(broken).signal is Signal.RED


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


@pytest.mark.parametrize("percentage", ["10", "100"])
def test_heartbeats_of_clients_without_the_feature_are_no_heartbeat(percentage: str) -> None:
    stage = Stage(percentage, "accelerated")
    stage.run(HEALTHY, until=2)
    decisions = stage.run(Evidence(events=180, clients=180, baseline=Side(active=180)), until=1500)
    assert {(decision.signal, decision.action) for decision in decisions} == {(Signal.NO_DATA, Action.NONE)}
    assert "no heartbeat of clients with the feature for 1 min" in decisions[0].reason
    assert stage.alerts == [AlertKind.NO_DATA]


@pytest.mark.parametrize("percentage", ["10", "100"])
def test_hours_that_nobody_watched_are_no_hours(percentage: str) -> None:
    stage = Stage(percentage, "accelerated")
    for _ in range(7):
        decision = stage.check(HEALTHY, minutes=600)
        assert decision.action is Action.NONE
    assert decision.carry.watched == 14 * MINUTE


def test_a_clock_that_is_set_back_stops_neither_the_stage_nor_the_alert_of_no_data() -> None:
    stage = Stage(timeline="accelerated")
    for _ in range(10):
        stage.check(HEALTHY)
    stage.minute -= 60
    assert stage.check(HEALTHY).carry.watched == 10 * MINUTE
    decisions = stage.run(HEALTHY, until=-10)
    assert acted(decisions) == (20, Action.PROMOTE, 50)
    stage = Stage()
    stage.check(SILENT, minutes=60)
    for minutes in (-60, 29, 2):
        stage.check(SILENT, minutes=minutes)
    assert stage.alerts == [AlertKind.NO_DATA]


def test_minutes_without_enough_data_are_no_minutes_of_the_stage() -> None:
    for missing in (
        replace(HEALTHY, new=Counts(treatment=0)),
        replace(HEALTHY, lossy_clients=5, lost=9),
    ):
        stage = Stage(timeline="accelerated")
        stage.run(missing, until=29)
        assert acted(stage.run(HEALTHY, until=200)) == (30, Action.PROMOTE, Decimal(50))


def test_while_migrations_are_tracked_too_few_of_them_are_no_data() -> None:
    stage = Stage(timeline="accelerated", track_migrations=True)
    quiet = replace(HEALTHY, new=replace(HEALTHY.new, succeeded=0))
    decision = stage.run(quiet, until=100)[-1]
    assert (decision.signal, decision.holds) == (Signal.NO_DATA, ("no migrations yet: 0 of 20",))
    decision = stage.check(replace(HEALTHY, new=replace(HEALTHY.new, succeeded=19)))
    assert decision.holds == ("too few migrations: 19 of 20",)
    assert stage.check(replace(HEALTHY, new=replace(HEALTHY.new, succeeded=1))).signal is Signal.GREEN
    # What migrates nothing says so by switching tracking off.
    assert Stage().check(quiet).signal is Signal.GREEN


def test_too_few_samples_are_no_data() -> None:
    few = replace(HEALTHY, new=Counts(treatment=19, sessions=19))
    stage = Stage()
    decision = stage.check(few)
    assert (decision.signal, decision.holds) == (
        Signal.NO_DATA,
        ("too few samples: 19 of 20 clients with the feature",),
    )
    assert stage.check(replace(few, new=Counts(treatment=1, sessions=1))).signal is Signal.GREEN


def test_lost_telemetry_is_no_data() -> None:
    assert Stage().check(replace(HEALTHY, lossy_clients=1, lost=999)).signal is Signal.GREEN
    decision = Stage().check(replace(HEALTHY, lossy_clients=2, lost=2))
    assert (decision.signal, decision.holds) == (
        Signal.NO_DATA,
        ("telemetry is lost: 2 of 20 clients report dropped events",),
    )
    # Networks and the server's users are clients of the check, and not of this share.
    with_networks = replace(HEALTHY, clients=500, networks=480, lossy_clients=2, lost=2)
    assert Stage().check(with_networks).holds == decision.holds


def test_errors_without_heartbeats_are_still_red() -> None:
    assert Stage().check(replace(BROKEN, feature=failing(5, 10, active=0))).signal is Signal.RED


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
@pytest.mark.parametrize("red", [failing(5), failing(2, console_errors=2)])
def test_a_canary_that_was_red_once_climbs_only_by_hand(timeline: str, red: Side) -> None:
    stage = Stage(timeline=timeline)
    stage.check(replace(HEALTHY, feature=red, errors={"default": 5}))
    decisions = stage.run(HEALTHY, until=1000)
    assert {decision.action for decision in decisions} == {Action.NONE}
    assert "only a person promotes to 50 %" in decisions[-1].next


@pytest.mark.parametrize("timeline", ["accelerated", "conservative"])
def test_at_50_percent_the_six_hours_without_red_begin_anew_after_a_red_check(timeline: str) -> None:
    stage = Stage("50", timeline)
    stage.run(HEALTHY, until=100)
    assert stage.check(LOUD).carry.watched == timedelta(0)
    assert acted(stage.run(HEALTHY, until=1000)) == (360, Action.PROMOTE, Decimal(100))


def test_the_manual_timeline_only_advises() -> None:
    decisions = Stage(timeline="manual").run(HEALTHY, until=100)
    assert {decision.action for decision in decisions} == {Action.NONE}
    assert decisions[-1].advice is Action.PROMOTE
    assert decisions[-1].next.startswith("Ready for 50 %")
    assert "its timeline is manual" in decisions[-1].next


def test_it_says_when_the_next_step_is_due() -> None:
    decision = Stage(timeline="accelerated").check(HEALTHY)
    assert decision.due_at == T0 + 30 * MINUTE
    assert decision.next == "Promotion to 50 % after 30 min, if: no error event in the stage."


# --- The day at 100 % ---------------------------------------------------------------------------------------------


def test_a_day_at_100_percent_within_the_limits_is_complete() -> None:
    decisions = Stage("100").run(HEALTHY, until=1500)
    assert acted(decisions) == (24 * 60, Action.COMPLETE, None)
    assert AlertKind.COMPLETED in decisions[-1].alerts


@pytest.mark.parametrize(
    ("always", "first", "why"),
    [
        ({"succeeded": 99, "failed": 1}, {}, "migration success under 99.5 %"),
        ({}, {"kill_switch": 29}, "29 kill-switch users"),
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
    stage.check(replace(HEALTHY, feature=failing(1, 5), errors={"validation": 1}))
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
sides = st.builds(Side, **dict.fromkeys(Side.__dataclass_fields__, counts))
many_counts = st.builds(Counts, **dict.fromkeys(Counts.__dataclass_fields__, counts))
SIDES = ("feature", "baseline", "unknown", "unsigned", "unsigned_baseline", "server", "server_baseline")
NUMBERS = ("events", "clients", "networks", "unsigned_events", "lossy_clients")


@st.composite
def evidences(draw: Any) -> Evidence:
    return Evidence(
        **{name: draw(counts) for name in NUMBERS},
        **{name: draw(sides) for name in SIDES},
        new=draw(many_counts),
        new_unsigned=draw(many_counts),
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
        if not evidence.events or (not evidence.feature.active and decision.signal is not Signal.RED):
            assert decision.signal is Signal.NO_DATA


def test_no_data_is_never_green() -> None:
    for events, active, treatment in itertools.product([0, 5], [0, 5], [0, 50]):
        if events and active and treatment:
            continue
        evidence = Evidence(
            events=events, feature=Side(active=active), clients=5, new=Counts(treatment=treatment)
        )
        assert Stage().check(evidence).signal is Signal.NO_DATA
