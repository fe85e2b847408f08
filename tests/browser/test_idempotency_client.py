"""``idempotency/client.js`` in a real browser, against the real server: one fund, whatever lies between."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Page, Route

from fundapi.models import Fund
from tests.browser.fund_setup import FUNDS, Requests
from tests.conftest import FUND, token_of
from tests.obedience import Hold, hold, obedience
from tests.servers import Server

__all__ = ["hold", "obedience"]  # fixtures

OPEN = """async ([environment, token]) => {
    const { createClient } = await import("/static/idempotency/client.js");
    window.createFunds = (more) => createClient({ environment, operation: "fund-create", backoff: 1, token, ...more });
    window.funds = createFunds();
    window.told = (post) => post.then(
        ({ status, attempts, text }) => ({ status, attempts, text }),
        ({ name, key, attempts, message }) => ({ name, key, attempts, message }),
    );
}"""


@pytest.fixture
def page(browser: Browser, server: Server, user: User) -> Iterator[Page]:
    """A page of the server's origin with a client of the user's, ``funds``."""
    page = browser.new_page(base_url=server.url)
    visit(page, user)
    yield page
    page.close()


def visit(page: Page, user: User) -> None:
    page.goto("/admin/login/")
    page.evaluate(OPEN, ["test", token_of(user)])


def made(user: User) -> int:
    return Fund.objects.filter(owner=user).count()


def test_what_a_gateway_says_in_place_of_the_server_is_no_answer(page: Page, user: User) -> None:
    answers = [
        {"status": 200, "json": {"status": "maintenance"}},
        {"status": 403, "body": "<h1>Sign in to this network</h1>", "content_type": "text/html"},
        {"status": 302, "headers": {"Location": "/livez"}},
    ]

    def gateway(route: Route) -> None:
        route.fetch()  # the server creates the fund, and its answer gets lost
        route.fulfill(**answers.pop(0))  # type: ignore[arg-type]  # as fulfill takes them

    page.route(FUNDS, gateway, times=len(answers))
    told = page.evaluate("fund => told(funds.post('/api/funds', fund, { key: 'once' }))", FUND)
    assert (told["status"], told["attempts"]) == ("replayed", 4)
    assert made(user) == 1


def test_who_joins_a_call_gets_its_answer_when_the_first_caller_leaves(
    page: Page, user: User, hold: Hold
) -> None:
    sent = Requests(page.context)
    page.evaluate(
        """fund => {
            const [first, second] = [new AbortController(), new AbortController()];
            window.heard = [];
            const join = ({ signal }) => told(funds.post("/api/funds", fund, {
                key: "joined", signal, onAttempt: ({ attempt }) => heard.push(attempt),
            }));
            [window.one, window.two] = [join(first), join(second)];
            first.abort();
        }""",
        hold.body,
    )
    hold.running()
    hold.release()
    assert page.evaluate("one")["name"] == "AbortError"
    assert page.evaluate("two")["status"] == "created"
    assert page.evaluate("heard")[-1] == 1
    assert (len(sent), made(user)) == (1, 1)


def test_a_call_that_all_have_left_is_aborted_and_not_joined(page: Page, user: User, hold: Hold) -> None:
    sent = Requests(page.context)
    page.evaluate(
        """fund => {
            const leaving = new AbortController();
            window.leave = () => leaving.abort();
            window.send = (signal) => told(funds.post("/api/funds", fund, { key: "left", signal }));
            window.one = send(leaving.signal);
        }""",
        hold.body,
    )
    hold.running()
    page.evaluate("leave(), window.two = send(), 0")
    assert page.evaluate("one")["name"] == "AbortError"
    hold.release()
    assert page.evaluate("two")["status"] in {"created", "replayed"}
    assert len(set(sent.keys)) == 1
    assert made(user) == 1


def test_a_token_that_cannot_be_had_fails_the_attempt_and_not_the_call(page: Page, user: User) -> None:
    page.evaluate("window.refresh = async () => (await fetch('/refresh')).text()")
    page.route("**/refresh", lambda route: route.abort("internetdisconnected"))
    hopeless = page.evaluate(
        "fund => told(createFunds({ token: refresh, retries: 1 }).post('/api/funds', fund, { key: 'k' }))",
        FUND,
    )
    assert (hopeless["name"], hopeless["attempts"]) == ("OfflineError", 2)
    assert hopeless["key"].endswith("|fund-create|k")
    page.unroute("**/refresh")
    tokens = ["expired", token_of(user)]
    page.route("**/refresh", lambda route: route.fulfill(body=tokens.pop(0)))
    renewed = page.evaluate("fund => told(createFunds({ token: refresh }).post('/api/funds', fund))", FUND)
    assert (renewed["status"], renewed["attempts"]) == ("created", 2)
    hangs = "told(createFunds({ token: () => new Promise(() => {}), timeout: 50, retries: 0 }).post('/', {}))"
    assert page.evaluate(hangs)["name"] == "TimeoutError"
    assert made(user) == 1


def test_a_draft_whose_answer_was_lost_is_not_sent_again_a_day_later(page: Page, user: User) -> None:
    sent = Requests(page.context)
    send = "fund => told(createFunds({ retries: 0 }).post('/api/funds', fund, { key: funds.draftKey('f') }))"

    def lose(route: Route) -> None:
        route.fetch()
        route.abort("connectionreset")

    page.route(FUNDS, lose, times=1)
    assert page.evaluate(send, FUND)["name"] == "OfflineError"
    for hours, outcome in ((23, "replayed"), (25, "ExpiredKeyError")):  # the server's clock stands still here
        page.clock.set_fixed_time(datetime.now(UTC) + timedelta(hours=hours))
        visit(page, user)
        told = page.evaluate(send, FUND)
        assert told.get("status", told.get("name")) == outcome
    assert (len(sent), made(user)) == (2, 1)
    page.evaluate("funds.forget('f')")
    assert page.evaluate(send, FUND)["status"] == "created"


def test_a_size_keeps_its_digits_both_ways(page: Page, user: User) -> None:
    told = page.evaluate(
        "fund => told(funds.post('/api/funds', { ...fund, size: JSON.rawJSON('90071992547409.93') }))", FUND
    )
    assert '"size":90071992547409.93' in told["text"]
    assert str(Fund.objects.get(owner=user).size) == "90071992547409.93"
