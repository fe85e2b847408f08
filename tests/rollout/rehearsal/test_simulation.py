"""Rehearsals: generated traffic through the real judge, in a transaction that leaves nothing behind."""

import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import cache
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import msgspec
import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.test import override_settings
from prometheus_client import REGISTRY, generate_latest

from rollout import store
from rollout.evaluation import Config
from rollout.judge.decision import AlertKind
from rollout.judge.scoring import Signal
from rollout.judge.state import Action
from rollout.management.commands.simulate_rollout import action_and_reason, as_overview, draw
from rollout.models import Rollout, TelemetryEvent
from rollout.rehearsal import scenario as scenarios
from rollout.rehearsal.scenario import Expected, Outcome, Rates, Scenario, ScenarioError
from rollout.rehearsal.simulation import RehearsedCheck, Run, notable, rehearse, unmet
from rollout.rehearsal.traffic import Browsers
from tests.servers import PROJECT, Server

IMAGES = PROJECT / "docs/images"


def scenario_of(**fields: Any) -> Scenario:
    return scenarios.parse({"description": "a test", **fields})


@cache
def rehearsed(name: str) -> Run:
    """Rehearse a scenario once for every test of its result."""
    with override_settings(
        ROLLOUT_WATCH=timedelta(hours=1),  # 24 hours in which nothing happens take long
        ROLLOUT_UNSIGNED_TELEMETRY="full",  # what the machine is set to does not matter
    ):
        return rehearse(scenarios.load(name))


# --- What comes of them ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", scenarios.names())
def test_every_scenario_ends_as_its_file_expects(database: None, tmp_path: Path, name: str) -> None:
    scenario = scenarios.load(name)
    run = rehearsed(name)
    assert scenario.expected is not None
    assert unmet(run, scenario.expected) == []
    pictured = IMAGES / f"simulation-{name}.svg"
    if pictured.exists():
        draw(tmp_path / pictured.name, name, run)
        now, documented = (tmp_path / pictured.name).read_text(), pictured.read_text()
        assert now == documented, f"manage.py simulate_rollout --scenario {name} --plot {pictured}"


def test_every_scenario_is_documented() -> None:
    page = (PROJECT / "docs/how-to/simulation.md").read_text()
    section = page.partition("## The scenarios")[2].partition("## What if")[0]
    named = {
        name
        for row in re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
        for name in re.findall("`(.+?)`", row)
    }
    assert named == set(scenarios.names())


@pytest.mark.parametrize(
    ("name", "seed"),
    [("silence", 2), ("slow-burn", 2), *(("sudden-break-at-50", seed) for seed in range(2, 6))],
)
def test_it_is_not_for_their_seeds(database: None, name: str, seed: int) -> None:
    scenario = scenarios.load(name)
    assert scenario.expected is not None
    assert unmet(rehearse(scenario, seed=seed), scenario.expected) == []


def test_a_healthy_rollout_climbs_at_the_accelerated_pace(database: None) -> None:
    run = rehearsed("healthy")
    promoted = [(look.minute, look.target) for look in run.looks if look.action is Action.PROMOTE]
    # The clock begins with the first green check, once 20 clients have the feature.
    first = next(look.minute for look in run.looks if look.signal is Signal.GREEN)
    full_at = first - 1 + 30 + 120
    assert first < 10
    assert promoted == [(full_at - 120, 50), (full_at, 100)]
    assert (run.outcome, run.ended, run.full_at) == (Outcome.COMPLETED, full_at + 60, full_at)
    assert (run.failures, run.trips) == (0, ())


def test_a_break_is_rolled_back_by_the_third_red_check_and_recorded(database: None) -> None:
    run = rehearsed("sudden-break-at-50")
    assert [look.signal for look in run.looks[-3:]] == [Signal.RED] * 3
    assert run.looks[-1].action is Action.ROLL_BACK
    assert (run.percentage, run.broke, run.rolled_back_after) == (0, 34, 3)
    (trip,) = run.trips
    assert (trip.began, trip.tripped) == (35, 37)
    assert 0 < run.exposed < run.clients


