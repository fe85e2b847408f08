"""``/fund-setup`` on a bad network and under a hasty hand: whatever happens, one fund, and words for it."""

import secrets

import pytest
import redis
from django.conf import settings
from playwright.sync_api import Locator, expect

from tests.browser.conftest import serious
from tests.browser.fund_setup import (
    DRAFT,
    FUNDS,
    Manager,
    Requests,
    Visits,
    answer_once,
    lose_answers,
    manager,
    operator,
    visit,
)
from tests.obedience import CRASH, DEADLOCK, Hold, hold, obedience
from tests.servers import running_server

__all__ = ["hold", "manager", "obedience", "operator", "visit"]  # fixtures


def held(hold: Hold) -> dict[str, str]:
    """A draft that cannot become a fund until it is released."""
    return DRAFT | {"name": str(hold.body["name"])}


def test_a_double_click_sends_one_request(manager: Manager) -> None:
    sent = Requests(manager.page.context)
    manager.open().type(**DRAFT)
    manager.page.get_by_role("button", name="Create fund").dblclick()
    manager.sees_outcome("Fund created")
    assert len(sent) == 1
    assert len(manager.funds()) == 1


def test_enter_pressed_again_and_again_while_it_runs_sends_one_request(manager: Manager, hold: Hold) -> None:
    sent = Requests(manager.page.context)
    manager.open().type(**held(hold))
    for _ in range(4):
        manager.field("name").press("Enter")
    hold.running()
    expect(manager.page.get_by_role("progressbar", name="Creating the fund")).to_be_visible()
    expect(manager.field("name")).not_to_be_editable()
    hold.release()
    manager.sees_outcome("Fund created")
    assert len(sent) == 1


def test_what_is_sent_offline_waits_and_becomes_one_fund_when_online_again(manager: Manager) -> None:
    manager.open().type(**DRAFT)
    manager.go_offline()
    manager.create()
    expect(manager.page.get_by_role("status")).to_contain_text(
        "You are offline. This browser sends your fund"
    )
    assert manager.funds() == []
    manager.page.context.set_offline(False)
    manager.sees_outcome("Fund created")
    assert len(manager.funds()) == 1
    assert len(manager.events("fund_create_attempt")) == 1


def test_what_is_sent_offline_is_still_sent_after_the_tab_was_closed(manager: Manager) -> None:
    later = manager.leave_unsent(**DRAFT).open()
    later.sees_outcome("Fund created")
    assert len(later.funds()) == 1


def test_a_network_that_breaks_on_the_way_back_makes_no_second_fund(manager: Manager) -> None:
    sent = Requests(manager.page.context)
    manager.open().type(**DRAFT)
    lose_answers(manager)
    manager.create()
    manager.sees("We cannot reach the server. Nothing is lost: we try again")
    manager.page.unroute_all(behavior="wait")
    manager.sees_outcome("Your fund was already created")
    manager.sees("You have one fund, not two.")
    assert len(set(sent.keys)) == 1
    assert len(set(sent.bodies)) == 1
    assert len(manager.funds()) == 1


def test_a_reload_while_it_is_sent_sends_the_same_key_and_finds_the_fund(
    manager: Manager, hold: Hold
) -> None:
    sent = Requests(manager.page.context)
    manager.open().type(**held(hold))
    manager.create()
    hold.running()
    manager.reload()
    manager.sees("Your fund is still being created. We are waiting for the answer.")
    manager.sees_typed(name=held(hold)["name"], size="250,000,000")
    hold.release()
    manager.sees_outcome("Your fund was already created")
    assert len(sent) >= 2
    assert len(set(sent.keys)) == 1
    assert len(manager.funds()) == 1


def test_two_tabs_that_send_the_same_draft_make_one_fund_and_both_see_it(
    manager: Manager, hold: Hold
) -> None:
    manager.open().type(**held(hold))
    other = manager.another_tab().open()
    other.sees_typed(name=held(hold)["name"])
    manager.create()
    hold.running()
    expect(other.field("name")).not_to_be_editable()
    hold.release()
    manager.sees_outcome("Fund created")
    other.sees_outcome("Fund created")
    assert len(manager.funds()) == 1


