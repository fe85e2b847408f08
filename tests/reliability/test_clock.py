"""Clocks that jump: only the database's clock decides when a key expires, and no jump loses a fund."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User

from idempotency.models import IdempotencyKey
from tests.clock import SEARCH_PATH, Clock, travelling
from tests.conftest import Api
from tests.fundapi.api.test_idempotency import assert_replays
from tests.reliability.conftest import LAB, PATIENT
from tests.servers import Server, manage, running_server

PATH: dict[str, Any] = {"LAB_SEARCH_PATH": SEARCH_PATH}


@pytest.fixture(scope="module")
def travel(database: None) -> Iterator[Clock]:
    with travelling() as clock:
        yield clock


@pytest.fixture
def clock(travel: Clock) -> Clock:
    travel.reset()
    return travel


@pytest.fixture(scope="module")
def berlin(travel: Clock) -> Iterator[Server]:
    """A server that lives by that clock, on a machine that keeps summer time."""
    zone: dict[str, Any] = {"TZ": "Europe/Berlin", "PGTZ": "Europe/Berlin"}
    with running_server(workers=1, **LAB, **PATIENT, **zone, **PATH) as server:
        yield server


@pytest.fixture
def api(berlin: Server, user: User) -> Iterator[Api]:
    with Api(berlin, user) as client:
        yield client


def stored(user: User) -> IdempotencyKey:
    return IdempotencyKey.objects.get(principal=str(user.pk))


def test_a_clock_that_jumps_ahead_ends_a_key_when_its_day_is_over(api: Api, clock: Clock, key: str) -> None:
    first = api.create(key)
    clock.set_ahead("23 hours 59 minutes")
    assert_replays(api.create(key), first)
    clock.set_ahead("24 hours 1 minute")
    second = api.create(key)
    assert (second.status_code, second.headers["Idempotency-Status"]) == (201, "created")
    clock.set_ahead("0")
    assert_replays(api.create(key), second)


def test_a_key_from_the_future_replays_and_is_not_purged_when_the_clock_is_set_back(
    api: Api, clock: Clock, user: User, key: str
) -> None:
    clock.set_ahead("3 days")
    first = api.create(key)
    clock.set_ahead("0")
    assert_replays(api.create(key), first)
    purge_at(clock, "3 days 23 hours 59 minutes")
    assert_replays(api.create(key), first)
    purge_at(clock, "4 days 1 minute")
    assert not IdempotencyKey.objects.filter(principal=str(user.pk)).exists()


def purge_at(clock: Clock, ahead: str) -> None:
    clock.set_ahead(ahead)
    purge = manage("purge_idempotency_keys", **LAB, **PATH)
    assert purge.returncode == 0, purge.stderr


@pytest.mark.parametrize("eve", ["2026-03-28 18:00+01", "2026-10-24 18:00+02"])
def test_a_day_has_24_hours_when_summer_time_begins_and_ends(
    api: Api, clock: Clock, user: User, key: str, eve: str
) -> None:
    clock.set_to(eve)
    first = api.create(key)
    kept = stored(user)
    assert (kept.expires_at - kept.created_at).total_seconds() == 86_400
    clock.set_to(eve.replace("18:00", "23:59"))
    assert_replays(api.create(key), first)


def test_what_a_client_believes_about_the_time_changes_nothing(api: Api, clock: Clock, key: str) -> None:
    first = api.create(key, Date="Fri, 01 Jan 1999 00:00:00 GMT")
    assert_replays(api.create(key, Date="Sat, 01 Jan 2050 00:00:00 GMT"), first)
