"""Orchestrators and on-call engineers read true probes, request ids and log lines."""

import json
import re
import subprocess
import sys
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext

import fundapi
from fundapi.web.health import rollout_state
from fundapi.web.readiness import readiness
from rollout import operations
from rollout.models import Rollout, Watch
from tests.answers import assert_problem
from tests.canary import Judged
from tests.conftest import FUND, Api
from tests.eventually import eventually
from tests.obedience import CRASH, DEADLOCK, FAIL_AT_COMMIT
from tests.servers import PROJECT, Server

# --- Probes -------------------------------------------------------------------------------------------------


def test_health_says_what_the_runbook_reads(server: Server) -> None:
    Rollout.objects.update(percentage=0)  # of other tests
    response = httpx.get(f"{server.url}/health")
    assert response.status_code == 200
    health = response.json()
    assert set(health) == {"status", "store_type", "environment", "version", "commit", "checks"}
    assert health["status"] == "ok"
    assert health["store_type"] in {"fund-store", "legacy"}
    assert health["environment"] == "test"
    assert health["version"] == fundapi.__version__
    assert health["checks"] == {"database": "ok", "valkey": "ok", "judge": "idle"}


def test_health_names_a_judge_that_is_late_from_the_stage_s_first_minutes_on(traffic: Judged) -> None:
    """A late judge is no reason to take the process away: funds are created as ever."""

    def health() -> tuple[int, str, str]:
        answer = canary.http.get("/health")
        return answer.status_code, answer.json()["status"], answer.json()["checks"]["judge"]

    canary = traffic("0")
    assert health() == (200, "ok", "idle")
    operations.set_percentage(canary.feature, Decimal(10), reason="x")
    assert health() == (200, "ok", "ok")
    Rollout.objects.filter(pk=canary.pk).update(stage_started_at=Now() - timedelta(minutes=4))
    assert health() == (200, "degraded", "late")
    canary.check_now()
    assert health() == (200, "ok", "ok")
    Watch.objects.filter(rollout=canary.pk).update(checked_at=Now() - timedelta(minutes=4))
    assert health() == (200, "degraded", "late")
    operations.set_percentage(canary.feature, Decimal(100), reason="x")
    operations.complete(canary.feature, reason="x")
    Rollout.objects.filter(pk=canary.pk).update(stage_started_at=Now() - timedelta(days=1))
    assert health() == (200, "ok", "idle")


def test_health_asks_the_database_little(database: None) -> None:
    with CaptureQueriesContext(connection) as captured:
        assert readiness().ready
        rollout_state()
    assert len(captured) <= 3


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz"])
def test_probes_are_open_never_cached_and_have_a_request_id(server: Server, path: str) -> None:
    response = httpx.get(server.url + path)
    assert response.status_code == 200
    assert "no-store" in response.headers["Cache-Control"]
    assert response.headers["X-Request-ID"]


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes_of_orchestrators_say_ok(server: Server, path: str) -> None:
    assert httpx.get(server.url + path).text == "ok"


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz", "/metrics"])
def test_a_prober_may_ask_with_head(server: Server, path: str) -> None:
    response = httpx.head(server.url + path)
    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz", "/metrics", "/api/problems/not_found"])
@pytest.mark.parametrize("method", ["POST", "DELETE", "TRACE", "BREW"])
def test_there_is_nothing_to_change_at_a_probe(server: Server, method: str, path: str) -> None:
    response = httpx.request(method, server.url + path)
    assert (response.status_code, response.headers["Allow"]) == (405, "GET, HEAD")


# --- Request ids --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_id", ["12345678", "a" * 128, "9f86d081-884c-4d63-a159-b1ad3c7a2f2d", "A.b_c:d-1"]
)
def test_a_readable_request_id_is_taken_over(server: Server, request_id: str) -> None:
    response = httpx.get(f"{server.url}/livez", headers={"X-Request-ID": request_id})
    assert response.headers["X-Request-ID"] == request_id


@pytest.mark.parametrize(
    "request_id", ["", "short", "a" * 129, "with blank inside", '{"json": 1}', "ünïcödé-id", "a;b;c;d;e;f"]
)
def test_any_other_request_id_is_replaced(server: Server, request_id: str) -> None:
    response = httpx.get(f"{server.url}/livez", headers=[(b"X-Request-ID", request_id.encode())])
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["X-Request-ID"])


