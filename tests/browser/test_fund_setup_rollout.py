"""``/fund-setup`` obeys: operators, kill switches, and the last thing it heard when it hears nothing."""

import os
import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from rollout.bucketing import bucket
from rollout.models import TelemetryEvent
from rollout.tickets import signer_of
from tests.browser.fund_setup import (
    CONFIGURATION,
    DRAFT,
    FEATURE,
    Manager,
    Operator,
    Visits,
    manager,
    operator,
    visit,
)
from tests.servers import PROJECT, database_url

__all__ = ["manager", "operator", "visit"]  # fixtures

POLL_INTERVAL_MAX = 18_000  # ms; 15 s and a fifth


def evaluation(manager: Manager) -> dict[str, Any]:
    """Return what support sees."""
    debug: dict[str, Any] = manager.page.evaluate("window.__rollouts.debugRollouts()")
    feature: dict[str, Any] = debug["features"][FEATURE]
    return feature


def stored(manager: Manager, **switches: str) -> None:
    """Set kill switches as the runbook says: ``localStorage.setItem(...)``."""
    manager.page.goto("/livez")
    for name, value in switches.items():
        manager.page.evaluate("([name, value]) => localStorage.setItem(name, value)", [name, value])


def test_an_open_page_follows_an_operator_at_a_shell_within_its_poll_interval(
    manager: Manager, operator: Operator
) -> None:
    manager.page.clock.install()
    manager.open(store="legacy").type(**DRAFT)
    page = manager.page.locator("#fund-setup")
    for command, store in (
        (["set", FEATURE, "100"], "fund-store"),
        (["stop", FEATURE], "legacy"),
    ):
        subprocess.run(
            [sys.executable, "manage.py", "rollout", *command, "--reason", "a test", "--json"],
            cwd=PROJECT,
            env=os.environ | {"DATABASE_URL": database_url()},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        for _ in range(3):  # a poll may be under way already, with the answer from before
            manager.page.clock.run_for(POLL_INTERVAL_MAX)
            with suppress(AssertionError):
                expect(page).to_have_attribute("data-store", store, timeout=10_000)
                break
        manager.ready(store).sees_typed(**DRAFT)


@pytest.mark.parametrize(
    ("percent", "query", "switches", "store", "reason"),
    [
        ("100", "", {}, "fund-store", "percentage"),
        ("0", "", {}, "legacy", "percentage"),
        ("100", "?ff_useFundStore=0", {}, "legacy", "opt_out"),
        ("100", "", {"ff_useFundStore": "0"}, "legacy", "opt_out"),
        ("100", "?ff_useFundStore=1", {"ff_useFundStore": "0"}, "legacy", "opt_out"),
        ("0", "?ff_useFundStore=1", {}, "fund-store", "opt_in"),
        ("0", "", {"ff_useFundStore": "1"}, "fund-store", "opt_in"),
        ("100", "?emergency_rollback=true", {"ff_useFundStore": "1"}, "legacy", "emergency_stop"),
        ("100", "?ff_useFundStore=1", {"emergency_rollback": "true"}, "legacy", "emergency_stop"),
        ("stop", "?ff_useFundStore=1", {"ff_useFundStore": "1"}, "legacy", "emergency_stop"),
        ("disable", "?ff_useFundStore=1", {}, "legacy", "disabled"),
    ],
)
def test_the_strongest_switch_wins(
    visit: Visits,
    operator: Operator,
    percent: str,
    query: str,
    switches: dict[str, str],
    store: str,
    reason: str,
) -> None:
    manager = visit()
    operator("set", percent if percent.isdecimal() else "100")
    if percent == "stop":
        operator("stop")
    if percent == "disable":
        operator.disable()
    if switches:
        stored(manager, **switches)
    manager.open(query, store=store)
    found = evaluation(manager)
    assert (found["on"], found["reason"]) == (store == "fund-store", reason)
    banner = manager.page.get_by_role("region", name="Emergency rollback")
    expect(banner).to_be_visible(visible="emergency_rollback" in query + "".join(switches))
    own_switch = reason == "opt_out" or (reason == "emergency_stop" and percent != "stop")
    assert len(manager.events("kill_switch_used")) == own_switch


@pytest.mark.parametrize(
    ("percent", "field", "store"), [("0", "always", "fund-store"), ("100", "never", "legacy")]
)
def test_the_page_knows_people_who_always_or_never_get_it(
    manager: Manager, operator: Operator, percent: str, field: str, store: str
) -> None:
    operator("set", percent)
    operator("configure", f"--{field}", f"user:{manager.user.username}")
    manager.open(store=store)
    assert evaluation(manager)["reason"] == field


def test_an_emergency_by_url_holds_on_later_visits_and_ends_by_the_banner_and_the_draft_comes_along(
    manager: Manager, operator: Operator
) -> None:
    operator("set", "100")
    manager.open(store="fund-store").type(**DRAFT)
    manager.open("?emergency_rollback=true", store="legacy").sees_typed(**DRAFT)
    banner = manager.page.get_by_role("region", name="Emergency rollback")
    expect(banner.get_by_role("status")).to_contain_text("What you entered is kept.")
    manager.another_tab().open(store="legacy").sees_typed(**DRAFT)
    manager.open(store="legacy").type(name="Typed in an emergency")
    manager.press("Leave emergency rollback")
    manager.ready("fund-store").sees_typed(**DRAFT | {"name": "Typed in an emergency"})
    expect(banner).to_be_hidden()


@pytest.mark.parametrize("store", ["fund-store", "legacy"])
def test_the_server_reports_a_creation_by_the_variant_of_the_page(
    manager: Manager, operator: Operator, store: str
) -> None:
    operator("set", "100")
    switch = "?ff_useFundStore=0" if store == "legacy" else ""
    manager.open(switch, store=store).type(**DRAFT).create()
    manager.sees_outcome("Fund created")
    report = TelemetryEvent.objects.get(server=True, signer=signer_of(manager.user.pk))
    assert (report.event, report.flag, report.variant) == ("fund_create_success", FEATURE, store)


def test_a_fund_can_be_created_in_an_emergency(manager: Manager) -> None:
    manager.open("?emergency_rollback=true", store="legacy").type(**DRAFT).create()
    manager.sees_outcome("Fund created")
    assert len(manager.funds()) == 1


def test_a_kill_switch_in_one_tab_holds_in_the_others(manager: Manager, operator: Operator) -> None:
    operator("set", "100")
    manager.open(store="fund-store").type(**DRAFT)
    other = manager.another_tab().open(store="fund-store")
    other.page.evaluate("localStorage.setItem('ff_useFundStore', '0')")
    manager.ready("legacy").sees_typed(**DRAFT)


def fail(manager: Manager, how: str) -> None:
    def answer(route: Route) -> None:
        if how == "no answer":
            route.abort("connectionrefused")
        else:
            route.fulfill(status=502, body="<h1>Bad gateway</h1>")

    manager.page.route(CONFIGURATION, answer)


@pytest.mark.parametrize("how", ["no answer", "an error"])
def test_a_browser_that_never_saw_a_configuration_uses_legacy(
    manager: Manager, operator: Operator, how: str
) -> None:
    operator("set", "100")
    fail(manager, how)
    manager.open("?ff_useFundStore=1", store="legacy").type(**DRAFT)
    assert manager.page.evaluate("window.__rollouts.debugRollouts().source") == "none"
    manager.page.unroute(CONFIGURATION)
    manager.page.evaluate("window.__rollouts.refresh()")
    manager.ready("fund-store").sees_typed(**DRAFT)


@pytest.mark.parametrize("how", ["no answer", "an error"])
def test_a_failed_request_never_ends_an_emergency_stop(
    manager: Manager, operator: Operator, how: str
) -> None:
    operator("set", "100")
    operator("stop")
    manager.open(store="legacy").type(**DRAFT)
    operator("release")
    fail(manager, how)
    manager.reload("legacy").sees_typed(**DRAFT)
    assert evaluation(manager)["reason"] == "emergency_stop"
    manager.page.unroute(CONFIGURATION)
    manager.page.evaluate("window.__rollouts.refresh()")
    manager.ready("fund-store").sees_typed(**DRAFT)


def test_a_failed_request_leaves_a_browser_where_it_was(manager: Manager, operator: Operator) -> None:
    operator("set", "100")
    manager.open(store="fund-store").type(**DRAFT)
    fail(manager, "no answer")
    manager.reload("fund-store").sees_typed(**DRAFT)


def test_a_configuration_that_does_not_come_keeps_nobody_waiting(manager: Manager) -> None:
    manager.page.route(CONFIGURATION, lambda _route: None)  # never answered
    manager.page.goto("/fund-setup")
    manager.type(**DRAFT)  # typed before the page is ready
    expect(manager.page.locator("#fund-setup")).to_have_attribute("data-store", "legacy", timeout=10_000)
    manager.ready("legacy").sees_typed(**DRAFT)
    manager.create()
    manager.sees_outcome("Fund created")


def test_the_runbooks_support_commands_answer(manager: Manager, operator: Operator) -> None:
    operator("set", "10")
    manager.open()
    debug = manager.page.evaluate("window.__rollouts.debugRollouts()")
    assert debug["environment"] == "test"
    assert debug["source"] == "server"
    found = manager.page.evaluate("window.__rollouts.getUserBucket('USE_FUND_STORE')")
    assert found == bucket(debug["uuid"], FEATURE, hash_version=1)
    assert debug["features"][FEATURE]["on"] == (found < 10)
    assert manager.page.evaluate("document.querySelector('#fund-setup').dataset.store") == (
        "fund-store" if found < 10 else "legacy"
    )