def test_a_tab_takes_over_what_another_did_not_finish(manager: Manager, hold: Hold) -> None:
    sent = Requests(manager.page.context)
    manager.open().type(**held(hold))
    other = manager.another_tab().open()
    manager.create()
    hold.running()
    expect(other.field("name")).not_to_be_editable()
    with other.page.expect_request(FUNDS):
        manager.page.close()
    hold.release()
    other.sees_outcome("created")
    assert len(set(sent.keys)) == 1
    assert len(other.funds()) == 1


def test_the_back_button_finds_the_draft_as_it_was_left(manager: Manager) -> None:
    manager.open().type(**DRAFT)
    manager.page.goto("/livez")
    manager.page.go_back()
    manager.ready().sees_typed(**DRAFT)


def test_the_back_button_after_creating_does_not_offer_to_create_again(manager: Manager) -> None:
    manager.open().type(**DRAFT).create()
    manager.sees_outcome("Fund created")
    manager.page.goto("/livez")
    manager.page.go_back()
    manager.ready().sees_outcome("Fund created")
    expect(manager.page.get_by_role("button", name="Create fund")).to_be_hidden()


# --- Conflicts ------------------------------------------------------------------------------------------------


@pytest.fixture
def conflicting(manager: Manager) -> Manager:
    """A manager whose first answer got lost, who then changed the size and sent again."""
    manager.open().type(**DRAFT)
    lose_answers(manager)
    manager.create()
    manager.sees("We cannot reach the server.")
    manager.press("Stop and edit")
    manager.sees("If the fund has been created after all, we tell you before anything is created twice.")
    manager.page.unroute_all(behavior="wait")
    manager.type(size="300,000,000").create()
    manager.sees_outcome("You have already sent this draft with other details")
    assert len(manager.funds()) == 1
    return manager


def tab_to(manager: Manager, control: Locator) -> None:
    """Press Tab, as somebody without a mouse does, until a control has the focus."""
    for _ in range(20):
        if control.evaluate("each => each === document.activeElement"):
            return
        manager.page.keyboard.press("Tab")
    raise AssertionError(control)


def test_a_lost_answer_is_asked_for_again_by_keyboard_alone(manager: Manager) -> None:
    sent = Requests(manager.page.context)
    button = manager.page.get_by_role("button", name="Create fund")
    keyboard = manager.page.keyboard
    manager.open()
    for field in ("name", "size"):
        tab_to(manager, manager.field(field))
        keyboard.type(DRAFT[field])
    lose_answers(manager)
    keyboard.press("Enter")
    manager.sees("We cannot reach the server.")
    tab_to(manager, manager.page.get_by_role("button", name="Stop and edit"))
    keyboard.press("Enter")
    manager.page.unroute_all(behavior="wait")
    tab_to(manager, button)
    keyboard.press("Enter")
    expect(manager.page.get_by_role("heading", name="Your fund was already created")).to_be_focused()
    assert len(set(sent.keys)) == 1
    assert len(manager.funds()) == 1


def test_a_changed_draft_that_was_already_sent_is_explained_and_nothing_typed_is_lost(
    conflicting: Manager,
) -> None:
    conflicting.sees("We have not created a second fund.")
    conflicting.sees("Harbor Growth I, $250,000,000")  # the fund that there is, beside what was typed since
    conflicting.sees_typed(**DRAFT | {"size": "300,000,000"})
    assert len(conflicting.events("fund_create_conflict")) == 1
    assert serious(conflicting.page) == []
    conflicting.reload().sees_outcome("You have already sent this draft with other details")


def test_a_conflict_can_be_created_as_a_new_fund(conflicting: Manager) -> None:
    conflicting.press("Create as a new fund")
    conflicting.sees_outcome("Fund created")
    assert [fund.size for fund in conflicting.funds()] == [250_000_000, 300_000_000]