def test_errors_carry_the_request_id_too(api: Api, obedience: None) -> None:
    request_id = uuid.uuid4().hex
    response = api.create(body=FUND | {"name": CRASH}, **{"X-Request-ID": request_id})
    assert response.status_code == 500
    assert response.headers["X-Request-ID"] == request_id


# --- Log lines ----------------------------------------------------------------------------------------------


def lines_of(server: Server, request_id: str) -> list[dict[str, Any]]:
    """The lines of a request, the one that closes it included."""

    def read() -> list[dict[str, Any]]:
        found = [json.loads(line) for line in server.log.splitlines() if request_id in line]
        return found if any(line["event"] == "request" for line in found) else []

    found: list[dict[str, Any]] = eventually(read)
    return found


def line_of(server: Server, request_id: str) -> dict[str, Any]:
    (line,) = (line for line in lines_of(server, request_id) if line["event"] == "request")
    return line


ENDS: dict[str, tuple[dict[str, Any], int, str]] = {
    "created": ({"json": FUND}, 201, "created"),
    "rejected": ({"content": b"{"}, 400, "rejected"),
    "failed": ({"json": {"size": 1}}, 400, "failed"),
    "crashed": ({"json": FUND | {"name": CRASH}}, 500, "failed"),
}


@pytest.mark.parametrize(("options", "status", "outcome"), ENDS.values(), ids=ENDS.keys())
def test_each_request_has_one_line_with_who_what_and_how_it_ended(
    api: Api, server: Server, user: User, obedience: None, options: dict[str, Any], status: int, outcome: str
) -> None:
    request_id = uuid.uuid4().hex
    headers = {"X-Request-ID": request_id, "Idempotency-Key": "k", "Content-Type": "application/json"}
    assert api.post("/api/funds", **options, headers=headers).status_code == status
    line = line_of(server, request_id)
    assert {
        "request_id": request_id,
        "user_id": user.pk,
        "operation": "fund-create",
        "outcome": outcome,
        "method": "POST",
        "path": "/api/funds",
        "status": status,
        "level": "info",
        "logger": "fundapi.request",
    }.items() <= line.items()
    assert line["duration_ms"] > 0
    assert datetime.fromisoformat(line["timestamp"]).utcoffset() is not None


@pytest.mark.parametrize("second", [FUND, FUND | {"size": 1}])
def test_a_retry_has_its_own_line_and_outcome(api: Api, server: Server, key: str, second: Any) -> None:
    request_id = uuid.uuid4().hex
    api.create(key)
    api.create(key, second, **{"X-Request-ID": request_id})
    assert line_of(server, request_id)["outcome"] == ("replayed" if second == FUND else "key_reused")


def test_a_request_of_nobody_has_no_user_and_no_operation(server: Server) -> None:
    request_id = uuid.uuid4().hex
    httpx.post(f"{server.url}/api/funds", json=FUND, headers={"X-Request-ID": request_id})
    line = line_of(server, request_id)
    assert (line["status"], line["user_id"], line["operation"], line["outcome"]) == (401, None, None, None)


def test_nothing_of_one_request_sticks_to_the_next(api: Api, server: Server) -> None:
    """Threads are reused: what one request bound to its lines must not name the next one's user."""
    for _ in range(16):
        api.create()
    for _ in range(16):
        request_id = uuid.uuid4().hex
        httpx.get(f"{server.url}/livez", headers={"X-Request-ID": request_id})
        assert line_of(server, request_id)["user_id"] is None


def test_a_session_is_logged_with_its_user(server: Server, user: User) -> None:
    signed_in = Client()
    signed_in.force_login(user)
    request_id = uuid.uuid4().hex
    cookies = {"sessionid": signed_in.cookies["sessionid"].value}
    with httpx.Client(base_url=server.url, cookies=cookies) as browser:
        assert browser.get("/api/funds", headers={"X-Request-ID": request_id}).status_code == 200
    assert line_of(server, request_id)["user_id"] == user.pk
    assert cookies["sessionid"] not in server.log


