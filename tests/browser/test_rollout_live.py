"""The operator's screen follows the judge without a reload, and says so when it cannot."""

import re
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.db.models import F
from playwright.sync_api import Browser, Page, expect

from rollout import operations
from rollout.models import Check, Incident
from tests.browser.conftest import PHONE, enter, overflow, serious
from tests.canary import LIST, Canary
from tests.servers import Server

POLL = 10_000  # ms, as admin.js has it


@pytest.fixture
def canary(server: Server) -> Iterator[Canary]:
    canary = Canary(server)
    yield canary
    canary.http.close()


@pytest.fixture
def operator(database: None) -> User:
    user = User.objects.create_user(f"operator-{uuid.uuid4().hex[:8]}", is_staff=True)
    user.groups.add(Group.objects.get(name="Operator"))
    return user


def later(page: Page) -> None:
    """Let the time pass after which an open page asks again."""
    page.clock.fast_forward(POLL)


def test_an_open_screen_sees_a_rollback_and_loses_nothing_typed(
    page: Page, operator: User, canary: Canary
) -> None:
    page.clock.install()
    enter(page, operator, canary.screen)
    judge = page.locator(".rollout-judge")
    reason = page.get_by_role("region", name="Move").get_by_label("Reason")
    expect(judge).to_contain_text("Not checked yet in this stage.")
    expect(page.locator("[data-live-state]")).to_have_text("Live")
    reason.fill("Something is odd")
    for reds in (1, 2):
        canary.send("migration_failed", clients=5)
        canary.check_now()
        later(page)
        expect(judge).to_contain_text(f"{reds} of 3 consecutive red checks")
    expect(judge.locator(".rollout-signal.is-large")).to_have_text("Red")
    expect(page.locator("[data-live-announcement]")).to_have_text("The signal is red.")
    expect(page.locator(".rollout-story")).to_contain_text("1 more red check rolls it back.")
    expect(page.get_by_role("img", name="2 checks: worst signal red")).to_be_visible()
    expect(page.locator("[data-outdated]")).to_be_empty()

    canary.send("migration_failed", clients=5)
    canary.check_now()
    later(page)
    expect(page.locator(".rollout-percentage")).to_have_text("0 %")
    expect(page.get_by_role("heading", name="Rolled back by the judge")).to_be_visible()
    expect(judge).to_contain_text("Rolled back.")
    expect(page.locator(".rollout-history li").first).to_contain_text("the judge")
    expect(page.locator("[data-outdated]")).to_contain_text("was changed after this form was loaded")
    expect(reason).to_have_value("Something is odd")
    page.get_by_role("link", name="Reload the page").click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    page.get_by_role("link", name="The incident").first.click()
    incident = Incident.objects.get(rollout=canary.pk)
    page.wait_for_url(f"**/incident/{incident.pk}/change/")
    # Red, and rolled back: an alert of each for each channel, set up or not.
    for kind, many in (("check", 3), ("alert", 4), ("change", 1)):
        expect(page.locator(f".rollout-timeline li.is-{kind}")).to_have_count(many)


def test_what_a_person_unfolded_stays_open_and_focused_when_the_next_check_comes(
    page: Page, operator: User, canary: Canary
) -> None:
    page.clock.install()
    canary.send("migration_succeeded", clients=25)
    canary.check_now()
    enter(page, operator, canary.screen)
    expect(page.locator("[data-live-state]")).to_have_text("Live")
    summary = page.locator(".rollout-judge summary")
    summary.click()
    baseline = page.get_by_text("Clients without the feature")
    expect(baseline).to_be_visible()
    canary.send(clients=5)
    canary.check_now()
    later(page)
    expect(page.locator(".rollout-judge")).to_contain_text("30 clients in this stage (20 needed)")
    expect(baseline).to_be_visible()
    expect(summary).to_be_focused()


def test_a_hidden_page_asks_nothing_until_it_is_seen_again(
    page: Page, operator: User, canary: Canary
) -> None:
    page.clock.install()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/live/" in request.url else None)
    enter(page, operator, canary.screen)
    expect(page.locator("[data-live-state]")).to_have_text("Live")
    assert len(asked) == 1
    hide = "hidden => { Object.defineProperty(document, 'hidden', {configurable: true, get: () => hidden}); \
            document.dispatchEvent(new Event('visibilitychange')); }"
    page.evaluate(hide, True)
    for _ in range(3):
        later(page)
    page.wait_for_timeout(1000)
    assert len(asked) == 1
    operations.hold(canary.feature, reason="wait")
    page.evaluate(hide, False)
    expect(page.get_by_role("heading", name="On hold")).to_be_visible()
    assert len(asked) == 2


