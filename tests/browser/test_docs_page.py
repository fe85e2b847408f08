"""``/api/docs`` needs this server and nothing else: the guard of ``open_page`` fails on any other host."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, overflow, serious


def test_the_api_is_documented_from_this_server_alone(page: Page) -> None:
    page.goto("/api/docs")
    expect(page.get_by_role("heading", name="fundapi")).to_be_visible()
    page.locator("#operations-funds-createFund .opblock-summary").click()
    operation = page.locator("#operations-funds-createFund")
    expect(operation.get_by_role("cell", name="Idempotency-Key").first).to_be_visible()
    for status in ("200", "201", "400", "401", "403", "409", "413", "429", "500", "503"):
        expect(operation.locator(f"tr.response[data-code='{status}']")).to_be_visible()


def test_the_documentation_fits_a_phone(open_page: Callable[..., Page]) -> None:
    page = open_page(viewport=PHONE)
    page.goto("/api/docs")
    expect(page.get_by_role("heading", name="fundapi")).to_be_visible()
    assert overflow(page) <= 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_an_open_operation_and_the_dialog_of_credentials_keep_nobody_out(
    open_page: Callable[..., Page], theme: str
) -> None:
    page = open_page(viewport=PHONE, color_scheme=theme)
    page.goto("/api/docs")
    page.locator("#operations-funds-createFund .opblock-summary").click()
    operation = page.locator("#operations-funds-createFund")
    expect(operation.locator("tr.response[data-code='503']")).to_be_visible()
    expect(page).to_have_url("/api/docs#/funds/createFund")  # a link to it, for colleagues
    operation.get_by_role("button", name="Try it out").click()
    expect(operation.get_by_role("button", name="Execute")).to_be_visible()
    assert serious(page) == []
    page.locator("button.authorize").first.click()
    page.get_by_label("Value").first.fill("a-token")
    page.get_by_role("button", name="Authorize", exact=True).nth(1).click()
    expect(page.get_by_role("button", name="Logout")).to_be_visible()
    assert serious(page) == []
    page.get_by_role("button", name="Close").first.click()
    expect(page.get_by_role("button", name="Logout")).to_have_count(0)