@pytest.mark.parametrize("order", [CRASH, DEADLOCK, FAIL_AT_COMMIT])
def test_a_crash_is_logged_with_its_trace_and_no_secret(
    api: Api, server: Server, obedience: None, order: str
) -> None:
    request_id, secret = uuid.uuid4().hex, uuid.uuid4().hex
    token = api.headers["Authorization"].split()[1]
    body = FUND | {"name": f"{order} name-{secret}", "modelVersion": f"version-{secret}",
                   "engineResults": {f"key-{secret}": f"value-{secret}"}}  # fmt: skip
    assert api.create(f"idem-{secret}", body, **{"X-Request-ID": request_id}).status_code >= 500
    lines = lines_of(server, request_id)
    assert any("exception" in line for line in lines)
    frames = [frame for line in lines for error in line.get("exception", []) for frame in error["frames"]]
    assert any("/django/db/" in frame["filename"] for frame in frames)
    assert "told to" in json.dumps(lines)  # what went wrong is there
    for private in (secret, token, "Bearer "):
        assert private not in server.log


def test_a_log_that_cannot_be_written_stops_nobody() -> None:
    """A full disk under stderr, a collector that has gone away."""
    program = """
import structlog
from fundapi.web.logs import logging_config
logging_config(level="INFO", json=True)
logger = structlog.get_logger("fundapi.request")
for _ in range(3):
    logger.info("request")
    logger.error("failed")
print("answered", flush=True)
"""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=PROJECT, stdout=subprocess.PIPE, stderr=full, check=False
        )
    assert done.stdout == b"answered\n"


def test_a_strangers_bad_host_is_a_line_and_no_trace(server: Server) -> None:
    request_id = uuid.uuid4().hex
    headers = {"Host": "evil.example", "X-Request-ID": request_id}
    assert httpx.get(f"{server.url}/api/rollouts", headers=headers).status_code == 400
    lines = lines_of(server, request_id)
    assert "django.security.DisallowedHost" in {line["logger"] for line in lines}
    assert not any("exception" in line for line in lines)


@pytest.mark.parametrize("path", ["/api/funds", "/api/nothing"])
def test_no_token_key_body_or_query_is_ever_logged(
    server: Server, make_user: Callable[..., User], path: str
) -> None:
    secret = uuid.uuid4().hex
    with Api(server, make_user()) as api:
        token = api.headers["Authorization"].split()[1]
        for body in (FUND | {"name": secret}, FUND | {secret: 1}, FUND | {"size": secret}, [secret]):
            request_id = uuid.uuid4().hex
            headers = {"Idempotency-Key": f"k-{secret}", "X-Request-ID": request_id}
            api.post(f"{path}?q={secret}", json=body, headers=headers)
            line_of(server, request_id)
        api.post(path, json=FUND, headers={"Idempotency-Key": f"not a key {secret}"})
        assert secret not in server.log
        assert token not in server.log


def test_every_line_of_the_application_is_json(api: Api, server: Server, obedience: None) -> None:
    api.create()
    api.create(body=FUND | {"name": CRASH})
    lines = [line for line in server.log.splitlines() if not re.match(r"\[(INFO|WARNING|ERROR)\]", line)]
    for line in lines:
        assert isinstance(json.loads(line), dict), line


def test_a_line_cannot_be_forged_by_an_address(server: Server) -> None:
    request_id = uuid.uuid4().hex
    response = httpx.get(
        f'{server.url}/api/x%0a{{"event":"forged-{request_id}"}}', headers={"X-Request-ID": request_id}
    )
    assert_problem(response, 404, "not_found")
    line_of(server, request_id)
    assert not any(line.startswith('{"event":"forged') for line in server.log.splitlines())


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/metrics"])
def test_a_probe_may_ask_by_address(server: Server, path: str) -> None:
    """As Kubernetes and Prometheus do; pages of the site are asked by name."""
    asked = {"Host": "10.1.2.3:8000"}
    assert httpx.get(server.url + path, headers=asked, timeout=30).status_code == 200
    assert httpx.get(f"{server.url}/signin", headers=asked, timeout=30).status_code == 400
