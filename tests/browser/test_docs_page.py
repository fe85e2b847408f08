"""``/api/docs`` needs this server and nothing else: the guard of ``open_page`` fails on any other host."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, overflow


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
