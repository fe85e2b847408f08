"""The operator's screen in a real browser: moving, confirming, losing races, stopping; for eyes and screen readers."""

import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from playwright.sync_api import Browser, Page, expect

from rollout import operations
from rollout.models import Rollout
from tests.browser.conftest import PASSWORD, PHONE, Guard, enter, overflow, serious, sign_in
from tests.servers import Server, running_server

LIST = "/admin/rollout/rollout/"


@pytest.fixture
def rollout(database: None) -> Rollout:
    """A rollout at 10 %, with a past."""
    feature = f"FEATURE_{uuid.uuid4().hex[:12].upper()}"
    Rollout.objects.create(feature=feature, description="The set-up keeps its draft in the fund store.")
    operations.promote(feature, reason="first canary")
    operations.hold(feature, reason="support is out")
    return operations.resume(feature, reason="support is back")


@pytest.fixture
def person(database: None) -> Callable[[str], User]:
    def person(role: str) -> User:
        user = User.objects.create_user(
            f"{role.lower()}-{uuid.uuid4().hex[:8]}", password=PASSWORD, is_staff=True
        )
        user.groups.add(Group.objects.get(name=role))
        return user

    return person


@pytest.fixture(scope="module")
def production(database: None, static_root: Path) -> Iterator[Server]:
    """A server that knows it is production."""
    with running_server(ENVIRONMENT="prod", workers=1, STATIC_ROOT=str(static_root)) as server:
        yield server


@pytest.fixture
def production_page(browser: Browser, production: Server) -> Iterator[Page]:
    """A phone that looks at production."""
    guard = Guard(production)
    context = browser.new_context(base_url=production.url, viewport=PHONE)
    guard.watch(context)
    yield context.new_page()
    context.close()
    assert guard.complaints == []


def screen(rollout: Rollout) -> str:
    return f"{LIST}{rollout.pk}/change/"


def now(rollout: Rollout) -> Rollout:
    return Rollout.objects.get(pk=rollout.pk)


def reason(page: Page) -> Any:
    return page.get_by_role("region", name="Move").get_by_label("Reason")


def percentage(page: Page) -> Any:
    return page.get_by_role("textbox", name="Percentage")


def history(page: Page) -> Any:
    return page.get_by_role("region", name="History").get_by_role("listitem")


@pytest.mark.parametrize("at", ["list", "screen"])
def test_a_stop_needs_no_script(
    open_page: Callable[..., Page], person: Callable[[str], User], rollout: Rollout, at: str
) -> None:
    """Unfold hides every page, and opens every dialog over it, until its script has run."""
    page = open_page(java_script_enabled=False, viewport=PHONE)
    enter(page, person("Operator"), LIST if at == "list" else f"{LIST}{rollout.pk}/change/")
    expect(page.get_by_placeholder("Type to search")).to_be_hidden()
    button = page.get_by_role("button", name="Emergency stop")
    (page.locator(f'[formaction="{LIST}{rollout.pk}/stop/"]') if at == "list" else button).click()
    expect(page.locator(".rollout-banner.is-stopped")).to_be_visible()
    rollout.refresh_from_db()
    assert rollout.emergency_stop


def test_an_operator_moves_a_rollout_and_finds_it_in_the_history(
    page: Page, person: Callable[[str], User], rollout: Rollout
) -> None:
    operator = person("Operator")
    sign_in(page, operator)
    page.locator(f"a[href='{LIST}']").first.click()
    page.wait_for_url(f"**{LIST}")
    # Searched for: other tests leave more rollouts than one page of the list holds.
    page.goto(f"{LIST}?q={rollout.feature}")
    page.get_by_role("link", name=rollout.feature).click()
    expect(page.locator(".rollout-percentage")).to_have_text("10 %")
    percentage(page).fill("50")
    page.get_by_role("button", name="Set", exact=True).click()  # the browser asks for the reason
    expect(page.locator(".rollout-percentage")).to_have_text("10 %")
    reason(page).fill("30 minutes without an error")
    percentage(page).press("Enter")
    expect(page.locator(".rollout-percentage")).to_have_text("50 %")
    expect(page.get_by_text(f"{rollout.feature} is at 50 %.")).to_be_visible()
    for part in ("Percentage 10 % → 50 %", "30 minutes without an error", operator.username):
        expect(history(page).first).to_contain_text(part)