def test_one_client_that_floods_rolls_back_nobody(database: None) -> None:
    scenario = scenarios.override(scenarios.load("one-bad-client"), hours=1)
    run = rehearse(scenario)
    assert run.failures == 15 * 2000
    assert Signal.RED not in {look.signal for look in run.looks}
    assert run.percentage >= 10


def test_without_the_cap_it_would(database: None, settings: Any) -> None:
    settings.ROLLOUT_POINTS_CLIENT_MAX = 10**9
    settings.ROLLOUT_RED_CLIENTS_MIN = 1
    run = rehearse(scenarios.override(scenarios.load("one-bad-client"), hours=1))
    assert (run.outcome, run.ended) == (Outcome.ROLLED_BACK, 23)


def test_without_auto_rollback_it_only_says_so(database: None) -> None:
    scenario = scenario_of(auto_rollback=False, hours=1, treatment={"migration_failure": 0.5})
    run = rehearse(scenario)
    assert (run.outcome, run.percentage) == (Outcome.TRIPPED, 10)


def test_a_manual_timeline_only_advises(database: None) -> None:
    scenario = scenario_of(timeline="manual", hours=1.6)
    run = rehearse(scenario)
    assert (run.outcome, run.percentage) == (Outcome.UNDER_WAY, 10)
    assert run.looks[-1].advice is Action.PROMOTE


def test_the_same_seed_gives_the_same_run(database: None) -> None:
    scenario = scenarios.load("sudden-break-at-50")
    first, again, other = rehearsed("sudden-break-at-50"), rehearse(scenario), rehearse(scenario, seed=99)
    assert replace(first, took=0) == replace(again, took=0)
    assert first.looks != other.looks


# --- What they leave alone ------------------------------------------------------------------------------------------


def test_nothing_is_left_behind_and_nobody_is_told(database: None, settings: Any) -> None:
    def rows() -> dict[str, int]:
        models = apps.get_app_config("rollout").get_models()
        return {model.__name__: model._default_manager.count() for model in models}

    settings.ROLLOUT_ALERT_EMAILS = ["night@funds.example"]
    before = rows()
    run = rehearse(scenarios.load("sudden-break-at-50"))
    # So there was something to leave: the incident, and that it turned red and was rolled back.
    assert (run.outcome, len(run.trips), run.messages) == (Outcome.ROLLED_BACK, 1, 2)
    assert rows() == before
    assert b"SIMULATION_" not in generate_latest(REGISTRY)


@contextmanager
def rehearsing(scenario: Scenario) -> Iterator[dict[str, Any]]:
    """Rehearse in a thread with its own connection. Yields a dictionary for the result."""
    result: dict[str, Any] = {}

    def run() -> None:
        try:
            result["run"] = rehearse(scenario)
        except OperationalError as error:
            result["error"] = error
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    result["thread"] = thread
    thread.start()
    try:
        yield result
    except BaseException:
        end(who_rehearses())  # it may be one that takes minutes
        raise
    finally:
        thread.join(60)


def who_rehearses() -> int | None:
    """Return the process of PostgreSQL in whose transaction a rehearsal has stored telemetry."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND (classid::bigint << 32 | objid::bigint) = %s",
            [store.REHEARSAL_FENCE],
        )
        row = cursor.fetchone()
    return row[0] if row else None


def end(pid: int | None) -> None:
    """Kill a connection, as a crash would."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])


def wait_until_it_rehearses() -> int:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if pid := who_rehearses():
            return pid
        time.sleep(0.02)
    raise AssertionError("no rehearsal began")


def report(server: Server, *events: str, flag: str | None) -> httpx.Response:
    """Let a new browser send a heartbeat and these events."""
    body = {
        "clientId": str(uuid.uuid4()),
        "sessionId": str(uuid.uuid4()),
        "events": [
            {"id": str(uuid.uuid4()), "event": name, "flag": flag, "variant": "fund-store"}
            for name in ("heartbeat", *events)
        ],
    }
    return httpx.post(f"{server.url}/api/telemetry", json=body, timeout=30)


