"""The function for fetch of docs/how-to/retries.md, in a real browser on a bad day."""

from django.contrib.auth.models import User
from playwright.sync_api import Browser

from tests.answers import funds_of
from tests.fundapi.test_retries import BAD_DAY, examples, prepared
from tests.relay import Relay
from tests.servers import Server


def test_fetch_in_a_browser_creates_one_fund(browser: Browser, server: Server, user: User, key: str) -> None:
    page = browser.new_page()
    with Relay(server.url, *BAD_DAY) as relay:
        page.goto(f"{relay.url}/signin")
        example = prepared(examples("fetch")[0], relay.url, user, key)
        fund = page.evaluate(f"(async () => {{ {example}; return fund; }})()")
        page.close()
    assert [seen.fault for seen in relay.seen] == [*BAD_DAY, ""]
    assert fund["name"] == "Harbor Growth I"
    assert funds_of(user) == 1