def test_a_double_click_promotes_once(page: Page, person: Callable[[str], User], rollout: Rollout) -> None:
    enter(page, person("Operator"), screen(rollout))
    reason(page).fill("clean")
    page.get_by_role("button", name="Promote to 50 %").dblclick()
    expect(page.locator(".rollout-percentage")).to_have_text("50 %")
    assert now(rollout).percentage == 50
    assert now(rollout).version == rollout.version + 1


def test_production_asks_and_then_does(
    production_page: Page, person: Callable[[str], User], rollout: Rollout
) -> None:
    page = production_page
    enter(page, person("Operator"), screen(rollout))
    reason(page).fill("All is green.\nOn call agrees.")
    page.get_by_role("button", name="50 %", exact=True).click()
    expect(page.get_by_role("heading", name=f"Set: {rollout.feature} in prod?")).to_be_visible()
    expect(page.locator(".rollout-percentage")).to_have_text("10 % → 50 %")
    assert now(rollout).percentage == 10
    page.get_by_role("button", name="Yes, in prod").click()
    expect(page.get_by_role("heading", name="What happens next")).to_be_visible()
    expect(page.locator(".rollout-percentage")).to_have_text("50 %")
    assert rollout.history.latest().history_change_reason.split() == [
        "All",
        "is",
        "green.",
        "On",
        "call",
        "agrees.",
    ]


@pytest.mark.parametrize("where", ["list", "screen"])
def test_in_production_a_stop_is_two_clicks_on_one_page(
    production_page: Page, person: Callable[[str], User], rollout: Rollout, where: str
) -> None:
    page = production_page
    enter(page, person("Operator"), screen(rollout))
    if where == "list":
        page.goto(f"{LIST}?q={rollout.feature}")
    page.locator("summary", has_text="Emergency stop").click()
    page.get_by_role("button", name=f"Yes, stop {rollout.feature} in prod").click()
    expect(page.get_by_role("heading", name="Stopped")).to_be_visible()
    assert now(rollout).emergency_stop


def test_a_stale_edit_shows_what_changed_and_loses_nothing_typed(
    page: Page, person: Callable[[str], User], rollout: Rollout
) -> None:
    enter(page, person("Operator"), screen(rollout))
    operations.set_percentage(rollout.feature, Decimal(25), reason="a bit more")
    percentage(page).fill("50")
    reason(page).fill("All is green")
    page.get_by_role("button", name="Set", exact=True).click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("was changed meanwhile")
    expect(alert).to_contain_text("percentage 10 % → 25 %")
    expect(alert).to_be_focused()
    expect(page.locator(".rollout-percentage")).to_have_text("25 %")
    expect(reason(page)).to_have_value("All is green")
    expect(percentage(page)).to_have_value("50")
    page.get_by_role("button", name="Set", exact=True).click()
    expect(page.locator(".rollout-percentage")).to_have_text("50 %")


@pytest.mark.parametrize("where", ["list", "screen"])
def test_an_emergency_stop_from_a_stale_page_stops(
    page: Page, person: Callable[[str], User], rollout: Rollout, server: Server, where: str
) -> None:
    operator = person("Operator")
    enter(page, operator, screen(rollout))
    if where == "list":
        page.goto(f"{LIST}?q={rollout.feature}")
    operations.set_percentage(rollout.feature, Decimal(100), reason="somebody else")
    # Signing in again elsewhere also makes the page's CSRF token stale.
    other = page.context.new_page()
    page.context.clear_cookies(name="sessionid")
    enter(other, operator)
    page.get_by_role("button", name="Emergency stop").click()
    expect(page.get_by_role("heading", name="Stopped")).to_be_visible()
    expect(page.locator(".rollout-banner")).to_have_count(1)
    assert now(rollout).emergency_stop
    reason(page).fill("fixed")
    page.get_by_role("button", name="Release").click()
    expect(page.get_by_role("heading", name="Stopped")).to_be_hidden()
    expect(page.get_by_role("heading", name="On hold")).to_be_visible()
    assert not now(rollout).emergency_stop


