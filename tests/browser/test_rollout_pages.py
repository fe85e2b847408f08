"""Every page of the rollout with the longest names: nothing is cut or covered, and its texts keep the house's rules."""

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Page

from rollout import operations
from rollout.judge.events import Event
from tests.browser.conftest import Guard, enter, serious
from tests.browser.rollout_pages import REASON, Pages, fill, operator
from tests.servers import Server, running_server

LOOKS = Path(__file__).with_name("looks.js").read_text()
WIDTHS = (390, 960)
TABLE = 1280  # a list is a table there, and cards on narrower windows
CUT_PERCENT = "12.25 %"  # set by a person, to the hundredth
TIME = re.compile(r"\b\d\d:\d\d\b")
# Names that people type, or that browsers send.
TYPED = {*map(str, Event), "made_up_event", "deploy_with_confidence"}
RULES = {  # a text that matches breaks the rule
    "one decimal at most": re.compile(r"\d\.\d\d"),
    "no name of the code": re.compile(r"\b[a-z]+(?:_[a-z]+)+\b|^(?:hold|None|True|False|null)$"),
    "no list is a selection": re.compile(r"Select .* to (?:view|change)|yielded"),
    "plain words": re.compile(
        r"\b(?:lest|in vain|cried|deeds|ushers?|patience|that is none|so told|no sign of it|not as good as)\b"
        r"|whatever chance|climbs by itself|(?:in|1 of) over \d",
        re.IGNORECASE,
    ),
}


@pytest.fixture(scope="module")
def actor(database: None) -> User:
    return operator()


@pytest.fixture(scope="module")
def filled(actor: User) -> Pages:
    return fill(actor)


@pytest.fixture(scope="module")
def production(database: None, static_root: Path) -> Iterator[Server]:
    """A server that asks before each change."""
    with running_server(ENVIRONMENT="prod", workers=1, STATIC_ROOT=str(static_root)) as server:
        yield server


@pytest.fixture
def page(browser: Browser, production: Server, actor: User) -> Iterator[Page]:
    guard = Guard(production)
    context = browser.new_context(base_url=production.url, reduced_motion="reduce")
    guard.watch(context)
    page = context.new_page()
    enter(page, actor)
    yield page
    context.close()
    assert guard.complaints == []


def looks(page: Page, name: str) -> list[str]:
    """Return the faults of the open page, at each width."""
    found = []
    for width in (*WIDTHS, *[TABLE] * page.locator("#result_list").count()):
        page.set_viewport_size({"width": width, "height": 900})
        found += [
            f"{name} at {width}: {fault}"
            for fault in page.evaluate(f"() => {{{LOOKS}; return lastingFaults()}}")
        ]
    return found


def wording(page: Page, name: str) -> list[str]:
    """Return the texts of the open page that break a rule."""
    found = []
    for each in page.evaluate(f"() => {{{LOOKS}; return texts()}}"):
        text = each["text"].replace(CUT_PERCENT, "")
        for typed in TYPED:
            text = text.replace(typed, "")
        found += [
            f"{name}: {rule}: {each['text'][:200]}" for rule, wrong in RULES.items() if wrong.search(text)
        ]
        if TIME.search(text) and "UTC" not in text + each["zone"]:
            found.append(f"{name}: a time has its zone: {text[:200]}")
    return found


@pytest.mark.timeout(300)  # 40 pages
def test_every_page_has_room_for_its_texts_and_says_them_plainly(page: Page, filled: Pages) -> None:
    found = []
    for name, path in filled.paths.items():
        page.goto(path)
        found += [*looks(page, name), *wording(page, name)]
    assert not found, "\n".join(found)


def press(page: Page, path: str, button: str) -> None:
    page.goto(path)
    page.locator("#move_reason").fill(REASON)
    page.get_by_role("button", name=button, exact=True).click()


def refuse(page: Page, pages: Pages, actor: User) -> None:
    """Let somebody else change a rollout before the form is sent."""
    canary = pages.canaries["unchecked"]
    page.goto(canary.screen)
    page.locator("#move_reason").fill(REASON)
    operations.set_percentage(canary.feature, Decimal(11), reason=REASON, actor=actor)
    page.get_by_role("button", name="Hold", exact=True).click()


def configure(page: Page, pages: Pages, _actor: User) -> None:
    page.goto(pages.canaries["green"].screen)
    page.locator("#configure_description").fill("e" * 200)
    page.locator("#configure_never").fill("superusers, staff")
    page.locator("#configure_reason").fill(REASON)
    page.get_by_role("button", name="Save configuration").click()


def wrong(page: Page, pages: Pages, _actor: User) -> None:
    page.goto(pages.canaries["green"].screen)
    page.locator("#move_reason").fill(REASON)
    page.locator("#move_percentage").fill("9" * 20)
    page.get_by_role("button", name="Set", exact=True).click()


def done(page: Page, pages: Pages, _actor: User) -> None:
    press(page, pages.canaries["off"].screen, "10 %")
    page.get_by_role("button", name="Yes, in prod").click()


def arm(page: Page, pages: Pages, _actor: User) -> None:
    page.goto(pages.canaries["green"].screen)
    page.locator("summary", has_text="Emergency stop").click()


def arm_in_list(page: Page, _pages: Pages, _actor: User) -> None:
    page.goto("/admin/rollout/rollout/")
    for stop in page.locator("#result_list summary").all():
        stop.click()


def asks(state: str, button: str) -> Callable[[Page, Pages, User], None]:
    return lambda page, pages, _: press(page, pages.canaries[state].screen, button)


ACTS: dict[str, Callable[[Page, Pages, User], None]] = {
    "promote what is red": asks("red", "Promote to 100 %"),
    "roll back": asks("red", "Roll back"),
    "hold": asks("green", "Hold"),
    "resume": asks("held", "Resume"),
    "release": asks("stopped", "Release"),
    "complete": asks("full", "Complete"),
    "start after a rollback": asks("rolled_back", "50 %"),
    "configure": configure,
    "refused": refuse,
    "a wrong percentage": wrong,
    "done": done,
    "armed": arm,
    "armed in the list": arm_in_list,
}


def test_every_answer_to_a_button_has_room_for_its_texts(page: Page, filled: Pages, actor: User) -> None:
    found: list[Any] = []
    for name, act in ACTS.items():
        page.set_viewport_size({"width": 1280, "height": 900})
        act(page, filled, actor)
        found += [*looks(page, name), *wording(page, name), *serious(page)]
    assert not found, "\n".join(found)
