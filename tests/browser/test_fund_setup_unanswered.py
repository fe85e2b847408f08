"""``/fund-setup`` when an answer got lost and the server has forgotten the key: nothing is created twice unasked."""

import json
import re
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from playwright.sync_api import Locator, Route, expect

from fundapi.models import Fund
from idempotency.models import IdempotencyKey
from tests.browser.conftest import overflow, serious
from tests.browser.fund_setup import (
    DRAFT,
    LEGACY,
    Manager,
    Operator,
    Requests,
    Visits,
    lose_answers,
    manager,
    operator,
    visit,
)
from tests.servers import running_server

__all__ = ["manager", "operator", "visit"]  # fixtures

DAY = timedelta(hours=25)
SMALL_PHONE = {"width": 375, "height": 700}
LIST = re.compile(r"/api/funds\?")
QUESTION = "The server may no longer remember that request, so sending it again could create a second fund."
AGE = """([key, by]) => {
    const draft = JSON.parse(localStorage.getItem(key));
    for (const times of [draft.firstSending, draft.submission]) if (times?.at) times.at -= by;
    draft.savedAt -= by;
    draft.revision += 1;
    localStorage.setItem(key, JSON.stringify(draft));
}"""


def alert(manager: Manager) -> Locator:
    return manager.page.get_by_role("alert")


def lose(manager: Manager) -> Manager:
    """Press *Create fund*: the server creates it, and the answer gets lost."""
    lose_answers(manager)
    manager.create()
    manager.sees("We cannot reach the server.")
    return manager


def stop(manager: Manager) -> Manager:
    manager.press("Stop and edit")
    manager.page.unroute_all(behavior="wait")
    return manager


def pass_a_day(manager: Manager, key: str = LEGACY, by: timedelta = DAY) -> None:
    """Let a day pass while the page is closed: in the browser's storage, and in the server's."""
    manager.page.goto("/livez")
    manager.page.evaluate(AGE, [key, by.total_seconds() * 1000])
    forget_keys(manager, by)


def forget_keys(manager: Manager, by: timedelta = DAY) -> None:
    IdempotencyKey.objects.filter(principal=str(manager.user.pk)).update(
        created_at=F("created_at") - by, expires_at=F("expires_at") - by
    )


@pytest.fixture
def lost(manager: Manager) -> Manager:
    """A manager whose fund was created and whose answer got lost, a day ago; the page is closed."""
    stop(lose(manager.open(store="legacy").type(**DRAFT)))
    pass_a_day(manager)
    return manager


# --- Nothing is sent unasked ----------------------------------------------------------------------------------


def test_a_day_after_an_answer_got_lost_create_asks_first(lost: Manager) -> None:
    sent = Requests(lost.page.context)
    lost.open().create()
    expect(alert(lost)).to_contain_text(QUESTION)
    expect(alert(lost)).to_contain_text(re.compile(r"You pressed “Create fund” on .+, and no answer came\."))
    expect(alert(lost)).to_contain_text("Harbor Growth I, $250,000,000")
    expect(alert(lost)).to_be_focused()
    lost.reload()
    expect(alert(lost)).to_contain_text(QUESTION)
    lost.create()  # it asks again
    expect(alert(lost)).to_contain_text(QUESTION)
    assert len(sent) == 0
    assert len(lost.funds()) == 1


def test_what_was_sent_and_edited_is_asked_too_and_nothing_typed_is_lost(lost: Manager) -> None:
    lost.open().type(size="300,000,000").create()
    expect(alert(lost)).to_contain_text("Harbor Growth I, $250,000,000")
    lost.sees_typed(**DRAFT | {"size": "300,000,000"})
    lost.type(size="").create()
    lost.sees("One field needs your attention.")
    expect(alert(lost)).to_contain_text(QUESTION)
    lost.reload().sees_typed(**DRAFT | {"size": ""})
    assert len(lost.funds()) == 1


def test_a_fund_that_was_still_being_sent_is_not_sent_again_by_itself(manager: Manager) -> None:
    lose(manager.open().type(**DRAFT))
    manager.page.unroute_all(behavior="wait")
    manager.page.close()
    later = manager.another_tab()
    sent = Requests(later.page.context)
    pass_a_day(later)
    other = later.another_tab()
    for tab in (later.open(), other.open()):
        expect(alert(tab)).to_contain_text(QUESTION)
        tab.sees_typed(**DRAFT)
    assert len(sent) == 0
    assert len(later.funds()) == 1