def test_intake_and_judge_go_on_while_a_rehearsal_runs_and_killing_it_leaves_nothing(server: Server) -> None:
    with rehearsing(scenario_of(hours=7 * 24, timeline="manual")) as result:
        pid = wait_until_it_rehearses()
        upto, _ = store.fence()  # what the judge begins with: waits for every intake that is under way
        answer = report(server, flag=None)
        after, _ = store.fence()
        assert (answer.status_code, answer.json()["accepted"]) == (202, 1)
        assert after > upto
        assert who_rehearses() == pid
        assert result["thread"].is_alive()
        end(pid)
    assert "error" in result
    assert not Rollout.objects.filter(feature__startswith="SIMULATION_").exists()
    assert not TelemetryEvent.objects.filter(flag__startswith="SIMULATION_").exists()


def test_live_telemetry_does_not_get_into_a_rehearsal(server: Server) -> None:
    scenario = scenarios.load("silence")
    alone = rehearsed("silence")
    with rehearsing(scenario) as result:
        wait_until_it_rehearses()
        sent = 0
        while result["thread"].is_alive():  # errors of no feature count for every rollout
            assert report(server, "error", "console_error", flag=None).status_code == 202
            sent += 1
    assert sent > 3
    assert [(look.signal, look.score) for look in result["run"].looks] == [
        (look.signal, look.score) for look in alone.looks
    ]


# --- The traffic ----------------------------------------------------------------------------------------------------


def config_at(percentage: float) -> Config:
    return Config(
        feature="ANY", enabled=True, percentage=Decimal(percentage), emergency_stop=False, hash_version=2
    )


class Crowd:
    """Browsers, and what each has reported so far: ``{client: [(event, variant)]}``."""

    def __init__(self, seed: int = 1, **fields: Any) -> None:
        self.scenario = scenario_of(**fields)
        self.browsers = Browsers("ANY", variant="on", seed=seed)
        self.events: dict[uuid.UUID, list[tuple[str, str | None]]] = {}

    def pass_minutes(self, minutes: int, percentage: float) -> "Crowd":
        for minute in range(minutes):
            conditions = self.scenario.conditions(minute, percentage)
            for event in self.browsers.minute(conditions, config_at(percentage)):
                self.events.setdefault(event.client, []).append((event.event, event.variant))
        return self

    def names(self) -> list[str]:
        return [name for events in self.events.values() for name, _ in events]


def test_clients_get_the_feature_by_the_percentage_and_keep_it() -> None:
    crowd = Crowd(traffic={"sessions_per_minute": 30, "returning": 0.8})
    crowd.pass_minutes(60, 10)
    with_feature = {client for client, events in crowd.events.items() if ("heartbeat", "on") in events}
    assert 0.02 < len(with_feature) / len(crowd.events) < 0.2
    before = {client: len(events) for client, events in crowd.events.items()}
    crowd.pass_minutes(60, 50)
    later = {
        client: {variant for _, variant in events[before.get(client, 0) :]}
        for client, events in crowd.events.items()
    }
    assert all("legacy" not in later[client] for client in with_feature)
    assert 0.4 < sum("on" in variants for variants in later.values()) / sum(map(bool, later.values())) < 0.6
    crowd.pass_minutes(10, 100)
    assert {variant for _, variant in list(crowd.events.values())[-1]} == {"on"}


def test_a_client_migrates_once_when_it_first_has_the_feature() -> None:
    crowd = Crowd(traffic={"sessions_per_minute": 30, "returning": 0.9}, treatment={"migration_failure": 0.5})
    crowd.pass_minutes(40, 50)
    names = crowd.names()
    migrations = [names.count("migration_succeeded"), names.count("migration_failed")]
    assert all(0.3 < count / sum(migrations) < 0.7 for count in migrations)
    for events in crowd.events.values():
        tried = [name for name, _ in events if name.startswith("migration")]
        assert len(tried) == any(variant == "on" for _, variant in events)


def test_a_client_that_uses_the_kill_switch_has_legacy_from_then_on() -> None:
    crowd = Crowd(traffic={"sessions_per_minute": 30, "returning": 0.9}, treatment={"kill_switch": 0.2})
    crowd.pass_minutes(60, 100)
    killed = [events for events in crowd.events.values() if ("kill_switch_used", "on") in events]
    assert len(killed) > 20
    for events in killed:
        after = events[events.index(("kill_switch_used", "on")) + 1 :]
        assert {variant for _, variant in after} <= {"legacy"}


