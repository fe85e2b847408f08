"""Whom the judge believes, from the request of a browser or a liar to the check."""

import re
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import override_settings
from prometheus_client import generate_latest

from rollout import operations, store, tickets
from rollout.models import Check, TelemetryEvent
from rollout.tick import tick
from tests.canary import Canary
from tests.servers import Server, running_server

NOW = datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)  # of some browser: only differences count


@pytest.fixture(scope="module")
def public(database: None) -> Iterator[Server]:
    """A server behind a proxy that names each client's address, with the default of unsigned telemetry."""
    with running_server(workers=1, TRUSTED_PROXIES="1", ROLLOUT_UNSIGNED_TELEMETRY="") as server:
        yield server


@pytest.fixture
def by_network() -> Iterator[None]:
    with override_settings(ROLLOUT_UNSIGNED_TELEMETRY="network"):
        yield


@pytest.fixture
def canary(public: Server) -> Iterator[Canary]:
    made = Canary(public)
    yield made
    made.http.close()
    operations.set_percentage(made.feature, Decimal(0), reason="end of the test", at=made.now)


def report(
    canary: Canary,
    *events: str,
    address: str = "192.0.2.1",
    client: str = "",
    variant: str | None = "fund-store",
    age: timedelta = timedelta(0),
    times: int = 1,
    **fields: Any,
) -> dict[str, Any]:
    """Send events in one batch from an address, and return the answer."""
    sent = [
        {
            "id": uuid.uuid4().hex,
            "event": name,
            "flag": canary.feature,
            "variant": variant,
            "at": (NOW - age).isoformat(),
        }
        for name in events * times
    ]
    body = {
        "clientId": client or uuid.uuid4().hex,
        "sessionId": "1",
        "sentAt": NOW.isoformat(),
        "events": sent,
    }
    answer = canary.http.post("/api/telemetry", json=body | fields, headers={"X-Forwarded-For": address})
    assert answer.status_code == 202
    taken: dict[str, Any] = answer.json()
    assert taken["accepted"] == len(sent)
    return taken


def kept(canary: Canary) -> int:
    return TelemetryEvent.objects.filter(flag=canary.feature).count()


def checks(canary: Canary, each: Callable[[int], object], times: int = 3) -> list[Check]:
    made = []
    for number in range(times):
        each(number)
        made.append(canary.check())
    return made


# --- Old events -----------------------------------------------------------------------------------------------------


def test_a_laptop_that_wakes_up_is_kept_and_not_judged(canary: Canary) -> None:
    for _ in range(20):
        report(canary, "heartbeat")

    def wake(_: int) -> None:
        for _ in range(5):
            report(canary, "migration_failed", "error", times=5, age=timedelta(hours=26))
        report(canary, "heartbeat")

    made = checks(canary, wake)
    assert kept(canary) == 20 + 3 * (50 + 1)
    assert [check.score for check in made] == [0, 0, 0]
    assert made[-1].evidence["new"]["failed"] == 0
    assert canary.rollout.percentage == 10


def test_the_same_events_are_judged_when_they_are_fresh(canary: Canary) -> None:
    made = checks(
        canary, lambda _: [report(canary, "heartbeat", "migration_failed") for _ in range(5)] and None
    )
    assert made[-1].action == "roll_back"
    assert canary.rollout.percentage == 0


def test_an_event_from_before_the_stage_is_kept_and_not_judged(canary: Canary) -> None:
    report(canary, "heartbeat", "migration_failed", age=timedelta(minutes=9))
    report(canary, "heartbeat", "migration_failed")
    assert kept(canary) == 4
    assert canary.check().evidence["new"]["failed"] == 1


# --- Liars, where anybody can reach the intake ----------------------------------------------------------------------


@pytest.mark.usefixtures("by_network")
def test_one_address_with_made_up_ids_rolls_nobody_back(canary: Canary) -> None:
    """Twelve POSTs of one process under two ids did it before."""
    liars = [uuid.uuid4().hex, uuid.uuid4().hex]

    def lie(_: int) -> None:
        for liar in liars * 2:
            report(canary, "heartbeat", "migration_failed", "console_error", client=liar, times=20)

    made = checks(canary, lie, times=5)
    assert {check.action for check in made} == {"none"}
    assert canary.rollout.percentage == 10
    assert [cell["signal"] for cell in made[-1].decision["cells"] if cell["name"] == "unsigned"] == ["yellow"]
    assert made[-1].evidence["networks"] == 1


