"""``/fund-setup`` as a fund manager meets it: signing in, typing, creating, and what the page says."""

import re
from collections.abc import Callable
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from tests.browser.conftest import PASSWORD, PHONE, overflow, serious
from tests.browser.fund_setup import (
    DRAFT,
    FUNDS,
    LABELS,
    Manager,
    Requests,
    Visits,
    answer_once,
    manager,
    operator,
    visit,
)

__all__ = ["manager", "operator", "visit"]  # fixtures


# --- Signing in -----------------------------------------------------------------------------------------------


def test_an_anonymous_visitor_signs_in_and_arrives_at_the_form(
    visit: Visits, make_user: Callable[..., User]
) -> None:
    manager = visit(make_user(password=PASSWORD), viewport=PHONE)
    manager.page.context.clear_cookies()
    manager.page.goto("/fund-setup")
    expect(manager.page).to_have_url(re.compile(r"/signin\?next=/fund-setup$"))
    assert overflow(manager.page) <= 0
    manager.page.get_by_label("Username").fill(manager.user.get_username())
    manager.page.get_by_label("Password").fill("not it")
    manager.press("Sign in")
    expect(manager.page.get_by_role("alert")).to_contain_text("The username or password is wrong.")
    expect(manager.page.get_by_label("Username")).to_have_value(manager.user.get_username())
    manager.page.get_by_label("Password").fill(PASSWORD)
    manager.press("Sign in")
    expect(manager.page).to_have_url(re.compile(r"/fund-setup$"))
    manager.ready()
    manager.press("Sign out")
    expect(manager.page).to_have_url(re.compile(r"/signin$"))


def test_a_sign_in_leads_to_no_other_site(visit: Visits, make_user: Callable[..., User]) -> None:
    manager = visit(make_user(password=PASSWORD))
    manager.page.context.clear_cookies()
    manager.page.goto("/signin?next=https://example.com/fund-setup")
    manager.page.get_by_label("Username").fill(manager.user.get_username())
    manager.page.get_by_label("Password").fill(PASSWORD)
    manager.press("Sign in")
    expect(manager.page).to_have_url(re.compile(r"^http://127.0.0.1:\d+/fund-setup$"))


# --- Creating -------------------------------------------------------------------------------------------------


def test_a_fund_is_created_to_the_cent_and_to_the_last_digit_of_a_percentage(manager: Manager) -> None:
    manager.open().type(
        name="  Harbor Growth I ",
        size="$999,999,999,999,999,999.99",
        managementFee="1.1",
        carryPercentage="12.3456",
        vintageYear="2031",
        modelVersion="v2.1",
    )
    manager.sees("$999,999,999,999,999,999.99 (about 999.999 quadrillion)")
    manager.create()
    manager.sees_outcome("Fund created")
    manager.sees("$999,999,999,999,999,999.99")
    expect(manager.page.get_by_role("heading", name="Fund created")).to_be_focused()
    (fund,) = manager.funds()
    manager.sees(f"Fund number{fund.pk}")
    assert fund.name == "Harbor Growth I"
    assert fund.size == Decimal("999999999999999999.99")
    assert fund.management_fee == Decimal("0.011")
    assert fund.carry_percentage == Decimal("0.123456")
    assert (fund.vintage_year, fund.model_version) == (2031, "v2.1")


def test_the_keyboard_is_enough(manager: Manager) -> None:
    manager.open()
    keyboard = manager.page.keyboard
    manager.field("name").focus()
    for text in ("Harbor Growth I", "1000000"):
        keyboard.type(text)
        keyboard.press("Tab")
    for _ in range(3):
        keyboard.press("Tab")
    expect(manager.field("modelVersion")).to_be_focused()
    keyboard.press("Enter")
    manager.sees_outcome("Fund created")
    keyboard.press("Tab")
    expect(manager.page.get_by_role("button", name="Set up another fund")).to_be_focused()
    keyboard.press("Enter")
    expect(manager.field("name")).to_be_focused()
    manager.sees_typed(name="", size="", managementFee="2", carryPercentage="20")
    assert len(manager.funds()) == 1


def test_another_fund_is_another_fund_even_with_the_same_details(manager: Manager) -> None:
    sent = Requests(manager.page.context)
    manager.open()
    for _ in range(2):
        manager.type(**DRAFT).create()
        manager.sees_outcome("Fund created")
        manager.press("Set up another fund")
    assert len(manager.funds()) == 2
    assert len(set(sent.keys)) == 2
    assert all(re.fullmatch(r"test\|fund-create\|[0-9a-f]{32}", key) for key in sent.keys)
    assert manager.draft_keys() == []