def test_a_page_that_stays_open_asks_when_the_servers_time_is_over(visit: Visits) -> None:
    """With an ``IDEMPOTENCY_TTL`` of a minute, the page still sends within it, and not after."""
    with running_server(workers=1, IDEMPOTENCY_TTL="60") as forgetful:
        manager = visit(server=forgetful)
        manager.page.clock.install()
        lose(manager.open().type(**DRAFT))
        manager.page.unroute_all(behavior="wait")
        manager.page.context.set_offline(True)
        manager.page.clock.fast_forward(50_000)
        forget_keys(manager, timedelta(minutes=1))
        sent = Requests(manager.page.context)
        manager.page.context.set_offline(False)
        manager.page.clock.run_for(60_000)
        expect(alert(manager)).to_contain_text(QUESTION)
        assert len(sent) == 0
        manager.press("It is not there: create it")
        manager.sees_outcome("Fund created")
        assert len(manager.funds()) == 2
        manager.page.context.close()


@pytest.mark.parametrize("percent", ["0", "100"])
def test_the_first_sending_moves_with_the_draft(manager: Manager, operator: Operator, percent: str) -> None:
    operator("set", percent)
    stop(lose(manager.open().type(**DRAFT)))
    pass_a_day(manager, manager.store_key if percent == "100" else LEGACY)
    operator("set", "100" if percent == "0" else "0")
    manager.open(store="fund-store" if percent == "0" else "legacy").create()
    expect(alert(manager)).to_contain_text(QUESTION)
    assert len(manager.funds()) == 1


def test_a_later_press_does_not_move_the_first_sending(manager: Manager) -> None:
    stop(lose(manager.open().type(**DRAFT)))
    pass_a_day(manager, by=timedelta(hours=20))
    stop(lose(manager.open()))
    pass_a_day(manager, by=timedelta(hours=5))
    manager.open().create()
    expect(alert(manager)).to_contain_text(QUESTION)
    assert len(manager.funds()) == 1


def test_a_clock_that_was_set_back_is_not_believed(manager: Manager) -> None:
    stop(lose(manager.open().type(**DRAFT)))
    forget_keys(manager)
    manager.page.clock.set_system_time(time.time() - 2 * 3600)
    manager.reload().create()
    expect(alert(manager)).to_contain_text(QUESTION)
    assert len(manager.funds()) == 1


def test_within_a_day_the_same_key_finds_the_fund(manager: Manager) -> None:
    stop(lose(manager.open().type(**DRAFT)))
    pass_a_day(manager, by=timedelta(hours=23))
    manager.open().create()
    manager.sees_outcome("Your fund was already created")
    assert len(manager.funds()) == 1


# --- The choices ----------------------------------------------------------------------------------------------


def test_a_fund_that_is_there_is_done_and_the_next_one_is_new(lost: Manager) -> None:
    lost.open().create()
    lost.press("It is there: done")
    lost.sees("Nothing was sent again. You can set up another fund.")
    expect(alert(lost)).to_be_empty()
    lost.sees_typed(name="", size="")
    assert lost.draft_keys() == []
    lost.type(**DRAFT | {"name": "Harbor Growth II"}).create()
    lost.sees_outcome("Fund created")
    assert [fund.name for fund in lost.funds()] == ["Harbor Growth I", "Harbor Growth II"]


def test_what_is_done_in_one_tab_is_not_asked_in_another(lost: Manager) -> None:
    lost.open().create()
    other = lost.another_tab().open()
    expect(alert(other)).to_contain_text(QUESTION)
    lost.press("It is there: done")
    expect(alert(other)).to_be_empty()
    other.sees_typed(name="", size="")