@pytest.mark.usefixtures("by_network")
def test_an_address_cannot_change_its_network_by_a_header(canary: Canary) -> None:
    made = checks(
        canary,
        lambda _: [
            report(canary, "heartbeat", "migration_failed", address=f"198.51.{number}.1, 192.0.2.1")
            for number in range(50)
        ],
    )
    assert made[-1].evidence["networks"] == 1
    assert canary.rollout.percentage == 10


@pytest.mark.usefixtures("by_network")
def test_five_networks_that_fail_roll_back(canary: Canary) -> None:
    def fail(networks: int) -> None:
        for number in range(networks):
            report(canary, "heartbeat", "migration_failed", address=f"192.0.{number}.1")

    made = checks(canary, lambda _: fail(4))
    assert [check.signal for check in made] == ["hold"] * 3
    assert [check.decision["alerts"] for check in made] == [("unsigned",), (), ()]
    assert canary.rollout.percentage == 10
    made = checks(canary, lambda _: fail(6))
    assert made[-1].action == "roll_back"
    assert canary.rollout.percentage == 0


@pytest.mark.usefixtures("by_network")
def test_a_thousand_made_up_healthy_browsers_are_no_sample(canary: Canary) -> None:
    def lie(_: int) -> None:
        for number in range(200):
            report(canary, "heartbeat", "migration_succeeded", address=f"192.0.{number}.1")

    made = checks(canary, lie, times=5)
    assert {check.signal for check in made} == {"hold"}
    assert canary.rollout.percentage == 10


@pytest.mark.usefixtures("by_network")
def test_a_user_has_one_voice_however_many_browsers_and_tickets(canary: Canary, user: User) -> None:
    def lie(_: int) -> None:
        for number in range(20):
            ticket = tickets.issue(user.pk).text
            report(canary, "heartbeat", "migration_failed", address=f"192.0.{number}.1", ticket=ticket)

    made = checks(canary, lie, times=5)
    assert made[-1].evidence["feature"]["active"] == 1
    assert made[-1].evidence["networks"] == 0
    assert max(check.score for check in made) == 10
    assert canary.rollout.percentage == 10


@pytest.mark.usefixtures("by_network")
def test_two_accounts_that_lie_together_roll_back(canary: Canary) -> None:
    """Left over (docs/explanation/threats.md): administrators make accounts, and the limits are the runbook's."""
    liars = [tickets.issue(f"{canary.feature} {number}").text for number in range(2)]

    def lie(_: int) -> None:
        for ticket in liars:
            report(canary, "heartbeat", "migration_failed", times=5, ticket=ticket)

    assert checks(canary, lie)[-1].action == "roll_back"


@pytest.mark.usefixtures("by_network")
def test_real_users_behind_one_address_are_heard(canary: Canary) -> None:
    """An office: one network, forty tickets."""
    operations.set_percentage(canary.feature, Decimal(50), reason="half have it", at=canary.now)
    texts = [tickets.issue(f"{canary.feature} {number}").text for number in range(20)]

    def work(_: int) -> None:
        for text in texts:
            report(canary, "heartbeat", "migration_succeeded", ticket=text)
            report(canary, "heartbeat", variant="legacy", client=text, ticket=tickets.issue(text).text)

    made = checks(canary, work)
    assert [check.signal for check in made] == ["green"] * 3
    failing = checks(
        canary, lambda _: [report(canary, "heartbeat", "error", ticket=text) for text in texts] and None
    )
    assert failing[-1].action == "roll_back"


@override_settings(ROLLOUT_UNSIGNED_TELEMETRY="none")
def test_nobody_without_a_ticket_is_judged_where_the_setting_says_so(canary: Canary) -> None:
    def lie(_: int) -> None:
        for number in range(20):
            report(canary, "heartbeat", "migration_failed", address=f"192.0.{number}.1")

    made = checks(canary, lie)
    assert {check.evidence["events"] for check in made} == {0}
    assert canary.rollout.percentage == 10
    assert kept(canary) == 120


def test_an_expired_ticket_is_as_none(canary: Canary, user: User) -> None:
    old = tickets.issue(user.pk, now=time.time() - 3601).text
    assert report(canary, "heartbeat", ticket=old)["ticket"] == "expired"
    with override_settings(ROLLOUT_UNSIGNED_TELEMETRY="network"):
        assert canary.check().evidence["networks"] == 1


# --- What is not judged ---------------------------------------------------------------------------------------------


def unjudged(canary: Canary, reason: str) -> float:
    metric = generate_latest().decode()
    found = re.findall(rf'unjudged_total{{feature="{canary.feature}",reason="{reason}"}} (\S+)', metric)
    return float(found[0]) if found else 0


