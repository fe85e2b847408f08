"""A page of another origin, in a real browser: it may send what it needs, and read every answer."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Page

from tests.conftest import FUND, token_of
from tests.servers import PROJECT, Server, running_server

TRACING = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=1",
    "baggage": "user=1",
    "X-Request-ID": "request-of-the-page",
}
POST = """async ([url, headers, body]) => {
    const answer = await fetch(url, {method: "POST", headers, body, credentials: "omit"});
    return [answer.status, Object.fromEntries(answer.headers), await answer.json()];
}"""
CREATE = """async ([url, headers, token, fund]) => {
    const { createClient } = await import("/idempotency/client.js");
    const funds = createClient({ environment: "dev", operation: "fund-create", token, headers });
    const answers = [];
    for (const _ of ["created", "replayed"]) answers.push(await funds.post(url, fund, { key: "from-elsewhere" }));
    return answers.map(({ status, body }) => [status, body.id]);
}"""
CREATES_MAX = 6  # of a user in a minute


class Site(SimpleHTTPRequestHandler):
    """The modules, copied to another origin as docs/how-to/frontend.md says; its start page is the listing."""

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    handler = partial(Site, directory=str(PROJECT / "idempotency" / "static"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{site.server_port}"
        site.shutdown()


@pytest.fixture(scope="module")
def elsewhere(database: None, origin: str) -> Iterator[Server]:
    limited: dict[str, Any] = {"CORS_ALLOWED_ORIGINS": origin, "FUND_CREATE_RATE": f"{CREATES_MAX}/minute"}
    with running_server(workers=1, ENVIRONMENT="dev", **limited) as server:
        yield server


@pytest.fixture
def foreign(browser: Browser, origin: str) -> Iterator[Page]:
    page = browser.new_page()
    page.goto(origin)
    yield page
    page.close()


def headers(user: User, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token_of(user)}", "Content-Type": "application/json", **more}


def test_a_page_elsewhere_sends_tracing_headers_and_reads_the_answer_s(
    foreign: Page, elsewhere: Server, user: User, key: str
) -> None:
    sent = headers(user, **TRACING, **{"Idempotency-Key": key, "Prefer": "wait=2", "X-CSRFToken": "x"})
    body = '{"name": "Harbor Growth I", "size": 1}'
    first, again = (foreign.evaluate(POST, [f"{elsewhere.url}/api/funds", sent, body]) for _ in range(2))
    assert (first[0], again[0]) == (201, 200)
    for (_, got, fund), status in ((first, "created"), (again, "replayed")):
        assert got["idempotency-status"] == status
        assert got["idempotency-key"] == key
        assert got["location"] == f"/api/funds/{fund['id']}"
        assert got["x-request-id"] == TRACING["X-Request-ID"]
        assert got["date"].endswith("GMT")


def test_a_page_elsewhere_reads_why_it_was_refused(foreign: Page, elsewhere: Server, user: User) -> None:
    def refused(path: str, body: str = "{}", **more: str) -> tuple[int, str]:
        status, got, problem = foreign.evaluate(POST, [elsewhere.url + path, headers(user, **more), body])
        assert got["x-request-id"]
        return status, problem["code"]

    assert refused("/api/funds") == (400, "idempotency_key_missing")
    assert refused("/api/funds", Authorization="Bearer x") == (401, "authentication_failed")
    assert refused("/api/nowhere") == (404, "not_found")
    assert refused("/api/rollouts") == (405, "method_not_allowed")
    assert refused("/api/funds", "x" * 300_000) == (413, "body_too_large")


def test_a_page_elsewhere_reads_when_to_come_back(foreign: Page, elsewhere: Server, user: User) -> None:
    sent = headers(user, **{"Idempotency-Key": "-"})
    for _ in range(CREATES_MAX):
        foreign.evaluate(POST, [f"{elsewhere.url}/api/funds", sent, "{}"])
    status, got, problem = foreign.evaluate(POST, [f"{elsewhere.url}/api/funds", sent, "{}"])
    assert (status, problem["code"]) == (429, "throttled")
    assert 0 < int(got["retry-after"]) <= 60


def test_the_module_creates_once_from_elsewhere(foreign: Page, elsewhere: Server, user: User) -> None:
    answers = foreign.evaluate(CREATE, [f"{elsewhere.url}/api/funds", TRACING, token_of(user), FUND])
    (created, fund), (replayed, same) = answers
    assert (created, replayed, same) == ("created", "replayed", fund)