def test_a_page_that_hears_nothing_says_since_when(
    browser: Browser, server: Server, operator: User, canary: Canary
) -> None:
    context = browser.new_context(base_url=server.url)  # without the guard: a failed request logs an error
    page = context.new_page()
    page.clock.install()
    enter(page, operator, canary.screen)
    state = page.locator("[data-live-state]")
    expect(state).to_have_text("Live")
    for fail, text in (
        (lambda route: route.abort(), "the server does not answer"),
        (lambda route: route.fulfill(status=503), "the server answers 503"),
        (lambda route: route.fulfill(status=200, body="<p>a proxy"), "the answer is another page"),
    ):
        page.route("**/live/**", fail)
        later(page)
        expect(state).to_contain_text("Not updated since ")
        expect(state).to_contain_text(text)
        page.unroute("**/live/**")
    later(page)
    expect(state).to_have_text("Live")
    context.clear_cookies(name="sessionid")
    later(page)
    expect(state).to_contain_text("you are signed out: reload the page")
    context.close()


def test_what_a_browser_reports_never_runs_in_the_admin(page: Page, operator: User, canary: Canary) -> None:
    evil = "<img src=x onerror='document.title=\"run\"'><script>document.title='run'</script>"
    canary.send("migration_failed", clients=3, detail=evil)
    made = canary.check_now()
    paths = [
        canary.screen,
        f"/admin/rollout/check/{made.pk}/change/",
        f"/admin/rollout/telemetryevent/?flag={canary.feature}",
    ]
    for path in paths:
        enter(page, operator, path)
        assert "run" not in page.title().split()
    expect(page.locator("#result_list")).to_contain_text("<img src=x onerror=")
    page.locator("#result_list a").first.click()
    page.wait_for_url(re.compile(r"/telemetryevent/[^/]+/change/"))
    expect(page.locator("#main")).to_contain_text("<script>document.title")
    assert page.title() != "run"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_what_the_judge_says(
    open_page: Callable[..., Page], operator: User, canary: Canary, scheme: str
) -> None:
    page = open_page(color_scheme=scheme, viewport=PHONE)

    def look(path: str) -> None:
        enter(page, operator, path)
        page.wait_for_timeout(200)  # Unfold fades its colours in, however long that takes
        page.wait_for_function("document.getAnimations().every(one => one.playState !== 'running')")
        assert serious(page) == [], path
        assert overflow(page) <= 0, path

    canary.send("migration_succeeded", clients=25)
    canary.check_now()
    look(canary.screen)
    canary.send(clients=25, variant="legacy")
    canary.send("error", clients=25, variant="legacy")
    canary.send(clients=20)
    canary.send("error", clients=5)
    assert canary.check_now().signal == "hold"
    look(canary.screen)
    expect(page.locator(".rollout-notice")).to_contain_text("Everybody has errors")
    Check.objects.filter(rollout=canary.pk).update(at=F("at") - timedelta(minutes=1))
    canary.send(clients=20)
    canary.check_now()  # a line has two points, apart
    look(canary.screen)
    expect(page.get_by_role("img", name="Clients with errors: without it 50 % of 50 clients")).to_be_visible()
    for _ in range(3):
        canary.send("migration_failed", "console_error", clients=5, detail="x" * 400)
        made = canary.check_now()
    look(canary.screen)
    look(f"{LIST}?q={canary.feature}")
    look(f"/admin/rollout/check/{made.pk}/change/")
    look(f"/admin/rollout/check/?rollout__id__exact={canary.pk}")
    look(f"/admin/rollout/incident/{Incident.objects.get(rollout=canary.pk).pk}/change/")
    look(f"/admin/rollout/telemetryevent/?flag={canary.feature}")


def test_lines_of_a_chart_can_be_hidden_and_stay_so_and_a_touch_says_the_values(
    open_page: Callable[..., Page], operator: User, canary: Canary
) -> None:
    for _ in range(2):
        canary.send("migration_failed", clients=5)
        canary.check_now()
    page = open_page(viewport=PHONE, has_touch=True)
    page.clock.install()
    enter(page, operator, canary.screen)
    migrations = page.get_by_label("Migration failures")
    line = page.locator(".rollout-checks .line.is-migration")
    expect(line).to_have_css("display", "inline")
    migrations.focus()
    page.keyboard.press("Space")
    expect(line).to_have_css("display", "none")
    page.get_by_text("The checks as a table").click()
    page.locator(".is-score .cell .score").last.tap()
    expect(page.locator(".rollout-tip")).to_contain_text(
        re.compile(r"UTC: red, score \d+ points \(red from 15\)")
    )
    canary.send("migration_failed", clients=5)
    canary.check_now()
    later(page)
    expect(page.get_by_role("img", name="3 checks: worst signal red")).to_be_visible()
    expect(migrations).not_to_be_checked()
    expect(line).to_have_css("display", "none")
    expect(page.locator(".rollout-checks table")).to_be_visible()  # opened once, open still
    assert overflow(page) <= 0
