"""Each kind of answer carries the right headers for browsers, behind a proxy that ends TLS."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from http.cookies import Morsel, SimpleCookie
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User

from fundapi.models import Fund
from tests.answers import assert_problem
from tests.conftest import FUND, ORIGIN, Api, token_of
from tests.servers import PROJECT, Server, running_server

PASSWORD = "correct horse battery staple"
TLS = {"X-Forwarded-Proto": "https"}
STRICT = {
    "default-src": {"'none'"},
    **{f"{kind}-src": {"'self'"} for kind in ("script", "style", "img", "font", "connect")},
    "form-action": {"'self'"},
    **{name: {"'none'"} for name in ("base-uri", "frame-ancestors", "object-src")},
}


@pytest.fixture(scope="module")
def behind_tls(database: None) -> Iterator[Server]:
    other: dict[str, Any] = {"CORS_ALLOWED_ORIGINS": ORIGIN, "CORS_EXTRA_HEADERS": "X-App-Version"}
    with running_server(workers=1, HTTPS="on", **other) as server:
        yield server


def policy_of(answer: httpx.Response) -> dict[str, set[str]]:
    parts = (part.split() for part in answer.headers["Content-Security-Policy"].split(";"))
    return {name: {*sources} for name, *sources in parts}


def cookie_of(answer: httpx.Response, name: str) -> Morsel[str]:
    return SimpleCookie("\n".join(answer.headers.get_list("Set-Cookie")))[name]


@pytest.mark.parametrize(
    ("path", "wider"),
    [
        ("/signin", {}),
        ("/admin/login/", {"script-src": {"'self'", "'unsafe-eval'"}, "style-src-attr": {"'unsafe-inline'"}}),
        ("/api/docs", {"img-src": {"'self'", "data:"}}),
        ("/nowhere", {}),
    ],
)
def test_a_page_may_do_what_it_needs(behind_tls: Server, path: str, wider: dict[str, set[str]]) -> None:
    answer = httpx.get(behind_tls.url + path, headers=TLS, timeout=30)
    assert policy_of(answer) == STRICT | wider
    assert "camera=()" in answer.headers["Permissions-Policy"]
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains; preload"
    assert answer.headers["Referrer-Policy"] == answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_what_is_no_page_may_do_nothing(behind_tls: Server, user: User, key: str) -> None:
    with Api(behind_tls, user) as api:
        api.headers.update(TLS)
        answers = [
            *(api.create(key) for _ in ("created", "replayed")),
            *(
                api.create(key, "[]"),
                api.get("/api/funds"),
                api.get("/api/rollouts"),
                api.get("/api/nowhere"),
            ),
            *(api.get("/livez"), api.get("/metrics"), api.get("/static/rollout/rollout.js")),
        ]
    assert [answer.status_code for answer in answers] == [201, 200, 409, 200, 200, 404, 200, 200, 200]
    for answer in answers:
        assert policy_of(answer) == {"default-src": {"'none'"}, "frame-ancestors": {"'none'"}}
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_cookies_travel_by_https_alone(behind_tls: Server, make_user: Callable[..., User]) -> None:
    user, page = make_user(password=PASSWORD), f"{behind_tls.url}/signin"
    assert httpx.get(page).headers["Location"] == page.replace("http:", "https:")
    csrf = cookie_of(httpx.get(page, headers=TLS, timeout=30), "csrftoken")
    signed_in = httpx.post(
        page,
        headers=TLS | {"Cookie": f"csrftoken={csrf.value}", "Referer": page.replace("http:", "https:")},
        data={"username": user.username, "password": PASSWORD, "csrfmiddlewaretoken": csrf.value},
        timeout=30,
    )
    session = cookie_of(signed_in, "__Host-sessionid")
    assert (csrf["secure"], csrf["samesite"]) == (True, "Lax")
    assert (session["secure"], session["httponly"], session["samesite"]) == (True, True, "Lax")
    assert (session["path"], session["domain"]) == ("/", "")


def test_no_other_origin_is_let_in_unasked(behind_tls: Server) -> None:
    asked = {
        "Origin": "https://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    for answer in (
        httpx.options(f"{behind_tls.url}/api/funds", headers=TLS | asked),
        httpx.get(f"{behind_tls.url}/api/rollouts", headers=TLS | asked),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_other_origins_may_send_headers_of_tracing_and_those_of_the_setting(behind_tls: Server) -> None:
    asks = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    allowed = httpx.options(f"{behind_tls.url}/api/funds", headers=TLS | asks)
    names = set(allowed.headers["Access-Control-Allow-Headers"].split(", "))
    assert {"x-request-id", "traceparent", "tracestate", "baggage", "x-app-version"} <= names
    answer = httpx.get(f"{behind_tls.url}/api/rollouts", headers=TLS | {"Origin": ORIGIN})
    exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
    assert {"Date", "Retry-After", "X-Request-ID"} <= set(exposed)
    page = (PROJECT / "docs/how-to/frontend.md").read_text()
    assert [name for name in exposed if f"`{name}`" not in page] == []


def test_other_origins_can_read_why_plain_http_was_refused(behind_tls: Server) -> None:
    """The preflight is answered, not redirected: else a browser would report that nobody can be reached."""
    asks = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    preflight = httpx.options(f"{behind_tls.url}/api/funds", headers=asks)
    refused = httpx.post(f"{behind_tls.url}/api/funds", headers={"Origin": ORIGIN}, json={})
    assert preflight.status_code == 200
    for answer in (preflight, refused):
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "ANYTHING"])
@pytest.mark.parametrize(
    "path",
    ["/api/funds", "/api/telemetry", "/api/nowhere", "/ofrep/v1/evaluate/flags", "/signin", "/admin/login/"],
)
def test_what_changes_something_is_refused_by_plain_http_and_not_redirected(
    behind_tls: Server, user: User, method: str, path: str
) -> None:
    """A client that follows a redirect sends a GET, and takes its 200 for success."""
    with Api(behind_tls, user, follow_redirects=True) as api:
        answer = api.request(method, path, json=FUND, headers={"Idempotency-Key": "k", "Origin": ORIGIN})
    assert (answer.status_code, answer.history) == (403, [])
    assert not Fund.objects.filter(owner=user).exists()
    if path.startswith("/api"):
        assert_problem(answer, 403, "https_required")
    if path.startswith("/ofrep"):
        assert answer.json()["errorCode"] == "GENERAL"
    assert "https" in answer.text
    # A script of another origin can read why.
    shown = path.startswith(("/api", "/ofrep"))
    assert answer.headers.get("Access-Control-Allow-Origin") == (ORIGIN if shown else None)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl: apt-get install curl")
def test_curl_that_follows_redirects_sees_the_refusal_as_well(behind_tls: Server, user: User) -> None:
    sent = ["-H", f"Authorization: Bearer {token_of(user)}", "-H", "Idempotency-Key: k", "-d", "{}"]
    command = ["curl", "-sL", "-w", "%{http_code}", *sent, f"{behind_tls.url}/api/funds"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.endswith("403")
    assert "https_required" in said


def test_what_reads_is_redirected_and_preflights_are_answered(behind_tls: Server) -> None:
    for path in ("/fund-setup", "/admin/", "/api/rollouts"):
        answer = httpx.get(behind_tls.url + path)
        assert (answer.status_code, answer.headers["Location"]) == (
            301,
            f"https://127.0.0.1:{behind_tls.port}{path}",
        )
    asks = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    answer = httpx.options(f"{behind_tls.url}/api/funds", headers=asks)
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, ORIGIN)


def test_no_address_of_the_api_redirects_what_is_sent_to_it(behind_tls: Server, user: User) -> None:
    """Not to the spelling with a slash either, or without."""
    with Api(behind_tls, user) as api:
        for path in (
            "/api",
            "/api/",
            "/api/funds/",
            "//api/funds",
            "/api//funds",
            "/api/funds/1/",
            "/api/schema/",
        ):
            for path_here in (path, path.replace("api", "ofrep")):
                assert api.post(path_here, json=FUND, headers=TLS).status_code in {404, 405}
        assert api.post("/ofrep/v1/evaluate/flags/", json={}, headers=TLS).status_code >= 400
