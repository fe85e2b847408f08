"""Every page of ours with axe-core, in both themes at two widths; stopping and rolling back by keyboard."""

import re
import uuid
from collections.abc import Callable
from typing import Literal

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from rollout import operations
from rollout.models import Rollout
from tests.browser.conftest import DESKTOP, PHONE, enter, overflow, serious
from tests.conftest import Api

PAGES = (
    *("/admin/", "/admin/rollout/rollout/", "/admin/rollout/incident/", "/admin/rollout/deployment/"),
    *("/admin/rollout/check/", "/admin/rollout/alert/", "/admin/rollout/telemetryevent/"),
    *("/admin/fundapi/fund/", "/admin/idempotency/idempotencykey/", "/admin/knox/authtoken/"),
    *("/admin/auth/user/", "/admin/auth/group/", "/admin/axes/accesslog/", "/admin/axes/accessattempt/"),
    *("/admin/axes/accessfailurelog/", "/admin/otp_totp/totpdevice/"),
    *("/admin/auth/user/add/", "/admin/knox/authtoken/add/", "/admin/password_change/", "/admin/two-factor/"),
    "/fund-setup",
)


@pytest.fixture
def canary(administrator: User) -> Rollout:
    feature = f"A_FEATURE_WITH_A_LONG_NAME_{uuid.uuid4().hex[:12].upper()}"
    Rollout.objects.create(feature=feature)
    return operations.promote(feature, reason="a canary")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_keeps_anybody_out(
    open_page: Callable[..., Page],
    administrator: User,
    user: User,
    canary: Rollout,
    api: Api,
    key: str,
    theme: Literal["light", "dark"],
) -> None:
    fund = api.create(key).json()
    page = open_page(color_scheme=theme)
    page.goto("/admin/login/")
    assert serious(page) == []
    page.goto("/signin")
    assert serious(page) == []
    enter(page, administrator)
    own = (
        f"/admin/rollout/rollout/{canary.pk}/change/",
        f"/admin/rollout/rollout/{canary.pk}/history/",
        f"/admin/fundapi/fund/{fund['id']}/change/",
        f"/admin/auth/user/{user.pk}/change/",
    )
    found = []
    for path in (*PAGES, *own):
        page.goto(path)
        for size in (DESKTOP, PHONE):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            found += [f"{path} at {size['width']}: {fault}" for fault in serious(page)]
            found += [f"{path} at {size['width']} is too wide"] * (overflow(page) > 0)
        expect(page.get_by_role("main")).to_have_count(1)
    assert found == []


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
