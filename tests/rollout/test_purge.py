"""Telemetry and checks are kept for a while; nothing waits for their purge."""

import uuid
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test import override_settings
from django.utils import timezone

from rollout import operations, store
from rollout.models import Alert, Check, StageMember, TelemetryEvent
from rollout.purge import purge
from rollout.tasks import purge_rollout_data
from tests.canary import Judged

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
        other = connection.copy()
        try:
            with other.cursor() as cursor:  # another purge holds these rows
                cursor.execute("SET lock_timeout = '2s'")
                cursor.execute(store.PURGE_EVENTS, {"batch": 7, "before": timezone.now() - timedelta(days=7)})
                assert cursor.rowcount == 7
        finally:
            other.close()
    assert TelemetryEvent.objects.filter(pk__in=kept).count() == 10
    assert TelemetryEvent.objects.filter(flag=flag).count() == 13


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
    assert members.count() == 6  # three clients, three sessions
    purge()
    assert members.count() == 6
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