def test_a_fund_that_is_not_there_is_created_with_a_new_key_once_by_two_tabs(lost: Manager) -> None:
    sent = Requests(lost.page.context)
    old = lost.open().stored(LEGACY)["nonce"]
    lost.create()
    other = lost.another_tab().open()
    expect(alert(other)).to_contain_text(QUESTION)
    other.page.evaluate(  # it does not hear of the first one
        "addEventListener('storage', (event) => event.stopImmediatePropagation(), { capture: true })"
    )
    lost.press("It is not there: create it")
    lost.sees_outcome("Fund created")
    other.press("It is not there: create it") if alert(other).text_content() else None
    other.sees_outcome("created")
    assert set(sent.keys) == {f"test|fund-create|{old}~2"}
    assert len(lost.funds()) == 2


def test_back_to_editing_sends_nothing(lost: Manager) -> None:
    sent = Requests(lost.page.context)
    lost.open().create()
    lost.press("Back to editing")
    expect(lost.field("name")).to_be_focused()
    expect(alert(lost)).to_be_empty()
    lost.reload().sees_typed(**DRAFT)
    expect(alert(lost)).to_be_empty()
    lost.create()
    expect(alert(lost)).to_contain_text(QUESTION)
    assert len(sent) == 0


def test_the_keyboard_is_enough_to_choose(lost: Manager) -> None:
    lost.open().field("name").focus()
    lost.page.keyboard.press("Enter")
    expect(alert(lost)).to_be_focused()
    lost.page.keyboard.press("Tab")
    expect(lost.page.get_by_role("button", name="It is there: done")).to_be_focused()
    lost.page.keyboard.press("Tab")
    lost.page.keyboard.press("Enter")
    lost.sees_outcome("Fund created")


def test_the_question_is_asked_without_the_list_and_gets_it_later(lost: Manager) -> None:
    lost.page.route(LIST, lambda route: route.abort("connectionreset"))
    lost.open().create()
    expect(alert(lost)).to_contain_text(QUESTION)
    expect(alert(lost)).to_contain_text("Your newest funds cannot be shown right now.")
    lost.page.unroute_all(behavior="wait")
    lost.press("Show my newest funds")
    expect(alert(lost)).to_contain_text("Harbor Growth I, $250,000,000")
    expect(alert(lost)).to_be_focused()
    assert len(lost.funds()) == 1


def test_the_list_has_every_fund_since_and_says_where_it_ends(lost: Manager) -> None:
    rates = {"management_fee": 0, "carry_percentage": 0, "vintage_year": 2026}

    def create(count: int) -> None:
        Fund.objects.bulk_create(
            Fund(owner=lost.user, name=f"Import {number}", size=1, **rates) for number in range(count)
        )

    create(20)
    lost.open().create()
    expect(alert(lost)).to_contain_text("Harbor Growth I, $250,000,000")
    create(40)
    lost.reload()
    expect(alert(lost)).to_contain_text("Before thatmore funds, which this page does not show")


def test_a_manager_without_funds_is_told_so(lost: Manager) -> None:
    lost.user.funds.all().delete()
    lost.open().create()
    expect(alert(lost)).to_contain_text("You have no funds yet.")


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_everybody_can_read_the_question_on_a_phone(visit: Visits, color_scheme: str) -> None:
    manager = visit(viewport=SMALL_PHONE, color_scheme=color_scheme)
    stop(lose(manager.open().type(**DRAFT | {"name": "W" * 200})))
    pass_a_day(manager)
    manager.open().create()
    expect(alert(manager)).to_contain_text(QUESTION)
    assert overflow(manager.page) <= 0
    assert serious(manager.page) == []


# --- Drafts of earlier versions of the page -------------------------------------------------------------------


def older(manager: Manager, submission: dict[str, Any] | None) -> None:
    """Let the browser have the draft as a version without first sendings would have left it."""
    manager.page.goto("/livez")
    fields = {"managementFee": "2", "carryPercentage": "20", "vintageYear": "2025"} | DRAFT
    draft = fields | {
        "nonce": "0" * 32,
        "revision": 9,
        "savedAt": time.time() * 1000,
        "owner": str(manager.user.pk),
    }
    manager.page.evaluate(
        "text => localStorage.setItem('fundSetup', text)", json.dumps(draft | {"submission": submission})
    )


def pending(age: timedelta) -> dict[str, Any]:
    at = time.time() - age.total_seconds()
    return {"state": "pending", "body": json.dumps({"name": "x", "size": 1}), "at": at * 1000, "fundId": None}


