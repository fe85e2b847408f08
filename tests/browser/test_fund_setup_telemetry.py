"""``/fund-setup`` reports what it does: by the right variant from the first heartbeat on, and for its user."""

import json
from typing import Any

from playwright.sync_api import Route

from rollout import tickets
from rollout.models import TelemetryEvent
from tests.browser.fund_setup import CONFIGURATION, Manager, Operator, manager, operator, visit
from tests.eventually import eventually

__all__ = ["manager", "operator", "visit"]  # fixtures

TICKETS = "**/api/telemetry/ticket"


def reported(manager: Manager) -> list[dict[str, Any]]:
    """Return all events of the tab, once there is a heartbeat and the server has all."""
    manager.page.wait_for_function("window.__telemetry?.export().some(({ event }) => event === 'heartbeat')")
    manager.page.evaluate("window.__telemetry.flush()")
    events: list[dict[str, Any]] = manager.page.evaluate("window.__telemetry.export()")
    return events


def stored(manager: Manager) -> list[TelemetryEvent]:
    client = manager.page.evaluate("window.__telemetry.clientId")
    return list(TelemetryEvent.objects.filter(client=client).order_by("seq"))


def test_no_event_of_a_first_visit_at_100_percent_says_legacy(manager: Manager, operator: Operator) -> None:
    operator("set", "100")

    def slowly(route: Route) -> None:
        manager.page.wait_for_timeout(300)
        route.continue_()

    manager.page.route(CONFIGURATION, slowly)
    manager.open(store="fund-store")
    events = reported(manager)
    assert [event["variant"] for event in events if event["event"] == "heartbeat"] == ["fund-store"]
    assert {event["variant"] for event in events} <= {"fund-store", None}
    assert [row.variant for row in stored(manager) if row.event == "heartbeat"] == ["fund-store"]


def test_the_buffer_is_saved_as_the_runbook_reads_it(manager: Manager) -> None:
    """``cat ./telemetry-buffer.json | jq '.[] | select(.category == "error")'``"""
    manager.open()
    manager.page.evaluate("window.__telemetry.record('migration_failed', { detail: 'quota' })")
    with manager.page.expect_download() as download:
        manager.page.evaluate("window.__telemetry.download()")
    assert download.value.suggested_filename == "telemetry-buffer.json"
    events = json.loads(download.value.path().read_text())
    assert [event["event"] for event in events if event.get("category") == "error"] == ["migration_failed"]


def test_the_first_heartbeat_after_a_promotion_has_the_feature(manager: Manager, operator: Operator) -> None:
    """The configuration that the browser keeps is that of its last visit."""
    manager.open(store="legacy")
    assert [event["variant"] for event in reported(manager)] == ["legacy"]
    operator("set", "100")
    other = manager.another_tab().open(store="fund-store")
    assert {event["variant"] for event in reported(other)} == {"fund-store"}
    # The first tab heard of it from the second.
    manager.page.evaluate("window.__telemetry.record('seen')")
    assert manager.events("seen")[0]["variant"] == "fund-store"


def test_a_browser_without_a_configuration_says_that_it_does_not_know(
    manager: Manager, operator: Operator
) -> None:
    operator("set", "100")
    manager.page.route(CONFIGURATION, lambda route: route.abort())
    manager.open(store="legacy")
    manager.page.wait_for_function("window.__telemetry.export().some(({ event }) => event === 'heartbeat')")
    assert {event["variant"] for event in manager.events("heartbeat")} == {None}


def test_events_are_their_user_s_and_the_page_asks_for_no_ticket(
    manager: Manager, operator: Operator
) -> None:
    asked: list[str] = []
    manager.page.on("request", lambda request: asked.append(request.url))
    manager.open()
    reported(manager)
    signer = tickets.signer_of(manager.user.pk)
    assert {row.signer for row in stored(manager)} == {signer}
    manager.page.evaluate("window.__telemetry.record('left')")
    seen = stored(manager)
    manager.page.goto("/livez")  # a beacon

    arrived = eventually(lambda: list(TelemetryEvent.objects.filter(client=seen[0].client, event="left")))
    assert [row.signer for row in arrived] == [signer]
    assert not [url for url in asked if url.endswith("/api/telemetry/ticket")]


def test_a_page_with_an_expired_ticket_gets_a_new_one(manager: Manager, operator: Operator) -> None:
    old = tickets.issue(manager.user.pk, now=1_700_000_000)

    def expired(route: Route) -> None:
        page = route.fetch().text()
        now = tickets.issue(manager.user.pk).text
        start = page.index('data-ticket="') + len('data-ticket="')
        route.fulfill(body=page[:start] + old.text + page[start + len(now) :], content_type="text/html")

    manager.page.route("**/fund-setup", expired)
    manager.open()
    with manager.page.expect_response(TICKETS) as asked:
        reported(manager)  # refused: the server's answer says so
        manager.page.evaluate(
            "Date.now = ((now) => () => now() + 61_000)(Date.now)"  # not before a minute has passed
        )
        manager.page.evaluate("window.__telemetry.record('later'); window.__telemetry.flush()")
    assert asked.value.status == 200
    manager.page.evaluate("window.__telemetry.flush()")
    rows = stored(manager)
    assert {row.signer for row in rows if row.event == "heartbeat"} == {None}
    assert [row.signer for row in rows if row.event == "later"] == [tickets.signer_of(manager.user.pk)]