def test_a_created_fund_is_still_shown_after_a_reload_and_not_created_again(manager: Manager) -> None:
    manager.open().type(**DRAFT).create()
    manager.sees_outcome("Fund created")
    manager.reload().sees_outcome("Fund created")
    expect(manager.page.get_by_role("button", name="Create fund")).to_be_hidden()
    assert len(manager.funds()) == 1


def test_what_is_wrong_is_said_beside_each_field_and_the_first_is_focused(manager: Manager) -> None:
    sent = Requests(manager.page.context)
    manager.open().type(size="1,5", managementFee="12", vintageYear="25")
    manager.create()
    for field, words in {
        "name": "Give the fund a name.",
        "size": "Use commas between thousands only, and a point for decimals, such as 1,250,000.50.",
        "managementFee": "This can be 10 percent at most.",
        "vintageYear": "Enter a year from 2000 to 2100.",
    }.items():
        expect(manager.field(field)).to_have_attribute("aria-invalid", "true")
        expect(manager.field(field)).to_have_accessible_description(re.compile(re.escape(words)))
    expect(manager.field("carryPercentage")).not_to_have_attribute("aria-invalid", "true")
    expect(manager.field("name")).to_be_focused()
    expect(manager.page.get_by_role("status")).to_have_text("4 fields need your attention.")
    assert len(sent) == 0
    manager.sees_typed(size="1,5", managementFee="12", vintageYear="25")


def marked(manager: Manager) -> list[str]:
    """Return the fields that the page calls wrong, by their mark, their text and their frame alike."""
    page = manager.page
    fields: list[str] = page.locator("[aria-invalid=true]").evaluate_all(
        "found => found.map(each => each.id)"
    )
    lines: list[str] = page.locator("p.error:visible").evaluate_all("found => found.map(each => each.id)")
    assert lines == [f"{field}-error" for field in fields]
    assert page.locator(".field.wrong input").evaluate_all("found => found.map(each => each.id)") == fields
    return fields


def test_an_error_goes_as_soon_as_its_field_is_right(manager: Manager) -> None:
    status = manager.page.get_by_role("status")
    manager.open().type(size="-5abc", vintageYear="25")
    assert marked(manager) == []  # nothing is called wrong before it is sent
    manager.create()
    assert marked(manager) == ["name", "size", "vintageYear"]
    manager.field("name").press_sequentially("H")
    assert marked(manager) == ["size", "vintageYear"]
    expect(status).to_have_text("2 fields need your attention.")
    expect(manager.field("size")).to_have_accessible_description(re.compile("This is not a number"))
    manager.type(size="-5")
    expect(manager.field("size")).to_have_accessible_description(re.compile("This cannot be less than 0"))
    manager.type(size="5")
    assert marked(manager) == ["vintageYear"]
    expect(status).to_have_text("One field needs your attention.")
    manager.type(managementFee="12")  # wrong now, and unmarked until it is sent
    manager.type(vintageYear="2500")
    assert marked(manager) == ["vintageYear"]
    manager.type(vintageYear="2025")
    assert marked(manager) == []
    expect(manager.page.locator("#status")).to_be_empty()
    manager.create()
    assert marked(manager) == ["managementFee"]


def test_an_error_goes_when_another_tab_corrects_its_field(manager: Manager) -> None:
    manager.open().type(**DRAFT | {"size": "1,5", "vintageYear": "25"})
    manager.create()
    other = manager.another_tab().open()
    other.type(size="1,500")
    manager.sees_typed(size="1,500")
    assert marked(manager) == ["vintageYear"]


def test_a_field_that_only_the_server_refuses_is_marked_too(manager: Manager) -> None:
    """The request is changed on its way, so that the real server finds what the page could not."""
    manager.open().type(**DRAFT)
    manager.page.route(
        FUNDS,
        lambda route: route.continue_(
            post_data=str(route.request.post_data).replace('"managementFee":0.02', '"managementFee":-1')
        ),
        times=1,
    )
    manager.create()
    expect(manager.field("managementFee")).to_be_focused()
    expect(manager.field("managementFee")).to_have_accessible_description(re.compile("at least 0"))
    manager.sees("The fund was not created: please correct the marked fields.")
    assert [event["ok"] for event in manager.events("validation_error")] == [False]
    manager.type(managementFee="1.5")
    assert marked(manager) == []
    expect(manager.page.get_by_role("alert")).to_be_empty()
    manager.create()
    manager.sees_outcome("Fund created")