def test_rates_are_shares_of_sessions_in_each_variant() -> None:
    crowd = Crowd(
        traffic={"sessions_per_minute": 100, "returning": 0, "session_minutes": 1},
        treatment={"error": 0.2},
        control={"console_warning": 0.1},
    )
    crowd.pass_minutes(60, 50)
    events = [event for reported in crowd.events.values() for event in reported]
    assert 5500 < crowd.browsers.began < 6500
    assert 0.17 < events.count(("error", "on")) / events.count(("heartbeat", "on")) < 0.23
    assert 0.07 < events.count(("console_warning", "legacy")) / events.count(("heartbeat", "legacy")) < 0.13
    assert not {("error", "legacy"), ("console_warning", "on")} & set(events)


def arrivals(minutes: int = 10, percentage: float = 50, **fields: Any) -> list[store.Arrival]:
    """Return the telemetry of new browsers."""
    scenario, browsers = scenario_of(**fields), Browsers("ANY", variant="on", seed=1)
    return [
        event
        for minute in range(minutes)
        for event in browsers.minute(scenario.conditions(minute, percentage), config_at(percentage))
    ]


def share(of: Collection[Any], among: Collection[Any]) -> float:
    return len(of) / len(among)


def test_a_session_that_crashes_on_load_sends_nothing() -> None:
    events = arrivals(traffic={"sessions_per_minute": 100}, treatment={"crash": 1})
    assert {event.variant for event in events} == {"legacy"}
    half = arrivals(traffic={"sessions_per_minute": 100}, treatment={"crash": 0.5})
    assert 0.2 < share([event for event in half if event.variant == "on"], half) < 0.5


def test_clients_sign_unless_the_scenario_says_otherwise() -> None:
    signed = arrivals()
    assert all(event.signer == event.client and not event.network for event in signed)
    mixed = arrivals(traffic={"sessions_per_minute": 100, "unsigned": 0.5, "networks": 3})
    assert {event.network for event in mixed} == {"", "10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24"}
    assert all((event.signer is None) == bool(event.network) for event in mixed)
    unsigned = {event.client for event in mixed if event.signer is None}
    assert 0.4 < share(unsigned, {event.client for event in mixed}) < 0.6


def test_users_may_have_several_browsers() -> None:
    events = arrivals(traffic={"sessions_per_minute": 100, "browsers_per_user": 3})
    clients, users = {event.client for event in events}, {event.signer for event in events}
    assert 2.5 < share(clients, users) < 3.5


def test_clients_may_name_no_flag_or_no_variant_or_none_yet() -> None:
    events = arrivals(traffic={"sessions_per_minute": 100, "no_flag": 0.5, "no_variant": 0.5})
    nameless = {event.client for event in events if event.variant is None}
    without_flag = {event.client for event in events if event.flag is None}
    assert without_flag < nameless
    assert 0.4 < share(without_flag, {event.client for event in events}) < 0.6
    assert not nameless & {event.client for event in events if event.variant}
    unready = arrivals(traffic={"sessions_per_minute": 100, "session_minutes": 5, "unready": 1})
    assert {event.event for event in unready if event.variant is None} == {"heartbeat"}
    assert {event.variant for event in unready if event.event == "migration_succeeded"} == {"on"}


def test_the_server_reports_creates_of_the_user_by_variant() -> None:
    events = arrivals(
        traffic={"sessions_per_minute": 100, "session_minutes": 1, "creating": 1, "unsigned": 0},
        treatment={"create_failure": 1},
    )
    server = {(event.event, event.variant, event.ok) for event in events if event.server}
    assert server == {("fund_create_failure", "on", False), ("fund_create_success", "legacy", True)}
    assert all(event.signer == event.client == event.session for event in events if event.server)


