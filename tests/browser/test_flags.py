"""The page that the server renders and the module in it agree on every flag, in a real browser."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.test import Client, override_settings
from django.test.testcases import LiveServerThread
from playwright.sync_api import Browser, BrowserContext, Page

from rollout import override_rollout
from rollout.evaluation import override_name
from tests.rollout.conftest import MakeRollout, make_rollout

__all__ = ["make_rollout"]

BROWSERS = 200
SITE = {
    "ROOT_URLCONF": "tests.browser.flag_pages",
    "MIDDLEWARE": [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "rollout.middleware.RolloutMiddleware",
    ],
}
OF_THE_MODULE = """async (names) => {
  const { createRollouts } = await import("/static/rollout/rollout.js");
  const rollouts = createRollouts();
  await rollouts.ready;
  rollouts.stop();
  return names.map((name) => rollouts.evaluation(name));
}"""
# Each round is a browser of its own: a uuid in localStorage, whose cookie the module writes.
MANY_BROWSERS = """async ([uuids, names]) => {
  const { createRollouts } = await import("/static/rollout/rollout.js");
  const found = [];
  for (const uuid of uuids) {
    localStorage.setItem("rollouts.uuid", uuid);
    const rollouts = createRollouts();
    await rollouts.ready;
    rollouts.stop();
    const page = new DOMParser().parseFromString(await (await fetch("/flags?names=" + names)).text(), "text/html");
    found.push(names.map((name) => [page.getElementById(name).textContent, rollouts.isOn(name) ? "on" : "off"]));
  }
  return found;
}"""


@pytest.fixture(scope="module")
def site(database: None) -> Iterator[str]:
    with override_settings(**SITE):
        thread = LiveServerThread("127.0.0.1", StaticFilesHandler)
        thread.daemon = True
        thread.start()
        thread.is_ready.wait()
        assert thread.error is None, thread.error
        yield f"http://127.0.0.1:{thread.port}"
        thread.terminate()


@pytest.fixture
def context(browser: Browser, site: str) -> Iterator[BrowserContext]:
    context = browser.new_context(base_url=site)
    yield context
    context.close()


def enter(context: BrowserContext, user: User) -> None:
    client = Client()
    client.force_login(user)
    session = client.cookies[settings.SESSION_COOKIE_NAME].value
    context.add_cookies(
        [{"name": settings.SESSION_COOKIE_NAME, "value": session, "domain": "127.0.0.1", "path": "/"}]
    )


def of_the_page(page: Page, names: list[str]) -> list[bool]:
    return [page.locator(f"#{name}").text_content() == "on" for name in names]


def open_flags(page: Page, names: list[str], query: str = "") -> tuple[list[bool], list[tuple[bool, str]]]:
    """Return what the server's page shows, and what the module in it says, with the reasons."""
    page.goto(f"/flags?names={','.join(names)}{query}")
    found = page.evaluate(OF_THE_MODULE, names)
    return of_the_page(page, names), [(each["on"], each["reason"]) for each in found]


def test_page_and_module_agree_for_every_browser(context: BrowserContext, make_rollout: MakeRollout) -> None:
    names = [make_rollout(percentage=37, hash_version=version).feature for version in (1, 2)]
    uuids = [str(uuid.uuid4()) for _ in range(BROWSERS)]
    page = context.new_page()
    page.goto(f"/flags?names={','.join(names)}")
    found: Any = page.evaluate(MANY_BROWSERS, [uuids, names])
    for index in range(len(names)):
        pairs = [tuple(flags[index]) for flags in found]
        assert set(pairs) == {("on", "on"), ("off", "off")}, json.dumps(pairs)
        assert 0.2 * BROWSERS < pairs.count(("on", "on")) < 0.55 * BROWSERS


def test_the_module_takes_the_key_that_the_first_page_was_made_with(
    browser: Browser, site: str, make_rollout: MakeRollout
) -> None:
    names = [make_rollout(percentage=50).feature for _ in range(8)]
    for _ in range(4):
        context = browser.new_context(base_url=site)
        shown, found = open_flags(context.new_page(), names)
        assert shown == [on for on, _ in found]
        context.close()


def test_a_person_counts_the_same_in_both(
    context: BrowserContext, make_rollout: MakeRollout, user: User
) -> None:
    rollouts = [
        make_rollout(always=f"user:{user.pk}"),
        make_rollout(never="authenticated", percentage=100),
        make_rollout(always="staff", percentage=100),
    ]
    names = [rollout.feature for rollout in rollouts]
    enter(context, user)
    shown, found = open_flags(context.new_page(), names)
    assert found == [(True, "always"), (False, "never"), (True, "percentage")]
    assert shown == [on for on, _ in found]
    opted_in = "".join(f"&{override_name(name)}=1" for name in names)
    shown, found = open_flags(context.new_page(), names, opted_in)
    assert found == [(True, "opt_in"), (False, "never"), (True, "opt_in")]
    assert shown == [on for on, _ in found]


def test_switches_in_storage_reach_the_server(context: BrowserContext, make_rollout: MakeRollout) -> None:
    names = [make_rollout(percentage=100).feature, make_rollout().feature]
    page = context.new_page()
    assert open_flags(page, names)[0] == [True, False]
    page.evaluate("([name, value]) => localStorage.setItem(name, value)", [override_name(names[0]), "off"])
    page.evaluate("([name, value]) => localStorage.setItem(name, value)", [override_name(names[1]), "true"])
    page.evaluate(OF_THE_MODULE, names)
    assert open_flags(page, names) == ([False, True], [(False, "opt_out"), (True, "opt_in")])
    page.evaluate(
        "(names) => names.forEach((name) => localStorage.removeItem(name))", list(map(override_name, names))
    )
    page.evaluate(OF_THE_MODULE, names)
    assert open_flags(page, names)[0] == [True, False]


def test_an_emergency_reaches_the_server_and_ends_there_too(
    context: BrowserContext, make_rollout: MakeRollout
) -> None:
    names = [make_rollout(percentage=100).feature]
    page = context.new_page()
    stopped = ([False], [(False, "emergency_stop")])
    assert open_flags(page, names, "&emergency_rollback=true") == stopped
    assert open_flags(page, names) == stopped
    page.get_by_role("button", name="Leave emergency rollback").click()
    page.wait_for_function("!localStorage.getItem('emergency_rollback')")
    assert open_flags(page, names) == ([True], [(True, "percentage")])


def test_an_override_of_a_test_reaches_the_threads_of_a_live_server(context: BrowserContext) -> None:
    page = context.new_page()
    for active in (True, False):
        with override_rollout("OF_A_TEST", active=active):
            shown, found = open_flags(page, ["OF_A_TEST"])
            assert (shown, found[0][0]) == ([active], active)
