"""Scenes for the pictures of the documentation: throw-away services, a server, people and their telemetry.

The environment is set before anything of Django is imported.
"""

import os
import secrets
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import django

if TYPE_CHECKING:
    from playwright.sync_api import Page, ViewportSize

PASSWORD = secrets.token_urlsafe()
FEATURE = "USE_FUND_STORE"


@contextmanager
def database(**settings: str) -> Iterator[None]:
    """Let the ORM work on a migrated database of its own, with one rollout at 0 %."""
    os.environ |= {
        "SECRET_KEY": secrets.token_urlsafe(64),
        "DJANGO_SETTINGS_MODULE": "fundapi.settings",
        "DJANGO_ALLOW_ASYNC_UNSAFE": "1",  # Playwright's loop runs in this thread; the ORM is not in it
        "USE_FUND_STORE_ROLLOUT": "0",
        **settings,
    }
    from tests.plugin import throw_away_services

    with throw_away_services():
        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        yield


@contextmanager
def signed_in(address: str, username: str, viewport: "ViewportSize") -> Iterator["Page"]:
    """Open a browser at an address of a server of its own, and sign in with PASSWORD."""
    from playwright.sync_api import sync_playwright

    from tests.browser.conftest import ARGUMENTS, _executable
    from tests.servers import running_server

    with running_server(workers=1) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_executable(playwright), args=ARGUMENTS)
        page = browser.new_page(base_url=server.url, viewport=viewport)
        page.goto(address)
        page.get_by_label("Username").fill(username)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        yield page
        browser.close()


def report(*events: str, clients: int, variant: str = "fund-store", network: str = "") -> None:
    """Let so many new users send a heartbeat and these events; from a network they come without a ticket."""
    from rollout import store

    store.arrive(
        [
            store.Arrival(
                id=uuid.uuid4(),
                client=client,
                session=session,
                event=event,
                category="",
                ok=not event.endswith(("failed", "error", "warning")),
                flag=FEATURE,
                variant=variant,
                at=None,
                detail=None,
                signer=None if network else client,
                network=network,
            )
            for client, session in [(uuid.uuid4(), uuid.uuid4()) for _ in range(clients)]
            for event in ("heartbeat", *events)
        ]
    )