def test_a_conflict_can_be_reviewed_and_the_first_fund_be_found_again(conflicting: Manager) -> None:
    conflicting.press("Review what I typed")
    expect(conflicting.field("name")).to_be_focused()
    conflicting.type(size="250,000,000").create()
    conflicting.sees_outcome("Your fund was already created")
    assert len(conflicting.funds()) == 1


# --- Waiting --------------------------------------------------------------------------------------------------


def test_too_many_funds_are_said_in_words_and_sent_when_there_is_room(visit: Visits) -> None:
    # An id that no other test worker has: databases are the workers' own, the counters in Valkey are not.
    user = visit.make_user(id=10**6 + secrets.randbelow(2**30))
    with running_server(workers=1, FUND_CREATE_RATE="1/minute") as narrow:
        manager = visit(user, server=narrow)
        manager.page.clock.install()
        manager.open().type(**DRAFT).create()
        manager.sees_outcome("Fund created")
        manager.press("Set up another fund")
        manager.type(**DRAFT | {"name": "Harbor Growth II"}).create()
        manager.sees(
            "You have created many funds in a short time. Nothing is lost: we send this one again in"
        )
        manager.sees_typed(name="Harbor Growth II")
        assert len(manager.funds()) == 1
        with redis.Redis.from_url(settings.REDIS_URL) as valkey:  # a minute passes on the server
            assert valkey.delete(*valkey.scan_iter(f"*/{user.pk}/*"))
        manager.page.clock.fast_forward(61_000)  # and in the browser
        manager.sees_outcome("Fund created")
        assert [fund.name for fund in manager.funds()] == ["Harbor Growth I", "Harbor Growth II"]
        manager.page.context.close()


def test_a_service_that_is_away_is_said_in_words_and_tried_again(manager: Manager) -> None:
    manager.open().type(**DRAFT)
    answer_once(manager.page, 503, headers={"Retry-After": "5"})
    manager.create()
    manager.sees("The service is not available right now. Nothing is lost: we try again in 5 seconds.")
    manager.sees_outcome("Fund created")
    assert len(manager.funds()) == 1


def test_an_answer_that_is_not_the_servers_is_not_taken_for_a_fund(manager: Manager) -> None:
    manager.open().type(**DRAFT)
    maintenance = {"status": 200, "content_type": "application/json", "body": '{"status": "maintenance"}'}
    manager.page.route(FUNDS, lambda route: route.fulfill(**maintenance))
    manager.create()
    manager.sees("Something on the way has answered in place of the server")
    assert manager.funds() == []
    manager.page.unroute_all(behavior="wait")
    manager.sees_outcome("Fund created")
    assert len(manager.funds()) == 1


def test_a_manager_need_not_wait_for_a_service_that_stays_away(manager: Manager, obedience: None) -> None:
    manager.open().type(**DRAFT | {"name": DEADLOCK})
    manager.create()
    manager.sees("The service is not available right now.")
    manager.press("Stop and edit")
    expect(manager.field("name")).to_be_focused()
    manager.type(name="Harbor Growth I").create()
    manager.sees_outcome("Fund created")
    assert len(manager.funds()) == 1


def test_a_bug_of_the_server_is_said_in_words_and_does_not_repeat_for_ever(
    manager: Manager, obedience: None
) -> None:
    sent = Requests(manager.page.context)
    manager.page.clock.install()
    manager.open().type(**DRAFT | {"name": CRASH})
    manager.create()
    alert = manager.page.get_by_role("alert")
    for _ in range(300):
        if sent.answered == len(sent):
            manager.page.clock.run_for(3000)  # the pauses between attempts pass quickly, the attempts do not
        if alert.text_content():
            break
        manager.page.wait_for_timeout(100)
    expect(alert).to_contain_text("The server has failed. Your draft is kept.")
    assert len(sent) == 7
    manager.sees_typed(name=CRASH)
    assert manager.funds() == []
