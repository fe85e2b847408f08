"""Telemetry and checks are kept for a while; nothing waits for their purge."""

import uuid
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test import override_settings
from django.utils import timezone
from prometheus_client import REGISTRY

from rollout import metrics, operations, store
from rollout.models import Alert, Check, Incident, StageMember, TelemetryEvent
from rollout.purge import purge
from rollout.tasks import purge_rollout_data
from tests.canary import Judged
from tests.clock import travelled
from tests.obedience import undeletable

SMALL = override_settings(ROLLOUT_PURGE_BATCH_SIZE=7, ROLLOUT_PURGE_PAUSE=timedelta(0))


def events(flag: str, count: int, *, days: float) -> None:
    TelemetryEvent.objects.bulk_create(
        TelemetryEvent(
            id=uuid.uuid4(),
            client=uuid.uuid4(),
            session=uuid.uuid4(),
            event="heartbeat",
            ok=True,
            flag=flag,
            arrived_at=timezone.now() - timedelta(days=days),
        )
        for _ in range(count)
    )


@pytest.fixture
def flag(database: None) -> str:
    TelemetryEvent.objects.all().delete()  # of tests that are over: a purge goes by the order of arrival
    return f"OLD_{uuid.uuid4().hex[:12].upper()}"


@SMALL
def test_what_is_older_than_its_retention_goes_in_batches(flag: str) -> None:
    events(flag, 40, days=7.01)
    events(flag, 5, days=6.99)
    assert purge()["telemetry"] == 40
    assert TelemetryEvent.objects.filter(flag=flag).count() == 5
    purge_rollout_data()
    assert TelemetryEvent.objects.filter(flag=flag).count() == 5


@override_settings(ROLLOUT_EVENT_RETENTION=timedelta(days=1))
def test_the_retention_is_a_setting(flag: str) -> None:
    events(flag, 3, days=1.01)
    purge()
    assert not TelemetryEvent.objects.filter(flag=flag).exists()


@SMALL
def test_two_purges_share_the_work_and_wait_for_nobody(flag: str) -> None:
    events(flag, 20, days=8)
    with transaction.atomic():
        held = TelemetryEvent.objects.select_for_update().filter(flag=flag).order_by("seq")[:10]
        kept = [event.pk for event in held]
        week_ago = timezone.now() - timedelta(days=7)
        other = connection.copy()
        try:
            with other.cursor() as cursor:  # another purge holds these rows
                cursor.execute("SET lock_timeout = '2s'")
                cursor.execute(store.PURGE_EVENTS, {"batch": 7, "before": week_ago, "since": 0})
                assert cursor.rowcount == 7
        finally:
            other.close()
    assert TelemetryEvent.objects.filter(pk__in=kept).count() == 10
    assert TelemetryEvent.objects.filter(flag=flag).count() == 13


