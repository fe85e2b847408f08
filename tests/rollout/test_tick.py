"""The judge on a real database: telemetry goes in by HTTP, checks come out."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import msgspec
import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import override_settings

from rollout import operations, store
from rollout.judge.decision import Decision
from rollout.models import Check, Incident, TelemetryEvent, Watch
from rollout.tick import check, replay, tick
from tests.canary import Canary, Judged
from tests.eventually import eventually
from tests.servers import database_url


def test_broken_traffic_is_rolled_back_by_the_third_check(traffic: Judged) -> None:
    canary = traffic()
    for expected in (10, 10, 0):
        canary.send("migration_failed", clients=5)
        made = canary.check()
        assert made.signal == "red"
        assert canary.rollout.percentage == expected
    rollout = canary.rollout
    assert (rollout.live_word, rollout.on_hold) == ("legacy", True)
    incident = Incident.objects.get(rollout=rollout)
    assert incident.percentage == 10
    assert incident.rolled_back
    assert incident.began_at == canary.began + timedelta(minutes=1)
    record = rollout.history.latest()
    assert record.history_change_reason.startswith("judge: red: 50 points in this check")
    assert canary.check_if_due() is None  # nothing left to judge


def test_healthy_traffic_climbs_by_itself(traffic: Judged) -> None:
    canary = traffic(timeline="accelerated")
    for _ in range(30):
        canary.send("migration_succeeded", clients=20)
        made = canary.check()
    assert made.action == "promote", made.decision
    assert canary.rollout.percentage == 50


def test_any_past_decision_can_be_replayed(traffic: Judged) -> None:
    canary = traffic()
    canary.send("console_warning", "migration_succeeded", clients=30)
    canary.send(clients=10, variant="legacy")
    canary.check()
    canary.check()  # silence
    for _ in range(2):
        canary.send("migration_failed", "error", clients=3)
        canary.check()
    checks = Check.objects.filter(rollout=canary.rollout).order_by("id")
    assert [made.signal for made in checks] == ["red", "hold", "red", "red"]
    for made in checks:
        assert replay(made) == msgspec.convert(made.decision, Decision, strict=False)


# --- Re-entrant ---------------------------------------------------------------------------------------------------


def checks_at_once(canary: Any, count: int, *, only_due: bool = True) -> list[Check]:
    """Run so many checks at once, and return those that were made."""
    upto, _ = store.fence()

    def check_if_due(_: int) -> Check | None:
        try:
            return check(canary.feature, upto=upto, now=canary.now, only_due=only_due)
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return [made for made in pool.map(check_if_due, range(count)) if made]


def test_two_beats_at_once_check_once(traffic: Judged) -> None:
    canary = traffic()
    for _ in range(3):
        canary.send("migration_failed", clients=3)
        canary.now += timedelta(minutes=1)
        assert len(checks_at_once(canary, 4)) == 1
    assert Check.objects.filter(rollout=canary.rollout).count() == 3
    assert canary.rollout.percentage == 0
    assert Incident.objects.filter(rollout=canary.rollout).count() == 1
    assert canary.rollout.history.filter(percentage=0, history_change_reason__startswith="judge").count() == 1


def test_beats_half_a_minute_apart_check_once_a_minute(traffic: Judged) -> None:
    canary = traffic()
    made = []
    for _ in range(12):
        canary.send("migration_failed", clients=1)
        made.append(canary.check_if_due(0.5))
    assert [check is not None for check in made[:6]] == [True, False, True, False, True, False]


def test_a_person_gets_a_check_when_something_has_arrived_and_only_then(traffic: Judged) -> None:
    canary = traffic()
    for _ in range(2):
        canary.send()
        assert len(checks_at_once(canary, 1, only_due=False)) == 1
        assert checks_at_once(canary, 3, only_due=False) == []


def test_a_beat_that_was_away_for_an_hour_makes_one_check_of_it(traffic: Judged) -> None:
    canary = traffic()
    for _ in range(10):
        canary.send("error", clients=2)
    made = canary.check(minutes=60)
    assert (made.signal, made.evidence["errors"], made.decision["carry"]["reds"]) == (
        "red",
        {"default": 20},
        1,
    )
    assert canary.rollout.percentage == 10
    canary.send()
    assert canary.check().evidence["errors"] == {}


def test_a_clock_that_was_an_hour_ahead_and_is_set_back_leaves_nobody_unwatched(traffic: Judged) -> None:
    canary = traffic()
    canary.send("migration_failed", clients=3)
    canary.check(minutes=60)
    canary.now -= timedelta(minutes=60)
    for _ in range(2):
        canary.send("migration_failed", clients=3)
        assert canary.check().signal == "red"
    assert canary.rollout.percentage == 0


def test_nothing_is_judged_twice_and_nothing_left_out(traffic: Judged) -> None:
    """Telemetry that commits during a check: rows become visible in another order than that of their numbers."""
    canary = traffic()
    occurrence = store.Occurrence(
        uuid.uuid4(), "error", "", ok=False, flag=canary.feature, variant="fund-store"
    )
    source = store.Source(uuid.uuid4(), uuid.uuid4())
    with psycopg.connect(database_url()) as slow, ThreadPoolExecutor(1) as pool:
        # It has its number, and is not committed.
        slow.execute(store.ARRIVE, (store.FENCE, store.as_json(source), store.as_json([occurrence])))

        def check_if_due() -> Check:
            try:
                return canary.check()
            finally:
                connection.close()

        looking = pool.submit(check_if_due)
        waiting = (  # in this database: other test workers have waiters of their own
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        with psycopg.connect(database_url(), autocommit=True) as observer:
            eventually(lambda: observer.execute(waiting).fetchone())
        assert not looking.done()
        slow.commit()
        assert looking.result(30).evidence["errors"] == {"default": 1}


def test_a_new_stage_knows_nothing_of_the_last_one(traffic: Judged) -> None:
    canary = traffic()
    for _ in range(2):
        canary.send("migration_failed", clients=3)
        canary.check()
    canary.send("migration_failed", clients=30)  # not judged yet
    operations.set_percentage(canary.feature, Decimal(20), reason="a person wants to see")
    canary.send("migration_succeeded", clients=20)
    made = canary.check()
    assert (made.signal, made.decision["carry"]["reds"], made.score) == ("green", 0, 0)


def test_other_rollouts_errors_are_theirs_and_nobody_s_are_everybody_s_and_yellow_at_most(
    traffic: Judged,
) -> None:
    ours, theirs = traffic(), traffic()
    theirs.send("migration_failed", clients=5)
    ours.send("migration_succeeded", clients=20)
    assert ours.check().score == 0
    for client in ("a", "b", "c", "d", "e"):
        events = [{"id": uuid.uuid4().hex, "event": "console_error", "variant": "fund-store"}]
        ours.http.post("/api/telemetry", json={"clientId": client, "sessionId": client, "events": events})
    ours.send()
    made = ours.check()
    assert (made.signal, made.score, made.evidence["unknown"]["score"]) == ("yellow", 0, 15)
    assert theirs.check().score == 50


def test_an_event_that_was_old_when_sent_or_is_older_than_the_stage_is_kept_and_not_judged(
    database: None,
) -> None:
    canary = Canary()
    for age, judged in ((26 * 3600, 0), (601, 0), (600, 0), (0, 15)):  # the stage is a moment old
        canary.send("console_error", clients=5, age=age)
        assert canary.check().evidence["feature"]["score"] == judged
    Watch.objects.filter(rollout=canary.pk).update(began_at=canary.began - timedelta(days=1))
    for age, judged in ((601, 0), (600, 15)):
        canary.send("console_error", clients=5, age=age)
        assert canary.check().evidence["feature"]["score"] == judged
    assert TelemetryEvent.objects.filter(flag=canary.feature, event="console_error").count() == 30


def test_what_is_not_under_way_is_not_judged_and_its_past_not_held_against_it(traffic: Judged) -> None:
    canary = traffic()
    operations.stop(canary.feature, reason="fire")
    canary.send("migration_failed", clients=5)
    assert canary.check_if_due() is None
    operations.release(canary.feature, reason="out")
    canary.send("migration_succeeded", clients=20)
    assert canary.check().signal == "green"
    operations.set_percentage(canary.feature, Decimal(100), reason="all")
    operations.complete(canary.feature, reason="done")
    assert not canary.rollout.track_migrations
    canary.send("error", clients=10)
    assert canary.check_if_due() is None


# --- The command --------------------------------------------------------------------------------------------------


def command(*arguments: str) -> Any:
    out = StringIO()
    call_command("check_rollouts", *arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


def of(canary: Any, checks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [made for made in checks if made["feature"] == canary.feature]


def test_ctrl_c_in_the_middle_of_a_commit_ends_a_tick_and_the_next_one_works(
    traffic: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = traffic()
    canary.send("migration_failed", clients=3)

    def cut_off() -> None:
        connection.connection.pgconn.send_query(b"COMMIT")  # and the answer is not waited for
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("rollout.tick.act", lambda *_: patched.setattr(connection, "commit", cut_off))
        with pytest.raises(KeyboardInterrupt):
            tick(only_due=False)
    tick(only_due=False)
    canary.send("migration_failed", clients=3)
    assert [made.signal for made in tick(only_due=False)] == ["red"]


def test_a_rehearsal_by_the_clock_of_the_command(traffic: Judged) -> None:
    canary = traffic(timeline="accelerated")
    for minute in range(1, 31):
        canary.send("migration_succeeded", clients=20)
        at = canary.began + timedelta(minutes=minute)
        (made,) = of(canary, command("--at", at.isoformat()))
        assert made["signal"] == "green"
    assert (made["action"], made["percentage"]) == ("promote", 10.0)
    assert canary.rollout.percentage == 50
    assert canary.rollout.stage_started_at == at


@pytest.mark.parametrize("at", ["tomorrow", "2026-13-01", "31"])
def test_a_time_that_is_none_is_refused(database: None, at: str) -> None:
    with pytest.raises(CommandError, match="is not a time"):
        command("--at", at)


def test_production_judges_by_the_real_time_only(database: None) -> None:
    with override_settings(ROLLOUT_CONFIRM=True), pytest.raises(CommandError, match="--at is for rehearsals"):
        command("--at", "2026-01-01T00:00:00Z")