@pytest.mark.parametrize("submission", [None, pending(DAY)], ids=["stopped", "pending"])
def test_a_draft_that_an_older_page_may_have_sent_is_asked_about(
    manager: Manager, submission: dict[str, Any] | None
) -> None:
    older(manager, submission)
    manager.open().sees_typed(**DRAFT)
    if submission is None:
        manager.create()
        manager.sees("This draft was begun in an earlier version of this page")
    expect(alert(manager)).to_contain_text(QUESTION)
    assert manager.funds() == []
    manager.press("It is not there: create it")
    manager.sees_outcome("Fund created")
    assert len(manager.funds()) == 1


def test_what_an_older_page_was_sending_a_moment_ago_is_finished(manager: Manager) -> None:
    older(manager, pending(timedelta(minutes=1)))
    manager.open().sees_outcome("Fund created")
    assert len(manager.funds()) == 1


# --- What is promised meanwhile -------------------------------------------------------------------------------


def test_what_was_never_sent_is_sent_also_days_later(manager: Manager) -> None:
    """The page said "This browser sends your fund as soon as you are online again. You can close this page"."""
    later = manager.leave_unsent(**DRAFT)
    pass_a_day(later, by=3 * DAY)
    later.open().sees_outcome("Fund created")
    assert len(later.funds()) == 1


def test_a_refused_first_request_is_answered_so_nothing_is_asked_later(manager: Manager) -> None:
    manager.open().type(**DRAFT)
    session = next(cookie for cookie in manager.page.context.cookies() if cookie["name"] == "sessionid")
    manager.page.context.clear_cookies(name="sessionid")
    manager.create()
    manager.sees("You have been signed out, so the fund was not created. Your draft is kept.")
    manager.page.context.add_cookies([session])  # type: ignore[list-item]  # as it came
    pass_a_day(manager)
    manager.open().create()
    manager.sees_outcome("Fund created")
    assert len(manager.funds()) == 1


def test_a_refusal_after_a_lost_answer_does_not_say_that_there_is_no_fund(manager: Manager) -> None:
    lose(manager.open().type(**DRAFT))
    manager.page.context.clear_cookies(name="sessionid")
    manager.page.unroute_all(behavior="wait")
    manager.sees(
        "You have been signed out. We do not know yet whether an earlier request has created your fund."
    )
    Visits.sign_in(manager.page.context, manager.user)
    manager.create()
    manager.sees_outcome("Your fund was already created")
    assert len(manager.funds()) == 1


def test_a_page_of_a_manager_who_has_left_creates_nothing_for_the_next_one(visit: Visits) -> None:
    manager = visit().open().type(**DRAFT)
    someone = visit.make_user()
    Visits.sign_in(manager.page.context, someone)
    manager.page.context.clear_cookies(name="csrftoken")
    theirs = Manager(manager.page.context.new_page(), someone).open().type(name="Theirs")
    manager.create()
    manager.sees("Another user has signed in in this browser, so the fund was not created.")
    assert theirs.funds() == manager.funds() == []
    manager.press("Reload the page")
    manager.ready().sees_typed(name="Theirs", size="")
    Visits.sign_in(manager.page.context, manager.user)
    manager.reload().sees_typed(**DRAFT)
    manager.create()
    manager.sees_outcome("Fund created")
    assert (len(manager.funds()), theirs.funds()) == (1, [])


def test_a_key_of_another_environment_is_not_taken_for_the_same(manager: Manager) -> None:
    def rename(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(
            response=answer, body=answer.text().replace('data-environment="test"', 'data-environment="old"')
        )

    manager.page.route("**/fund-setup", rename)
    manager.open().type(**DRAFT).create()
    manager.sees(
        "The server's settings have changed since this page was opened, so the fund was not created."
    )
    manager.page.unroute_all(behavior="wait")
    lose_answers(manager)
    manager.press("Reload the page")
    manager.ready().sees_typed(**DRAFT)
    manager.create()
    manager.sees("We cannot reach the server.")
    stop(manager)
    manager.page.route("**/fund-setup", rename)
    manager.reload().create()
    expect(alert(manager)).to_contain_text(QUESTION)
    assert len(manager.funds()) == 1