def test_a_viewer_sees_everything_and_can_change_nothing(
    page: Page, person: Callable[[str], User], rollout: Rollout
) -> None:
    enter(page, person("Viewer"), screen(rollout))
    expect(history(page)).to_have_count(4)
    expect(page.get_by_role("img", name="Percentage over time: 0 %, 10 %")).to_be_visible()
    expect(page.locator(".rollout form, .rollout button, .rollout summary")).to_have_count(0)
    page.goto(f"{LIST}?q={rollout.feature}")
    expect(page.get_by_role("link", name=rollout.feature)).to_be_visible()
    expect(page.locator("#changelist-form button, #changelist-form summary")).to_have_count(0)
    assert now(rollout).version == rollout.version


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_and_nothing_is_cut_off_on_a_phone(
    open_page: Callable[..., Page], person: Callable[[str], User], rollout: Rollout, scheme: str
) -> None:
    page = open_page(color_scheme=scheme, viewport=PHONE)
    enter(page, person("Administrator"), screen(rollout))
    operations.hold(rollout.feature, reason="a word that is too long for any phone: " + "x" * 80)

    def check() -> None:
        page.wait_for_timeout(200)  # Unfold fades its colours in, however long that takes
        page.wait_for_function("document.getAnimations().every(one => one.playState !== 'running')")
        assert serious(page) == []
        assert overflow(page) <= 0

    reason(page).fill("clean")
    page.get_by_role("button", name="Promote to 50 %").click()
    expect(page.get_by_role("alert")).to_be_visible()
    check()
    operations.stop(rollout.feature, reason="fire")
    operations.configure(rollout.feature, {"enabled": False}, reason="replaced")
    page.goto(screen(rollout))
    check()
    page.goto(f"{LIST}{rollout.pk}/history/")
    check()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_chart_is_drawn_in_the_box_that_it_has(
    open_page: Callable[..., Page], person: Callable[[str], User], rollout: Rollout, scheme: str
) -> None:
    page = open_page(color_scheme=scheme, viewport=PHONE)
    enter(page, person("Viewer"), screen(rollout))
    chart = page.locator(".rollout-chart svg")
    box, dots = chart.bounding_box(), chart.locator("circle")
    assert box
    assert dots.count() == 4
    for dot in dots.all():
        place = dot.bounding_box()
        assert place
        assert box["x"] - 6 <= place["x"] <= box["x"] + box["width"]
        assert box["y"] - 6 <= place["y"] <= box["y"] + box["height"]


def test_the_list_of_rollouts_fits_a_small_laptop(
    open_page: Callable[..., Page], person: Callable[[str], User], database: None
) -> None:
    """The emergency stop is its last column."""
    feature = f"A_FEATURE_WITH_A_LONG_NAME_{uuid.uuid4().hex.upper()}"
    Rollout.objects.create(feature=feature)
    operations.promote(feature, reason="first canary")
    page = open_page(viewport={"width": 1280, "height": 800})
    enter(page, person("Operator"), f"{LIST}?q={feature}")
    stop = page.get_by_role("button", name="Emergency stop")
    expect(stop).to_be_visible()
    box = stop.bounding_box()
    assert box
    table = page.locator("#result_list").evaluate(
        "table => table.closest('[data-simplebar]').getBoundingClientRect().right"
    )
    assert box["x"] + box["width"] <= table