def test_a_share_of_sessions_reports_dropped_events_and_of_clients_migrates() -> None:
    events = arrivals(traffic={"sessions_per_minute": 100, "dropping": 0.3, "migrating": 0.2, "returning": 0})
    sessions = {event.session for event in events}
    assert 0.25 < share({event.session for event in events if event.lost}, sessions) < 0.35
    has = {event.client for event in events if event.variant == "on"}
    assert 0.15 < share({event.client for event in events if event.event.startswith("migration")}, has) < 0.25


@pytest.mark.parametrize(
    ("flood", "clients", "signers", "networks", "variants"),
    [
        ({"clients": 6}, 6, 6, {""}, {"on"}),
        ({"clients": 6, "users": 2}, 6, 2, {""}, {"on"}),
        ({"clients": 6, "networks": 2}, 6, 1, {"10.0.0.0/24", "10.0.1.0/24"}, {"on"}),
        ({"clients": 6, "variant": "without"}, 6, 6, {""}, {"legacy"}),
        ({"clients": 6, "variant": "none"}, 6, 6, {""}, {None}),
        ({"clients": 6, "flag": False}, 6, 6, {""}, {None}),
    ],
)
def test_a_flood_is_of_as_many_clients_users_and_networks_as_it_says(
    flood: dict[str, Any], clients: int, signers: int, networks: set[str], variants: set[str | None]
) -> None:
    events = arrivals(
        3, traffic={"sessions_per_minute": 0}, flood={**flood, "events_per_minute": 2, "age_seconds": 90}
    )
    assert len(events) == 3 * clients * (1 + 2)
    assert len({event.client for event in events}) == clients
    assert len({event.signer for event in events}) == signers
    assert {event.network for event in events} == networks
    assert {event.variant for event in events} == variants
    assert {event.age for event in events if event.event == "heartbeat"} == {0}
    assert {event.age for event in events if event.event == "migration_failed"} == {90}


def test_minutes_without_a_judge_or_telemetry_or_the_right_time(database: None) -> None:
    segments = [
        {"from_minute": 5, "until_minute": 10, "judge_away": True},
        {"from_minute": 15, "until_minute": 20, "telemetry_away": True},
        {"from_minute": 16, "clock_minutes": 3},
    ]
    run = rehearse(scenario_of(hours=0.5, traffic={"sessions_per_minute": 100}, segments=segments))
    assert [look.minute for look in run.looks] == [*range(1, 6), *range(11, 31)]
    silent = [look.minute for look in run.looks if "no heartbeat" in look.reason]
    assert silent == [16, 17, 18, 19, 20]
    assert run.looks[-1].succeeded == run.looks[14].succeeded + sum(
        after.succeeded - before.succeeded for before, after in pairwise(run.looks[14:])
    )


def test_a_rehearsal_has_a_million_sessions_an_hour() -> None:
    browsers = Browsers("ANY", variant="on", seed=1)
    conditions = scenarios.load("million-sessions-an-hour").conditions(0, 90)
    began = time.process_time()
    events = browsers.minute(conditions, config_at(90))
    assert browsers.began > 16_000
    assert len(events) > 16_000
    assert time.process_time() - began < 5  # s; some 0.3, and the judge needs as long


def test_bots_report_and_have_no_heartbeat() -> None:
    crowd = Crowd(traffic={"sessions_per_minute": 0, "bots_per_minute": 5}).pass_minutes(20, 100)
    assert set(crowd.names()) == {"fund_create_attempt"}


def test_segments_change_what_they_name_and_no_more() -> None:
    scenario = scenario_of(
        treatment={"error": 0.1, "kill_switch": 0.2},
        segments=[
            {"from_minute": 10, "until_minute": 20, "treatment": {"error": 0.5}},
            {"from_percentage": 50, "broken": True, "traffic": {"times": 10}},
        ],
    )
    early, middle, late = (scenario.conditions(minute, 10) for minute in (9, 10, 20))
    assert (early.treatment.error, middle.treatment.error, late.treatment.error) == (0.1, 0.5, 0.1)
    assert middle.treatment.kill_switch == 0.2
    full = scenario.conditions(10, 50)
    assert (full.broken, full.traffic.times, full.treatment.error) == (True, 10, 0.5)
    assert not middle.broken
    over = scenarios.override(scenario, error_rate=0.01, sessions_per_minute=7, timeline="manual")
    assert over.conditions(10, 50).treatment.error == 0.01
    assert (over.conditions(10, 50).traffic.sessions_per_minute, over.timeline) == (7, "manual")


