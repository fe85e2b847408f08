"""A real Chromium for the pages that people use. A page that logs an error or asks another host fails its test."""

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Playwright,
    Request,
    ViewportSize,
    expect,
    sync_playwright,
)

from tests.node import NODE, absent, node_packages
from tests.servers import Server

# The shell first: it has no window to draw, and needs the least of the machine.
SYSTEM_BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [  # nothing that a headless browser would do on its own
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TIMEOUT = 30_000  # ms for a change that the page makes itself
DESKTOP, PHONE = ViewportSize(width=1280, height=900), ViewportSize(width=390, height=844)
PASSWORD = "correct horse battery staple"


def _executable(playwright: Playwright) -> str | None:
    """Return a browser of the system, else Playwright's own where it is installed."""
    found = next(filter(None, map(shutil.which, SYSTEM_BROWSERS)), None)
    own = playwright.chromium.executable_path
    return found or (own if os.path.exists(own) else None)  # noqa: PTH110 - Playwright gives a string


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with pytest.MonkeyPatch.context() as environment:
        # Playwright's loop runs in this thread; the ORM is not in it.
        environment.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        environment.setenv("PLAYWRIGHT_NODEJS_PATH", NODE)
        with sync_playwright() as playwright:
            executable = _executable(playwright)
            if executable is None:
                absent("no browser: `apt-get install chromium-headless-shell`")
            expect.set_options(timeout=TIMEOUT)
            browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
            yield browser
            browser.close()


class Guard:
    """The errors of a page: none of ours may have any."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.complaints: list[str] = []

    def watch(self, context: BrowserContext) -> None:
        context.on("console", self._console)
        context.on("weberror", lambda error: self._note("exception", str(error.error)))
        context.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._note("console", f"{message.text} ({message.location.get('url')})")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.server.url + "/", "data:", "blob:")):
            self._note("another host", request.url)

    def _note(self, kind: str, text: str) -> None:
        self.complaints.append(f"{kind}: {text}")


@pytest.fixture
def open_page(browser: Browser, server: Server) -> Iterator[Callable[..., Page]]:
    """Open a page in a browser context of its own: ``open_page(viewport=PHONE, color_scheme="dark")``."""
    guard = Guard(server)
    contexts: list[BrowserContext] = []

    def open_page(**options: object) -> Page:
        still = {"base_url": server.url, "viewport": DESKTOP, "reduced_motion": "reduce"}
        context = browser.new_context(**(still | options))  # type: ignore[arg-type]
        context.set_default_timeout(TIMEOUT)
        contexts.append(context)
        guard.watch(context)
        return context.new_page()

    yield open_page
    for context in contexts:
        context.close()
    assert guard.complaints == []


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    return open_page()


@pytest.fixture
def administrator(database: None) -> User:
    return User.objects.create_superuser(f"admin-{uuid.uuid4().hex[:12]}", password=PASSWORD)


def sign_in(page: Page, user: User, path: str = "/admin/") -> None:
    """Sign in at the form, as a person does, on the way to ``path``."""
    page.goto(path)
    page.get_by_label("Username").fill(user.get_username())
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(re.compile(r"/admin/(?!login)"))


def enter(page: Page, user: User, path: str = "/admin/") -> None:
    """Open ``path`` with a session of ``user``: for tests that are not about signing in."""
    client = Client()
    client.force_login(user)
    session = client.cookies[settings.SESSION_COOKIE_NAME].value
    page.context.add_cookies(
        [{"name": settings.SESSION_COOKIE_NAME, "value": session, "domain": "127.0.0.1", "path": "/"}]
    )
    page.goto(path)


def overflow(page: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    width: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return width


# Light: every rule, and targets of 24 px (WCAG 2.2). Dark: colours alone, the rest is the same. Only what is found
# crosses over to Python: a whole report is a megabyte.
AXE = """async () => {
  const describe = ({html, any}) => `${html.slice(0, 200)} ${any[0]?.message ?? ""}`;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const rules = dark ? {runOnly: ["color-contrast"]} : {rules: {"target-size": {enabled: true}}};
  const {violations} = await axe.run({...rules, resultTypes: ["violations"]});
  return violations.filter(({impact}) => ["serious", "critical"].includes(impact))
    .map(({id, nodes}) => `${id}: ${nodes.map(describe).join(" | ")}`);
}"""


def serious(page: Page) -> list[str]:
    """Return what axe-core finds on a page that keeps somebody from using it, with the elements."""
    if not page.evaluate("'axe' in window"):
        # As a script element, the page's policy refuses it.
        page.evaluate((node_packages() / "axe-core" / "axe.min.js").read_text())
    found: list[str] = page.evaluate(AXE)
    return found
