"""Every page of ours with axe-core, in both themes at two widths; stopping and rolling back by keyboard."""

import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth.models import User
from django.template.loader import render_to_string
from django.utils import timezone
from playwright.sync_api import Page, Response, expect

from fundapi.web.problems import CATALOGUE
from rollout import operations
from rollout.models import Rollout
from tests.browser.conftest import DESKTOP, PHONE, enter, overflow, serious
from tests.browser.every_page import GROUPS, records
from tests.browser.fund_setup import Visits, operator, visit

__all__ = ["operator", "records", "visit"]  # fixtures


@pytest.fixture
def canary(administrator: User) -> Rollout:
    feature = f"A_FEATURE_WITH_A_LONG_NAME_{uuid.uuid4().hex[:12].upper()}"
    Rollout.objects.create(feature=feature)
    return operations.promote(feature, reason="a canary")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("group", GROUPS)
def test_no_page_keeps_anybody_out(
    open_page: Callable[..., Page], records: dict[str, Any], group: str, theme: str
) -> None:
    page = open_page(color_scheme=theme)
    if group != "open to everybody":
        enter(page, records["administrator"], "/livez")
    found = []
    for path in GROUPS[group]:
        answer = page.goto(path.format(**records))
        assert answer is not None
        assert answer.ok, path
        expect(page.get_by_role("main")).to_have_count(1)
        for size in (DESKTOP, PHONE) if theme == "light" else (DESKTOP,):
            page.set_viewport_size(size)
            # A page hears of its new size with the next frame.
            page.evaluate("() => new Promise(requestAnimationFrame)")
            found += [f"{path} at {size['width']}: {fault}" for fault in serious(page)]
            found += [f"{path} at {size['width']} is too wide"] * (overflow(page) > 0)
    assert not found, "\n".join(found)


@pytest.fixture
def lost(visit: Visits, make_user: Callable[..., User]) -> Callable[[str], Page]:
    """A page of somebody who may enter the admin and see nothing there."""
    return lambda theme: visit(make_user(is_staff=True), viewport=PHONE, color_scheme=theme).page


@pytest.fixture
def locked_out(make_user: Callable[..., User]) -> Iterator[User]:
    user = make_user()
    failures = {"failures_since_start": settings.AXES_FAILURE_LIMIT, "attempt_time": timezone.now()}
    AccessAttempt.objects.create(username=user.username, ip_address="127.0.0.1", **failures)
    yield user
    AccessAttempt.objects.filter(username=user.username).delete()  # they count against the address too


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_refusal_keeps_anybody_out(lost: Callable[[str], Page], locked_out: User, theme: str) -> None:
    page = lost(theme)
    problem = {"problem": CATALOGUE["server_error"], "request_id": uuid.uuid4()}
    page.route(
        "**/crash",
        lambda route: route.fulfill(
            status=500, content_type="text/html", body=render_to_string("500.html", problem)
        ),
    )

    def look(status: int, answer: Response | None) -> None:
        assert answer is not None
        assert answer.status == status, answer.url
        expect(page.get_by_role("main")).to_have_count(1)
        assert serious(page) == [], answer.url
        assert overflow(page) <= 0, answer.url

    def sign_in() -> Response:
        with page.expect_navigation() as navigation:
            page.get_by_role("button", name="Sign in").click()
        return navigation.value

    look(200, page.goto("/admin/"))
    look(404, page.goto("/admin/nowhere/"))
    look(403, page.goto("/admin/auth/user/"))
    look(400, page.goto("/admin/search/?s=funds&page=none"))
    look(500, page.goto("/crash"))
    page.context.clear_cookies()
    look(404, page.goto("/nowhere"))
    page.goto("/signin")
    page.get_by_label("Username").fill(locked_out.username)
    page.get_by_label("Password").fill("wrong")
    look(429, sign_in())
    page.goto("/signin")
    page.get_by_label("Username").fill("nobody")
    page.get_by_label("Password").fill("wrong")
    look(200, sign_in())
    page.context.clear_cookies()
    page.get_by_label("Password").fill("wrong")
    look(403, sign_in())


def test_one_key_skips_the_menu(page: Page, administrator: User) -> None:
    enter(page, administrator, "/admin/rollout/rollout/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()


def test_a_stop_by_keyboard_ends_at_its_banner_and_the_title_says_it(
    page: Page, administrator: User, canary: Rollout
) -> None:
    enter(page, administrator, f"/admin/rollout/rollout/{canary.pk}/change/")
    expect(page).to_have_title(re.compile("10 %"))
    page.get_by_role("button", name="Emergency stop").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_title(re.compile("Stopped"))
    expect(page.locator(".rollout-banner.is-stopped")).to_be_focused()
    canary.refresh_from_db()
    assert canary.emergency_stop


def test_another_operator_s_change_is_announced(page: Page, administrator: User, canary: Rollout) -> None:
    page.clock.install()
    enter(page, administrator, f"/admin/rollout/rollout/{canary.pk}/change/")
    expect(page.locator("[data-live-state]")).to_have_text("Live")
    operations.stop(canary.feature, reason="from elsewhere")
    page.clock.fast_forward(11_000)
    expect(page.locator("[data-live-announcement]")).to_contain_text("The rollout is now: Stopped.")
    expect(page).to_have_title(re.compile("Stopped"))


def test_a_refused_percentage_is_marked(page: Page, administrator: User, canary: Rollout) -> None:
    enter(page, administrator, f"/admin/rollout/rollout/{canary.pk}/change/")
    page.locator("#move_reason").fill("too much")
    page.get_by_label("Percentage", exact=True).fill("999")
    page.get_by_role("button", name="Set", exact=True).click()
    field = page.get_by_label("Percentage", exact=True)
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_attribute("aria-describedby", "move_percentage_error")
    expect(page.locator("#move_percentage_error")).to_be_visible()


def test_a_rollback_by_keyboard_ends_at_0_percent_with_its_reason(
    page: Page, administrator: User, canary: Rollout
) -> None:
    enter(page, administrator, f"/admin/rollout/rollout/{canary.pk}/change/")
    page.locator("#move_reason").focus()
    page.keyboard.type("support saw errors")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent").strip() == "Roll back":
            break
    page.keyboard.press("Enter")
    banner = page.locator(".rollout-banner.is-rolled-back")
    expect(banner).to_contain_text("support saw errors")
    expect(banner).to_be_focused()
    canary.refresh_from_db()
    assert canary.percentage == 0
    assert canary.on_hold