# --- What is said of them -------------------------------------------------------------------------------------------


def look(minute: int, signal: str, action: Action = Action.NONE, percentage: float = 10) -> RehearsedCheck:
    return RehearsedCheck(
        minute=minute,
        percentage=percentage,
        signal=Signal(signal),
        score=0,
        succeeded=0,
        failed=0,
        action=action,
        advice=action,
        target=50 if action is Action.PROMOTE else None,
        reason="",
        next="",
        alerts=(),
    )


def run_of(*looks: RehearsedCheck, **fields: Any) -> Run:
    blank = Run(
        seed=1,
        outcome=Outcome.ROLLED_BACK,
        ended=looks[-1].minute,
        percentage=0,
        looks=looks,
        trips=(),
        messages=0,
        broke=None,
        exposed=0,
        clients=0,
        sessions=0,
        events=0,
        failures=0,
        took=0,
    )
    return replace(blank, **fields)


def test_changes_and_actions_are_notable_and_taking_turns_is_not() -> None:
    looks = [
        look(1, "hold"),
        look(2, "green"),
        look(3, "yellow"),
        look(4, "green"),
        look(5, "yellow"),
        look(6, "hold"),
        look(7, "green"),
        look(8, "green", Action.PROMOTE),
        look(9, "green"),
        look(10, "yellow"),
        look(11, "green"),
        look(12, "yellow"),
        look(13, "red"),
        look(14, "red"),
        look(15, "red", Action.ROLL_BACK),
    ]
    assert [each.minute for each in notable(looks)] == [1, 2, 3, 6, 7, 8, 10, 13, 15]


@pytest.mark.parametrize(("signal", "label"), [("hold", "no data"), ("red", "red")])
def test_the_signal_beside_a_reason_is_not_repeated_in_it(signal: str, label: str) -> None:
    made = replace(look(1, signal), reason=f"{label}: too few samples (to 50 % after 1 h)")
    assert action_and_reason(made).plain == "too few samples (to 50 % after 1 h)"


@pytest.mark.parametrize(
    ("expected", "says"),
    [
        (Expected(outcome=Outcome.ROLLED_BACK, highest=50, by_minute=40, within_minutes=10), None),
        (Expected(outcome=Outcome.COMPLETED), "expected completed"),
        (Expected(outcome=Outcome.ROLLED_BACK, highest=100), "expected to reach 100 %, not 50 %"),
        (Expected(outcome=Outcome.ROLLED_BACK, by_minute=39), "expected by minute 39, not 40"),
        (Expected(outcome=Outcome.ROLLED_BACK, within_minutes=9), "9 min after the break, not 10"),
        (
            Expected(outcome=Outcome.ROLLED_BACK, signal=Signal.RED, percentage=0, never=(Signal.NO_DATA,)),
            None,
        ),
        (
            Expected(outcome=Outcome.ROLLED_BACK, signal=Signal.NO_DATA),
            "expected no data at the end, not red",
        ),
        (Expected(outcome=Outcome.ROLLED_BACK, percentage=10), "expected to end at 10 %, not 0 %"),
        (Expected(outcome=Outcome.ROLLED_BACK, never=(Signal.GREEN, Signal.RED)), "expected never red"),
        (Expected(outcome=Outcome.ROLLED_BACK, alerts=(AlertKind.ROLLED_BACK,)), None),
        (Expected(outcome=Outcome.ROLLED_BACK, alerts=(AlertKind.WEATHER,)), "expected the alert 'weather'"),
    ],
)
def test_what_was_not_as_expected_is_named(expected: Expected, says: str | None) -> None:
    last = replace(look(40, "red", Action.ROLL_BACK, 50), alerts=("rolled_back",))
    run = run_of(last, broke=30)
    wrong = unmet(run, expected)
    assert len(wrong) == (says is not None)
    assert says is None or says in wrong[0]


