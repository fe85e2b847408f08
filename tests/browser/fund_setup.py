"""Shared by the tests of /fund-setup: an operator, a fund manager at the page, and what both see."""

import json
import re
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect

from fundapi.models import Fund
from rollout import configuration, operations
from rollout.models import Rollout
from tests.browser.conftest import DESKTOP, TIMEOUT, Guard
from tests.servers import Server

FEATURE = "USE_FUND_STORE"
CONFIGURATION = "**/api/rollouts"
FUNDS = "**/api/funds"
LEGACY = "fundSetup"
LABELS = {
    "name": "Fund name",
    "size": "Fund size",
    "managementFee": "Management fee",
    "carryPercentage": "Carry",
    "vintageYear": "Vintage year",
    "modelVersion": "Model version",
}
DRAFT = {"name": "Harbor Growth I", "size": "250,000,000", "modelVersion": "v2.1"}


class Operator:
    """An operator, who moves the rollout as at a shell."""

    def __call__(self, action: str, *arguments: str) -> None:
        call_command("rollout", action, FEATURE, *arguments, "--reason", "a test", stdout=StringIO())

    def disable(self) -> None:
        operations.configure(FEATURE, {"enabled": False}, reason="a test")


@pytest.fixture
def operator(database: None) -> Iterator[Operator]:
    """The rollout, enabled and at 0 % to begin with, and afterwards as it was."""
    before = Rollout.objects.filter(feature=FEATURE).values().get()
    Rollout.objects.filter(feature=FEATURE).update(
        enabled=True, percentage=0, emergency_stop=False, on_hold=False, hash_version=1
    )
    configuration.forget()
    yield Operator()
    Rollout.objects.filter(feature=FEATURE).update(**before)
    configuration.forget()


class Manager:
    """A fund manager at /fund-setup, in one tab."""

    def __init__(self, page: Page, user: User) -> None:
        self.page, self.user = page, user
        self.store_key = f"fundStore:v1:draft:{user.pk}"

    # Actions

    def open(self, query: str = "", *, store: str | None = None) -> "Manager":
        """Open the page and wait until it is ready, in ``store`` where one is named."""
        self.page.goto("/fund-setup" + query)
        return self.ready(store)

    def reload(self, store: str | None = None) -> "Manager":
        self.page.reload()
        return self.ready(store)

    def ready(self, store: str | None = None) -> "Manager":
        expect(self.page.locator("#fund-setup")).to_have_attribute(
            "data-store", store or re.compile("legacy|fund-store")
        )
        return self

    def type(self, **fields: str) -> "Manager":
        for field, text in fields.items():
            self.field(field).fill(text)
        return self

    def create(self) -> None:
        self.page.get_by_role("button", name="Create fund").click()

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name).click()

    def go_offline(self) -> None:
        """Take the network away, and wait until the page knows: before that it sends, and gets no answer."""
        self.page.context.set_offline(True)
        self.page.wait_for_function("!navigator.onLine")

    def leave_unsent(self, **fields: str) -> "Manager":
        """Create a fund offline, close the page, and return another tab, online again."""
        self.open().type(**fields)
        self.go_offline()
        self.create()
        self.sees("You are offline.")
        # A tab that is only closed may live on for a moment, hear that it is online, and send.
        self.page.goto("about:blank")
        self.page.close()
        self.page.context.set_offline(False)
        return self.another_tab()

    def another_tab(self) -> "Manager":
        return Manager(self.page.context.new_page(), self.user)

    # The page

    def field(self, field: str) -> Locator:
        return self.page.get_by_label(LABELS[field], exact=field != "modelVersion")

    def sees(self, text: str) -> None:
        expect(self.page.locator("main")).to_contain_text(text)

    def sees_outcome(self, title: str) -> None:
        expect(self.page.get_by_role("heading", name=title)).to_be_visible()

    def sees_typed(self, **fields: str) -> None:
        for field, text in fields.items():
            expect(self.field(field)).to_have_value(text)

    # Storage and telemetry

    def stored(self, key: str) -> Any:
        """Return what localStorage has under ``key``, parsed."""
        text = self.page.evaluate("key => localStorage.getItem(key)", key)
        return None if text is None else json.loads(text)

    def draft_keys(self) -> list[str]:
        """Return the keys of localStorage that have to do with drafts."""
        keys: list[str] = self.page.evaluate("Object.keys(localStorage)")
        return sorted(key for key in keys if key.startswith(("fundSetup", "fundStore")))

    def events(self, *names: str) -> list[dict[str, Any]]:
        """Return the telemetry events of these names, oldest first."""
        events: list[dict[str, Any]] = self.page.evaluate("window.__telemetry.export()")
        return [event for event in events if event["event"] in names]

    def funds(self) -> list[Fund]:
        return list(Fund.objects.filter(owner=self.user).order_by("pk"))