def test_events_that_are_left_out_are_counted_by_reason(canary: Canary) -> None:
    old = timedelta(hours=26)
    report(canary, "heartbeat", "error", age=old)
    report(canary, "heartbeat", age=timedelta(minutes=9))
    report(canary, "heartbeat")
    made = canary.check()
    assert made.evidence["unjudged"] == {"stale": 2, "before_stage": 1}
    assert made.evidence["events"] == 1
    assert unjudged(canary, "stale") == 0  # a check alone, as in a rehearsal, is in no metric
    report(canary, "heartbeat", age=old)
    tick_of(canary)
    assert unjudged(canary, "stale") == 1


@override_settings(ROLLOUT_UNSIGNED_TELEMETRY="none")
def test_unsigned_events_that_nobody_judges_are_counted(canary: Canary) -> None:
    report(canary, "heartbeat", "error")
    assert canary.check().evidence["unjudged"] == {"unsigned": 2}


def tick_of(canary: Canary) -> None:
    canary.rewind()
    assert canary.feature in {check.rollout.feature for check in tick()}


@pytest.fixture
def cap() -> Iterator[None]:
    with override_settings(ROLLOUT_UNSIGNED_TELEMETRY="full", ROLLOUT_NETWORK_CLIENTS_MAX=10):
        yield


@pytest.mark.usefixtures("cap")
def test_a_network_has_so_many_clients_in_a_stage_and_no_more(canary: Canary) -> None:
    for _ in range(7):
        report(canary, "heartbeat")
    first = canary.check()
    assert (first.evidence["new"]["treatment"], first.evidence["unjudged"]) == (7, {})
    for _ in range(5):
        report(canary, "heartbeat", "error")
    report(canary, "heartbeat", address="198.51.100.1")
    second = canary.check()
    assert second.evidence["new"]["treatment"] == 3 + 1
    assert second.evidence["unjudged"] == {"capped": 4}
    assert second.evidence["feature"]["failing"] == 3
    report(canary, "heartbeat", "error")
    third = canary.check()
    assert (third.evidence["events"], third.evidence["unjudged"]) == (0, {"capped": 2})


@pytest.mark.usefixtures("cap")
def test_clients_that_are_in_the_stage_stay_and_users_are_never_capped(canary: Canary) -> None:
    known = [uuid.uuid4().hex for _ in range(10)]
    for client in known:
        report(canary, "heartbeat", client=client)
    canary.check()
    for client in known:
        report(canary, "heartbeat", client=client)
    for number in range(5):
        ticket = tickets.issue(f"{canary.feature} {number}").text
        report(canary, "heartbeat", ticket=ticket)
    made = canary.check()
    assert made.evidence["unjudged"] == {}
    assert made.evidence["feature"]["active"] == 15
    assert made.evidence["new"]["treatment"] == 5


@pytest.mark.usefixtures("cap")
def test_a_new_stage_counts_anew(canary: Canary) -> None:
    for _ in range(11):
        report(canary, "heartbeat")
    assert canary.check().evidence["unjudged"] == {"capped": 1}
    operations.set_percentage(canary.feature, Decimal(50), reason="next stage", at=canary.now)
    for _ in range(10):
        report(canary, "heartbeat")
    assert canary.check().evidence["unjudged"] == {}


@override_settings(ROLLOUT_UNSIGNED_TELEMETRY="full", ROLLOUT_NETWORK_CLIENTS_MAX=0)
def test_without_a_cap_every_client_is_judged(canary: Canary) -> None:
    for _ in range(30):
        report(canary, "heartbeat")
    assert canary.check().evidence["new"]["treatment"] == 30


@pytest.mark.usefixtures("by_network")
def test_whatever_a_network_makes_up_it_adds_a_few_rows(canary: Canary) -> None:
    earlier = store.last_seq()  # events of other tests that name no feature
    for number in range(20):
        names = [f"made_up_{number}_{each}" for each in range(10)]
        report(canary, "heartbeat", *names, variant=f"v{number}")
        report(canary, "heartbeat", *(f"{name}_failed" for name in names))
    assert canary.check().evidence["networks"] == 1
    rows, left_out = store.window(
        canary.feature,
        after=earlier,
        upto=store.last_seq(),
        began_at=NOW - timedelta(days=10_000),
        age_max=timedelta(minutes=10),
        unsigned="network",
        known=store.Known(("fund-store",), ("heartbeat",), ()),
    )
    flagged = [row for row in rows if row.flagged]
    assert (len(flagged), left_out) == (4, {})
    assert sum(row.count for row in flagged) == 440