# --- What the server refuses ----------------------------------------------------------------------------------


def test_a_body_that_is_too_large_is_said_in_words_and_nothing_typed_is_lost(manager: Manager) -> None:
    manager.open().type(**DRAFT)
    answer_once(manager.page, 413)
    manager.create()
    manager.sees("The fund is too large to send, so it was not created. Your draft is kept.")
    expect(manager.page.locator("#alert")).to_be_focused()
    manager.sees_typed(**DRAFT)
    manager.reload().sees_typed(**DRAFT)
    manager.create()
    manager.sees_outcome("Fund created")


def test_a_manager_who_was_signed_out_signs_in_and_goes_on(
    visit: Visits, make_user: Callable[..., User]
) -> None:
    manager = visit(make_user(password=PASSWORD)).open().type(**DRAFT)
    manager.page.context.clear_cookies(name="sessionid")
    manager.create()
    manager.sees("You have been signed out, so the fund was not created. Your draft is kept.")
    manager.page.get_by_role("link", name="Sign in").click()
    manager.page.get_by_label("Username").fill(manager.user.get_username())
    manager.page.get_by_label("Password").fill(PASSWORD)
    manager.press("Sign in")
    manager.ready().sees_typed(**DRAFT)
    manager.create()
    manager.sees_outcome("Fund created")


def test_a_sign_in_in_another_tab_does_not_break_this_one(manager: Manager) -> None:
    """It renews the CSRF token; the one in this page is then of no use."""
    manager.open().type(**DRAFT)
    manager.another_tab().page.goto("/fund-setup")
    cookie = next(c for c in manager.page.context.cookies() if c["name"] == "csrftoken")
    manager.page.context.clear_cookies(name="csrftoken")
    other = manager.another_tab().page
    other.goto("/signin")
    assert cookie["value"] not in {c["value"] for c in manager.page.context.cookies()}
    manager.create()
    manager.sees_outcome("Fund created")


def test_a_page_without_a_valid_csrf_token_asks_for_a_reload(manager: Manager) -> None:
    manager.open().type(**DRAFT)
    manager.page.context.clear_cookies(name="csrftoken")
    manager.create()
    manager.sees("This page has been open for too long")
    manager.press("Reload the page")
    manager.ready().sees_typed(**DRAFT)
    manager.create()
    manager.sees_outcome("Fund created")


def test_a_manager_who_may_not_create_funds_is_told_before_and_after(
    visit: Visits, make_user: Callable[..., User]
) -> None:
    manager = visit(make_user(may_create=False)).open()
    manager.sees("You can prepare a fund here, but you may not create it yet.")
    manager.type(**DRAFT).create()
    manager.sees("You may not create funds, so this one was not created. Your draft is kept.")
    manager.sees_typed(**DRAFT)
    assert manager.funds() == []


# --- Looks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_everybody_can_read_and_reach_everything_on_a_phone(visit: Visits, color_scheme: str) -> None:
    manager = visit(viewport=PHONE, color_scheme=color_scheme).open("?emergency_rollback=true")

    def looks_right() -> None:
        assert overflow(manager.page) <= 0
        assert serious(manager.page) == []

    looks_right()
    manager.create()  # errors
    looks_right()
    manager.type(**DRAFT | {"name": "W" * 200})
    manager.go_offline()
    manager.create()
    manager.sees("You are offline.")
    looks_right()
    manager.page.context.set_offline(False)
    manager.sees_outcome("Fund created")
    looks_right()
    manager.page.goto("/signin")
    manager.page.context.clear_cookies()
    manager.page.goto("/signin")
    looks_right()


def test_the_page_needs_no_inline_script_or_style(manager: Manager) -> None:
    """A strict Content-Security-Policy, put on by a proxy, stops nothing on it."""
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'"
    )
    manager.page.route(
        "**/fund-setup*",
        lambda route: route.fulfill(
            response=(answer := route.fetch()),
            headers=answer.headers | {"content-security-policy": policy},
        ),
    )
    manager.open("?emergency_rollback=true").type(**DRAFT)
    banner = manager.page.get_by_role("region", name="Emergency rollback")
    expect(banner).to_have_css("background-color", "rgb(122, 17, 17)")
    manager.create()
    manager.sees_outcome("Fund created")  # and the guard has seen no complaint in the console


def test_every_field_has_a_label_and_says_whether_it_is_needed(manager: Manager) -> None:
    manager.open()
    for field in LABELS:
        expect(manager.field(field)).to_have_count(1)
        expect(manager.field(field)).to_have_js_property("required", field != "modelVersion")