class Visits:
    """Tabs of fund managers, each in a browser of its own; an error of a page fails the test."""

    def __init__(self, browser: Browser, server: Server, make_user: Callable[..., User]) -> None:
        self.browser, self.server, self.make_user = browser, server, make_user
        self.guard = Guard(server)
        self.contexts: list[BrowserContext] = []

    def __call__(self, user: User | None = None, server: Server | None = None, **options: Any) -> Manager:
        """Return a signed-in fund manager who has not opened the page yet."""
        user = user or self.make_user()
        context = self.browser.new_context(
            **{"base_url": (server or self.server).url, "viewport": DESKTOP, **options}
        )
        context.set_default_timeout(TIMEOUT)
        self.contexts.append(context)
        if server is None:
            self.guard.watch(context)
        self.sign_in(context, user)
        return Manager(context.new_page(), user)

    @staticmethod
    def sign_in(context: BrowserContext, user: User) -> None:
        client = Client()
        client.force_login(user)
        name = settings.SESSION_COOKIE_NAME
        session = client.cookies[name].value
        context.add_cookies([{"name": name, "value": session, "domain": "127.0.0.1", "path": "/"}])

    @property
    def complaints(self) -> list[str]:
        """Return the errors, without those that Chromium logs for answers that tests provoke."""
        return [line for line in self.guard.complaints if "Failed to load resource" not in line]


@pytest.fixture
def visit(
    browser: Browser, server: Server, make_user: Callable[..., User], operator: Operator
) -> Iterator[Visits]:
    visits = Visits(browser, server, make_user)
    yield visits
    for context in visits.contexts:
        context.close()
    assert visits.complaints == []


@pytest.fixture
def manager(visit: Visits) -> Manager:
    return visit()


class Requests:
    """The ``POST /api/funds`` requests of a browser, with their keys."""

    def __init__(self, context: BrowserContext) -> None:
        self.keys: list[str] = []
        self.bodies: list[str] = []
        self.answered = 0
        context.on("request", self._note)
        context.on("requestfinished", self._answer)

    def _note(self, request: Any) -> None:
        if self._is_ours(request):
            self.keys.append(request.headers["idempotency-key"])
            self.bodies.append(request.post_data)

    def _answer(self, request: Any) -> None:
        self.answered += self._is_ours(request)

    @staticmethod
    def _is_ours(request: Any) -> bool:
        return bool(request.method == "POST" and request.url.endswith("/api/funds"))

    def __len__(self) -> int:
        return len(self.keys)


def lose_answers(manager: Manager) -> None:
    """The server gets every request, and its answers get lost."""

    def lose(route: Route) -> None:
        if route.request.method == "POST":
            route.fetch()
        route.abort("connectionreset")

    manager.page.route(FUNDS, lose)


def answer_once(page: Page, status: int, **answer: Any) -> None:
    """Answer the next ``POST /api/funds`` in place of the server, as a proxy might."""

    def proxy(route: Route) -> None:
        route.fulfill(status=status, content_type="text/html", body="<h1>No</h1>", **answer)

    page.route(FUNDS, proxy, times=1)