# --- Files ----------------------------------------------------------------------------------------------------------

TWO_SEGMENTS = 'description = "x"\n[[segments]]\n[[segments]]\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "missing required field `description`"),
        ("description = ", "Invalid value"),
        ('description = "x"\nhurs = 3', "unknown field `hurs`"),
        ('description = "x"\nhours = 0', "> 0"),
        ('description = "x"\nhours = nan', "`$.hours`"),
        ('description = "x"\ntimeline = "fast"', "fast"),
        ('description = "x"\npercentage = 101', "<= 100"),
        ('description = "x"\n[treatment]\nerror = 1.5', "<= 1.0 - at `$.treatment.error`"),
        ('description = "x"\n[treatment]\nerror = "few"', "`$.treatment.error`"),
        ('description = "x"\n[traffic]\nsessions_per_minute = -1', ">= 0.0"),
        (TWO_SEGMENTS + "treatment = { eror = 1 }", "Segment 2: Object contains unknown field `eror`"),
        ('description = "x"\n[[segments]]\nfrom_minute = 5\nuntil_minute = 5', "`until_minute` must be later"),
        ('description = "x"\n[expected]\noutcome = "good"', "good"),
        ('description = "x"\n[expected]\noutcome = "held"\nalerts = ["panic"]', "panic"),
        ('description = "x"\nunsigned_telemetry = "some"', "some"),
        ('description = "x"\n[flood]\nnetworks = 70000', "<= 65536"),
        ('description = "x"\n[[segments]]\nclock_minutes = inf', "clock_minutes"),
    ],
)  # fmt: skip
def test_a_file_that_makes_no_sense_is_refused_with_the_place(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ScenarioError) as refused:
        scenarios.load(str(path))
    assert str(path) in str(refused.value)
    assert says in str(refused.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    for name in ("absent.toml", "bytes.toml", "."):
        with pytest.raises(ScenarioError):
            scenarios.load(str(tmp_path / name))


# --- The documentation ----------------------------------------------------------------------------------------------


def block(language: str) -> str:
    """Return the one block of code in a language that docs/how-to/simulation.md has."""
    page = (PROJECT / "docs/how-to/simulation.md").read_text()
    (found,) = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    return str(found)


def test_the_documented_query_tells_the_rates_of_real_traffic(server: Server) -> None:
    feature = f"ASKED_{uuid.uuid4().hex[:12].upper()}"
    report(server, flag=feature)
    report(server, "error", "migration_failed", flag=feature)
    with connection.cursor() as cursor:
        # psycopg takes a lone % for a parameter.
        cursor.execute(block("sql").replace("USE_FUND_STORE", feature).replace("%", "%%"), [])
        names = [column.name for column in cursor.description]
        (row,) = cursor.fetchall()
    asked = dict(zip(names, row, strict=True))
    assert round(asked["sessions_per_minute"] * 1440, 3) == 2
    assert (asked["session_minutes"], asked["error"], asked["kill_switch"]) == (1, 0.5, 0)
    rates = {name: asked[name] for name in asked if name in Rates.__struct_fields__}
    # A client that crashes on load leaves no row.
    assert set(rates) == set(Rates.__struct_fields__) - {"crash"}


# --- The command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def simulate(database: None) -> Callable[..., tuple[int, str]]:
    """Run the command; gives its exit code and what it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        out = StringIO()
        code = 0
        try:
            call_command("simulate_rollout", *arguments, stdout=out)
        except SystemExit as end:
            code = int(end.code or 0)
        return code, out.getvalue()

    return run


Simulate = Callable[..., tuple[int, str]]


def test_the_report_says_what_the_judge_did_and_when(simulate: Simulate, tmp_path: Path) -> None:
    plot = tmp_path / "break.svg"
    code, text = simulate("--scenario", "sudden-break-at-50", "--plot", str(plot))
    assert code == 0  # it was rolled back, as expected
    for words in (
        "+00:34",
        "Promoted to 50 %",
        "Rolled back: ",
        "+00:37: rolled back, at 0 %.",
        "Fault at +00:34; rolled back 3 min later.",
        "As expected.",
    ):
        assert words in text
    svg = ElementTree.fromstring(plot.read_text())
    assert svg.tag == "{http://www.w3.org/2000/svg}svg"
    assert "sudden-break-at-50: rolled back, +00:37" in plot.read_text()


def test_the_exit_code_tells_healthy_from_rolled_back_from_nobody_can_tell(simulate: Simulate) -> None:
    assert simulate("--hours", "0.7")[0] == 0
    assert simulate("--hours", "2", "--migration-failure-rate", "0.5")[0] == 1
    assert simulate("--hours", "0.2", "--sessions-per-minute", "0")[0] == 2


def test_a_run_that_is_not_as_expected_is_an_error(simulate: Simulate, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('description = "Mine"\nhours = 0.1\n[expected]\noutcome = "completed"\n')
    code, text = simulate("--scenario", str(path))
    assert code == 1
    assert "Not as expected: expected completed, not held." in text


def test_all_runs_every_scenario_and_fails_when_one_does(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenarios, "DIRECTORY", tmp_path)
    quick = 'description = "Quick"\nhours = 0.1\n[expected]\noutcome = '
    (tmp_path / "one.toml").write_text(quick + '"held"\n')
    (tmp_path / "two.toml").write_text(quick + '"held"\n')
    code, text = simulate("--all")
    assert (code, text.count("yes")) == (0, 2)
    assert re.search(r"^2 scenarios, 12 checks in \d+ s\.$", text, re.MULTILINE)
    (tmp_path / "two.toml").write_text(quick + '"completed"\n')
    code, text = simulate("--all", "--json")
    assert (code, [run["unmet"] for run in json.loads(text)]) == (1, [[], ["expected completed, not held"]])


def test_the_overview_has_the_last_signal_and_the_alerts() -> None:
    run = run_of(
        replace(look(1, "hold"), alerts=("hold",)), replace(look(2, "hold"), alerts=("rolled_back", "hold"))
    )
    text = as_overview([("mine", scenario_of(), run)])
    assert re.search(r"mine .*rolled back .*no data .*no data, rolled back", text)


def test_json_has_every_check(simulate: Simulate) -> None:
    code, text = simulate("--hours", "0.5", "--percentage", "50", "--seed", "7", "--json")
    run = json.loads(text)
    assert code == 0
    assert (run["scenario"], run["seed"], run["outcome"], run["expected"]) == (
        "healthy",
        7,
        "under_way",
        None,
    )
    assert [check["minute"] for check in run["looks"]] == list(range(1, 31))
    assert (run["looks"][-1]["percentage"], run["looks"][-1]["signal"]) == (50, "green")


def test_the_list_names_every_scenario(simulate: Simulate) -> None:
    _, text = simulate("--list")
    assert all(name in text for name in scenarios.names())
    assert set(json.loads(simulate("--list", "--json")[1])) == set(scenarios.names())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--scenario", "helthy"], "There is no scenario 'helthy'. Known: all-fail-slowly, backend-away, "),
        (["--scenario", "/nowhere/mine.toml"], "/nowhere/mine.toml cannot be read: No such file"),
        (["--error-rate", "2"], "'2' is not a number from 0 to 1"),
        (["--kill-switch-rate", "nan"], "'nan' is not a number"),
        (["--sessions-per-minute", "many"], "'many' is not a number"),
        (["--hours", "0"], "'0' is not a number"),
        (["--timeline", "fast"], "invalid choice: 'fast'"),
        (["--all", "--hours", "3"], "--all runs the scenarios as they are"),
        (["--hours", "0.1", "--plot", "/nowhere/x.svg"], "/nowhere/x.svg cannot be written"),
    ],
)
def test_bad_input_is_refused_in_words(simulate: Simulate, arguments: list[str], says: str) -> None:
    with pytest.raises(CommandError) as refused:
        simulate(*arguments)
    assert says in str(refused.value)


def test_overriding_nothing_keeps_what_is_expected() -> None:
    scenario = scenarios.load("silence")
    assert scenarios.override(scenario) is scenario
    assert scenarios.override(scenario, hours=2).expected is None
    assert msgspec.structs.replace(scenario, seed=2).expected == scenario.expected
