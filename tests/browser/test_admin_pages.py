"""The tasks of a support engineer in the admin, in a real browser."""

import re
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from knox.models import AuthToken
from playwright.sync_api import Page, expect

from idempotency.models import IdempotencyKey
from tests.browser.conftest import PHONE, enter, overflow, serious, sign_in
from tests.conftest import FUND, Api
from tests.servers import Server


@pytest.mark.parametrize("path", ["/admin", "/admin/"])
def test_signing_in_leads_to_the_admin(page: Page, administrator: User, path: str) -> None:
    sign_in(page, administrator, path)
    expect(page).to_have_title(re.compile("fundapi"))
    expect(page.get_by_role("link", name="Idempotency keys").first).to_be_visible()
    expect(page.locator("#header-inner").get_by_text("test", exact=True)).to_be_visible()  # the environment


def test_a_wrong_password_is_refused_in_words(page: Page, administrator: User) -> None:
    page.goto("/admin/login/")
    page.get_by_label("Username").fill(administrator.username)
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text("Please enter the correct username and password")).to_be_visible()
    assert serious(page) == []


def test_support_finds_what_a_client_sent_and_reads_why_it_conflicted(
    page: Page, administrator: User, api: Api, key: str
) -> None:
    fund = api.create(key).json()
    assert api.create(key, {**FUND, "size": 1}).json()["code"] == "idempotency_key_reused"
    enter(page, administrator)
    page.get_by_role("link", name="Idempotency keys").first.click()
    page.locator("#searchbar").fill(f'"{key}"')
    page.keyboard.press("Enter")
    page.get_by_role("link", name=key).click()
    expect(page.get_by_text("A request with this key but other content came once")).to_be_visible()
    expect(page.get_by_text("409 idempotency_key_reused")).to_be_visible()
    page.get_by_role("link", name=f"Fund {fund['id']}", exact=True).click()
    expect(page.get_by_text("$250,000,000.00")).to_be_visible()
    page.get_by_role("link", name=key).click()  # and back, from the fund to its key
    expect(page.get_by_text("A request with this key but other content came once")).to_be_visible()


def test_a_search_without_a_hit_explains(page: Page, administrator: User, key: str) -> None:
    enter(page, administrator, f"/admin/idempotency/idempotencykey/?q={key}")
    expect(page.get_by_role("heading", name=f"No stored key matches “{key}”")).to_be_visible()


def test_a_token_is_made_shown_once_used_and_revoked(
    open_page: Callable[..., Page], server: Server, administrator: User, user: User
) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    enter(page, administrator)
    page.get_by_role("link", name="Bearer tokens").first.click()
    page.locator("a[href$='/admin/knox/authtoken/add/']").first.click()
    page.locator(".select2-selection").click()
    page.locator(".select2-search__field").fill(user.username)
    page.get_by_role("option", name=user.username).click()
    page.get_by_label("Days until it expires").fill("7")
    page.get_by_role("button", name="Save", exact=True).click()
    token = page.locator("#token").inner_text()
    assert serious(page) == []
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == token

    with Api(server) as client:
        assert client.create(Authorization=f"Bearer {token}").status_code == 201
        made = AuthToken.objects.get(user=user)
        assert (made.expiry - timezone.now()).days in (6, 7)

        page.reload()  # leads to the list; nothing is posted again, nothing is shown again
        expect(page).to_have_url(re.compile("/admin/knox/authtoken/$"))
        assert token not in page.content()
        page.go_back()
        assert token not in page.content()
        assert AuthToken.objects.filter(user=user).count() == 1

        page.goto("/admin/knox/authtoken/")
        page.get_by_role("link", name=f"{token[:8]}…").click()
        assert token not in page.content()
        page.get_by_role("button", name="Revoke").click()
        expect(page.get_by_text("is revoked")).to_be_visible()
        assert client.create(Authorization=f"Bearer {token}").status_code == 401


def test_no_page_is_wider_than_its_window(
    open_page: Callable[..., Page], administrator: User, api: Api, user: User
) -> None:
    key = "k" * 255  # the longest there is
    fund = api.create(key, {**FUND, "name": "W" * 200, "engineResults": {"long": "x" * 500}}).json()
    stored = IdempotencyKey.objects.get(principal=str(user.pk), token=key)
    token = AuthToken.objects.get(user=user)
    with_long_words = [
        f"/admin/idempotency/idempotencykey/{stored.pk}/change/",
        f"/admin/fundapi/fund/{fund['id']}/change/",
        f"/admin/auth/user/{user.pk}/change/",
    ]
    lists = [
        "/admin/",
        "/admin/idempotency/idempotencykey/",
        f"/admin/idempotency/idempotencykey/?q={'m' * 255}",
        f"/admin/fundapi/fund/?q={fund['id']}",
        "/admin/knox/authtoken/",
        f"/admin/knox/authtoken/{token.digest[:32]}/change/",
    ]
    phone = open_page(viewport=PHONE, color_scheme="dark")
    desktop = open_page()
    for page, paths in ((phone, [*lists, *with_long_words]), (desktop, with_long_words)):
        enter(page, administrator)
        for path in paths:
            page.goto(path)
            assert overflow(page) <= 0, f"{path} is too wide at {page.viewport_size}"