@SMALL
def test_a_batch_begins_where_the_last_one_ended(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until VACUUM comes, the index still has what was deleted: a batch that begins there reads it all again."""
    events(flag, 9, days=8)
    places = sorted(TelemetryEvent.objects.values_list("seq", flat=True))

    def add_an_earlier_one(_pause: float) -> None:
        events(flag, 1, days=8)
        TelemetryEvent.objects.filter(seq__gt=places[-1]).update(seq=places[0])

    monkeypatch.setattr("rollout.purge.time.sleep", add_an_earlier_one)
    assert purge()["telemetry"] == 9
    assert [event.seq for event in TelemetryEvent.objects.all()] == [places[0]]
    assert purge()["telemetry"] == 1


@override_settings(ROLLOUT_PURGE_BATCH_SIZE=1, ROLLOUT_PURGE_PAUSE=timedelta(0))
def test_a_check_goes_when_it_is_old_and_settled(traffic: Judged) -> None:
    """Rows that are kept do not slow the purge of the others: each batch begins behind them."""
    canary = traffic()
    for _ in range(3):
        canary.send()
        canary.check()
    open_, old, young = Check.objects.filter(rollout=canary.rollout).order_by("id")
    Check.objects.filter(pk=old.pk).update(at=timezone.now() - timedelta(days=31))
    Check.objects.filter(pk=open_.pk).update(at=timezone.now() - timedelta(days=91), settled=False)
    purge()
    assert set(Check.objects.filter(rollout=canary.rollout)) == {open_, young}
    Check.objects.filter(pk=open_.pk).update(settled=True)


def test_the_members_of_a_stage_are_deleted_when_it_is_over(traffic: Judged) -> None:
    canary = traffic()
    canary.send(clients=3)
    canary.check()
    members = StageMember.objects.filter(rollout=canary.rollout)
    assert members.count() == 7  # three clients, three sessions, and the count of their network
    purge()
    assert members.count() == 7
    operations.promote(canary.feature, reason="a test")
    purge()
    assert members.count() == 0


def test_an_alert_goes_when_its_check_would(traffic: Judged) -> None:
    rollout = traffic().rollout
    for age in (31, 29):
        Alert.objects.create(
            key=uuid.uuid4().hex,
            rollout=rollout,
            kind="red",
            channel="email",
            payload={"age": age},
            created_at=timezone.now() - timedelta(days=age),
        )
    purge()
    assert [alert.payload["age"] for alert in Alert.objects.filter(rollout=rollout)] == [29]


# --- Faults -------------------------------------------------------------------------------------------------------


def sample(name: str, table: str) -> float:
    return REGISTRY.get_sample_value(name, {"table": table}) or 0


def test_an_incident_outlives_its_check(traffic: Judged) -> None:
    canary = traffic()
    canary.fail()
    Check.objects.filter(rollout=canary.rollout).update(at=timezone.now() - timedelta(days=91))
    assert purge()["checks"] >= 3
    incident = Incident.objects.get(rollout=canary.rollout)
    assert incident.check_made is None
    assert not Check.objects.filter(rollout=canary.rollout).exists()


PURGED = ["rollout_telemetry", "rollout_check", "rollout_alert", "rollout_stage_member", "idempotency_store"]


def test_no_foreign_key_keeps_sql_from_deleting(database: None) -> None:
    """Django deletes by itself what refers to a deleted row; the purges delete by SQL."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT conname, confdeltype FROM pg_constraint WHERE contype = 'f' AND confrelid = ANY(%s::regclass[])",
            (PURGED,),
        )
        found = cursor.fetchall()
    assert found
    assert [name for name, on_delete in found if on_delete not in {"n", "c"}] == []


@pytest.mark.parametrize("table", ["telemetry", "checks", "alerts", "stage members"])
def test_a_table_that_cannot_be_purged_stops_no_other(
    flag: str, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = {"telemetry": "rollout_telemetry", "checks": "rollout_check", "alerts": "rollout_alert"}
    failures = "rollout_purge_failures_total"
    before = {each: sample(failures, each) for each in metrics.TABLES}
    began = store.clock().timestamp()
    with undeletable(name.get(table, "rollout_stage_member")):
        deleted = purge()
    assert set(deleted) == set(metrics.TABLES) - {table}
    for each in metrics.TABLES:
        assert sample(failures, each) == before[each] + (each == table)
        succeeded = sample("rollout_purge_last_success_timestamp_seconds", each) >= began
        assert succeeded == (each != table)
    (line,) = [each for each in caplog.records if each.getMessage() == "rollout_purge_failed"]
    assert line.table == table  # type: ignore[attr-defined]
    assert set(purge()) == set(metrics.TABLES)


def test_a_worker_whose_clock_is_91_days_ahead_deletes_nothing_that_is_live(
    flag: str, traffic: Judged
) -> None:
    canary = traffic()
    with travelled("-91 days"):
        now = store.clock()
        events(flag, 3, days=0)
        TelemetryEvent.objects.filter(flag=flag).update(arrived_at=now - timedelta(minutes=5))
        canary.send()
        canary.check()
        Check.objects.filter(rollout=canary.rollout).update(at=now)
        alert = Alert.objects.create(
            key=uuid.uuid4().hex,
            rollout=canary.rollout,
            kind="red",
            channel="email",
            payload={},
            created_at=now,
        )
        purge_rollout_data()
    assert TelemetryEvent.objects.filter(flag=flag).count() == 3
    assert Check.objects.filter(rollout=canary.rollout).exists()
    assert Alert.objects.filter(pk=alert.pk).exists()
