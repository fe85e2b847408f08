"""Look of the admin's pages of people, tokens, funds and keys: long names, icons, menus by keyboard."""

import re
import uuid
from collections.abc import Callable

import pytest
from axes.models import AccessLog
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.models import ContentType
from django_otp.plugins.otp_totp.models import TOTPDevice
from knox.models import AuthToken
from playwright.sync_api import Page, expect

from tests.browser.conftest import DESKTOP, PHONE, enter, overflow
from tests.conftest import FUND, Api
from tests.servers import Server

NAMELESS = """() => [...document.querySelectorAll("a, button, [role=button]")].filter((control) => {
  if (!control.getBoundingClientRect().width || control.ariaLabel || control.title) return false;
  const copy = control.cloneNode(true);
  for (const icon of copy.querySelectorAll(".material-symbols-outlined")) icon.remove();
  return !copy.textContent.trim();
}).map((control) => control.outerHTML.slice(0, 200))"""
# An icon that the font lacks is drawn as the letters of its name.
LETTERS = """() => [...document.querySelectorAll(".material-symbols-outlined")].filter((icon) =>
  icon.getBoundingClientRect().width > 1.6 * parseFloat(getComputedStyle(icon).fontSize)
).map((icon) => icon.textContent.trim())"""
CLIPPED = """() => [...document.querySelectorAll("#result_list th, #result_list td")].filter((cell) =>
  cell.getBoundingClientRect().right > document.documentElement.clientWidth
).map((cell) => `${cell.className} ends at ${cell.getBoundingClientRect().right}`)"""


@pytest.fixture
def named_at_length(administrator: User, server: Server) -> tuple[User, Group]:
    """A user and a group with the longest names, and records of that user."""
    name = f"wolfeschlegelsteinhausenbergerdorff.{uuid.uuid4().hex}@".ljust(150, "x")
    user = User.objects.create_superuser(name, email=f"{'a' * 60}@{'b' * 60}.example")
    with Api(server, user) as api:
        fund = {**FUND, "name": "Supercalifragilistic" * 10, "size": 999_999_999_999}
        assert api.create("k" * 200, fund).status_code == 201
    AccessLog.objects.create(username=name, ip_address="2001:db8:85a3:8d3:1319:8a2e:370:7348")
    TOTPDevice.objects.create(user=user, name="authenticator")
    LogEntry.objects.create(
        user=user,
        content_type=ContentType.objects.get_for_model(User),
        object_id=str(user.pk),
        object_repr=name,
        action_flag=CHANGE,
        change_message='[{"changed": {"fields": ["Email address", "Staff status"]}}]',
    )
    return user, Group.objects.create(name=f"{uuid.uuid4().hex} {'Nachtschicht' * 9}")


def test_a_long_name_pushes_nothing_off_a_page(
    page: Page, administrator: User, named_at_length: tuple[User, Group]
) -> None:
    user, group = named_at_length
    token = AuthToken.objects.filter(user=user).latest("created")
    lists = (
        *("/admin/fundapi/fund/", "/admin/idempotency/idempotencykey/", "/admin/auth/user/?o=-6"),
        *("/admin/knox/authtoken/", "/admin/axes/accesslog/", "/admin/otp_totp/totpdevice/"),
    )
    enter(page, administrator)
    for path in lists:
        page.goto(f"{path}{'&' if '?' in path else '?'}q={user.username}")
        expect(page.locator("tr.data-row")).to_have_count(1)
        assert page.evaluate(CLIPPED) == [], path
    page.set_viewport_size(PHONE)
    for path in (
        *lists,
        f"/admin/auth/user/{user.pk}/history/",
        f"/admin/auth/user/{user.pk}/password/",
        f"/admin/auth/group/{group.pk}/delete/",
        f"/admin/knox/authtoken/{token.digest[:32]}/change/",
        f"/admin/otp_totp/totpdevice/{TOTPDevice.objects.get(user=user).pk}/delete/",
    ):
        page.goto(path)
        assert overflow(page) <= 0, path


def test_every_icon_is_drawn_and_every_control_has_a_name(
    open_page: Callable[..., Page], administrator: User
) -> None:
    page = open_page()
    page.goto("/admin/login/")
    page.wait_for_function(f"() => !({NAMELESS})().length")
    enter(page, administrator)
    for path in (
        *("/admin/", "/admin/auth/user/", "/admin/auth/group/", "/admin/auth/group/add/"),
        *("/admin/knox/authtoken/add/", "/admin/idempotency/idempotencykey/", "/admin/axes/accesslog/"),
        f"/admin/auth/user/{administrator.pk}/change/",
    ):
        page.goto(path)
        for size in (DESKTOP, PHONE):
            page.set_viewport_size(size)
            page.wait_for_function(f"() => !({NAMELESS})().length")
            page.evaluate("document.fonts.ready")
            assert page.evaluate(LETTERS) == [], path


def test_filters_and_the_menu_of_the_account_open_by_keyboard(page: Page, administrator: User) -> None:
    enter(page, administrator, "/admin/fundapi/fund/")
    page.get_by_role("button", name="Filters").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Last 24 hours")).to_be_visible()
    page.keyboard.press("Escape")
    page.locator(".account-button").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Change password")).to_be_visible()


def test_all_rows_of_a_list_are_selected_at_once(page: Page, administrator: User) -> None:
    Group.objects.create(name=uuid.uuid4().hex)
    enter(page, administrator, "/admin/auth/group/")
    page.locator("#action-toggle").check()
    boxes = page.locator("input.action-select")
    for number in range(boxes.count()):
        expect(boxes.nth(number)).to_be_checked()
    expect(page.get_by_text(re.compile(r"\d+ of \d+ selected"))).to_be_visible()
