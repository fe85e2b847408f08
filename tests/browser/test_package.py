"""The frontend of the docs, with the npm package, bundled and served from an origin of its own."""

import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Page

from rollout.models import TelemetryEvent
from tests.answers import funds_of
from tests.conftest import token_of
from tests.node import install, node_packages, pack, package_example
from tests.relay import Relay
from tests.servers import Server, running_server

EMERGENCY = "section.emergency-banner"


class Files(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """An origin of its own, and the directory that it serves."""
    directory = tmp_path_factory.mktemp("site")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(directory))) as frontend:
        threading.Thread(target=frontend.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{frontend.server_port}", directory
        frontend.shutdown()


@pytest.fixture(scope="module")
def server(database: None, site: tuple[str, Path]) -> Iterator[Server]:
    origin, _ = site
    with running_server(workers=1, CORS_ALLOWED_ORIGINS=origin) as running:
        yield running


@pytest.fixture(scope="module")
def relay(server: Server) -> Iterator[Relay]:
    with Relay(server.url) as running:
        yield running


@pytest.fixture(scope="module")
def frontend(site: tuple[str, Path], relay: Relay, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build the example of the docs, which shows its outcome to the test, and return its address."""
    origin, directory = site
    example = package_example().replace("https://funds.example", relay.url).replace('"prod"', '"test"')
    example += "await telemetry.flush();\nwindow.outcome = { status, id: body.id, rollouts, telemetry };\n"
    tarball = pack(tmp_path_factory.mktemp("pack"))
    application = install(tarball, tmp_path_factory.mktemp("app") / "app", {"main.js": example})
    esbuild = node_packages() / ".bin" / "esbuild"
    outfile = f"--outfile={directory / 'main.js'}"
    build = [str(esbuild), "main.js", "--bundle", "--format=esm", "--minify", outfile, "--log-level=warning"]
    run = subprocess.run(build, check=True, cwd=application, capture_output=True, text=True)
    assert run.stderr == ""
    page = '<!doctype html><title>Funds</title><link rel="icon" href="data:,"><p>Funds</p>'
    (directory / "index.html").write_text(f'{page}<script type="module" src="main.js"></script>')
    return origin


@pytest.fixture
def page(browser: Browser, frontend: str, user: User) -> Iterator[Page]:
    """A tab of a signed-in user, whose frontend has not been opened yet."""
    errors: list[str] = []
    context = browser.new_context(base_url=frontend)
    context.on("weberror", lambda error: errors.append(str(error.error)))
    # The script also runs in the empty page of a new tab, which has no storage.
    context.add_init_script(f"if (location.host) sessionStorage.setItem('token', '{token_of(user)}')")
    yield context.new_page()
    context.close()
    assert errors == []


def test_the_frontend_of_the_docs_creates_a_fund_once_from_its_own_origin(
    page: Page, relay: Relay, user: User
) -> None:
    relay.faults.append("lost")
    page.goto("/")
    page.wait_for_function("window.outcome")
    assert page.evaluate("[outcome.status, outcome.id > 0]") == ["replayed", True]
    assert [seen.fault for seen in relay.seen] == ["lost", ""]
    assert len({seen.key for seen in relay.seen}) == 1
    assert funds_of(user) == 1
    assert page.evaluate("outcome.rollouts.config('USE_FUND_STORE')?.feature") == "USE_FUND_STORE"
    assert page.evaluate("outcome.telemetry.dropped") == 0
    events = TelemetryEvent.objects.filter(client=page.evaluate("outcome.telemetry.clientId"))
    assert {event.event for event in events} >= {"heartbeat", "fund_create_success"}
    assert all(event.signer for event in events)  # by the ticket of the user
    assert page.locator(EMERGENCY).count() == 0


def test_the_bundled_emergency_switch_runs_when_it_is_imported(page: Page) -> None:
    page.goto("/?emergency_rollback=true")
    page.wait_for_function("window.outcome")
    assert page.locator(EMERGENCY).count() == 1
    assert page.evaluate("outcome.rollouts.evaluation('USE_FUND_STORE').reason") == "emergency_stop"
