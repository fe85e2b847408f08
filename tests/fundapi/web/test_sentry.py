"""Sentry, seen from its envelope endpoint: it gets the errors of the log, and nothing secret."""

import gzip
import json
import secrets
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import brotli  # type: ignore[import-untyped]  # has no types
import httpx
import pytest
from django.contrib.auth.models import User

from manage import NOWHERE
from tests.conftest import Api
from tests.eventually import eventually
from tests.servers import PROJECT, celery, running_server

KEY = "0123456789abcdef0123456789abcdef"
# The SDK prefers the second where it is installed.
UNPACK = {"gzip": gzip.decompress, "br": brotli.decompress}


class Project:
    """A project of Sentry: the events that it has received, and all bytes."""

    def __init__(self, port: int) -> None:
        self.dsn = f"http://{KEY}@127.0.0.1:{port}/7"
        self.events: list[dict[str, Any]] = []
        self.received = bytearray()

    def receive(self, envelope: bytes) -> None:
        """Read an envelope: a line of headers, then for each item its headers, with a length, and its bytes."""
        self.received += envelope
        headers, _, rest = envelope.partition(b"\n")
        json.loads(headers)
        while rest:
            header, _, rest = rest.partition(b"\n")
            item = json.loads(header)
            payload, rest = rest[: item["length"]], rest[item["length"] :].removeprefix(b"\n")
            if item["type"] == "event":
                self.events.append(json.loads(payload))


@contextmanager
def project() -> Iterator[Project]:
    """Serve the envelope endpoint of a project until the context ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            body = UNPACK[self.headers["Content-Encoding"]](body)
            known = self.path == "/api/7/envelope/" and f"sentry_key={KEY}" in self.headers["X-Sentry-Auth"]
            if known:
                found.receive(body)
            self.send_response(200 if known else 403)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Project(server.server_port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()


@pytest.fixture
def sentry() -> Iterator[Project]:
    with project() as found:
        yield found


def test_a_bug_in_a_view_arrives_once_with_its_request_id_and_nothing_secret(
    database: None, user: User, sentry: Project
) -> None:
    env: dict[str, Any] = {
        "DJANGO_SETTINGS_MODULE": "tests.reliability.lab_settings",
        "SENTRY_DSN": sentry.dsn,
        "ENVIRONMENT": "staging",
        "COMMIT": "a" * 40,
    }
    name, key = f"Zebra {uuid.uuid4()}", secrets.token_hex(16)
    with running_server(workers=1, **env) as server, Api(server, user) as api:

        def post(**headers: str) -> httpx.Response:
            sent = {"Idempotency-Key": secrets.token_hex(8), "X-Body": "s3cr3t"} | headers
            return api.post("/api/lab/answers", params={"name": name, "status": "201"}, headers=sent)

        assert post().status_code == 201
        assert post(**{"Idempotency-Key": key, "X-Request-ID": "page-1234-5678"}).status_code == 500
        assert api.get("/api/funds", headers={"Host": "elsewhere.example"}).status_code == 400
        assert api.get("/api/nothing").status_code == 404
        eventually(lambda: sentry.events)
    [event] = sentry.events
    [*_, error] = event["exception"]["values"]
    assert error["type"] == "IntegrityError"
    assert error["value"].startswith("duplicate key value violates unique constraint")
    assert error["stacktrace"]["frames"][-1]["function"]
    assert event["tags"] == {"logger": "django.request", "request_id": "page-1234-5678"}
    assert event["contexts"]["log"]["event"] == "Internal Server Error: /api/lab/answers"
    assert (event["environment"], event["release"], event["level"]) == ("staging", "a" * 40, "error")
    token = api.headers["Authorization"].removeprefix("Bearer ")
    for secret in (name, name[6:], key, token, "s3cr3t", user.username):
        assert secret.encode() not in sentry.received, secret


LINES = """
import django
from fundapi.variables import name_settings
name_settings()
django.setup()
import logging, structlog
from fundapi.web import vitals
own, foreign = structlog.get_logger("fundapi.own"), logging.getLogger("rollout.foreign")
own.warning("no error")
foreign.warning("no error")
own.error("own", feature="USE_FUND_STORE")
foreign.error("foreign %s", "line", extra={"reason": "a reason"})
foreign.error("Service Unavailable: /api/funds", extra={"status_code": 503})
try:
    1 / 0
except ZeroDivisionError:
    own.exception("failed")
vitals.end("slots_hung", seconds=70.0)
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_each_error_of_the_log_arrives_whoever_writes_it(sentry: Project, form: str) -> None:
    """Also the last line of a process that ends at once."""
    run = subprocess.run(
        [sys.executable, "-c", LINES],
        cwd=PROJECT,
        env=dict(NOWHERE) | {"SENTRY_DSN": sentry.dsn, "LOG_FORMAT": form},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1, run.stderr
    said = [(event["level"], event["tags"]["logger"], event["contexts"]["log"]) for event in sentry.events]
    assert [(level, logger) for level, logger, _ in said] == [
        ("error", "fundapi.own"),
        ("error", "rollout.foreign"),
        ("error", "fundapi.own"),
        ("fatal", "fundapi.web.vitals"),
    ]
    assert said[0][2]["feature"] == "USE_FUND_STORE"
    assert (said[1][2]["event"], said[1][2]["reason"]) == ("foreign line", "a reason")
    assert sentry.events[2]["exception"]["values"][0]["type"] == "ZeroDivisionError"
    assert (said[3][2]["event"], said[3][2]["seconds"]) == ("slots_hung", 70.0)


def test_a_task_that_fails_arrives(sentry: Project, tmp_path: Path, database: None) -> None:
    env = {
        "SENTRY_DSN": sentry.dsn,
        "ENVIRONMENT": secrets.token_hex(4),
        "DATABASE_URL": NOWHERE["DATABASE_URL"],
    }
    worker = (
        "worker",
        "--beat",
        "--queues",
        "checks",
        "--concurrency",
        "1",
        "--without-gossip",
        "--without-mingle",
    )
    with celery(env, tmp_path / "worker.log", *worker, "--schedule", f"{tmp_path}/schedule"):
        eventually(lambda: sentry.events)
    logged = sentry.events[0]["contexts"]["log"]["event"]
    assert logged.startswith("Task rollout.check")
    assert sentry.events[0]["exception"]["values"][-1]["type"] == "OperationalError"


def test_a_sentry_that_is_silent_slows_nothing(database: None, user: User) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = f"http://{KEY}@127.0.0.1:{silent.getsockname()[1]}/7"
        env: dict[str, Any] = {"DJANGO_SETTINGS_MODULE": "tests.reliability.lab_settings", "SENTRY_DSN": dsn}
        with running_server(workers=1, **env) as server, Api(server, user) as api:
            started = time.monotonic()
            for _ in range(3):
                answer = api.post(
                    "/api/lab/raises",
                    params={"name": secrets.token_hex(8)},
                    headers={"Idempotency-Key": secrets.token_hex(8)},
                )
                assert answer.status_code == 500
            assert time.monotonic() - started < 5
            started = time.monotonic()
            server.stop()
            assert time.monotonic() - started < 10


def test_off_nothing_of_it_is_loaded_and_a_wrong_dsn_is_not_shown() -> None:
    code = "import sys, fundapi.wsgi; print('sentry_sdk' in sys.modules)"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=PROJECT, env=dict(NOWHERE), capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
    for wrong in ("s3cr3t", "https://sentry.example.com/7", "https://s3cr3t@sentry.example.com:99999/7"):
        serve = [sys.executable, "-m", "fundapi.web.serve"]
        env = dict(NOWHERE) | {"SENTRY_DSN": wrong}
        run = subprocess.run(serve, cwd=PROJECT, env=env, capture_output=True, text=True, check=False)
        [sentence] = run.stderr.splitlines()
        assert sentence.startswith("SENTRY_DSN, a secret that is not shown, should be the DSN of a project")
        assert "s3cr3t" not in sentence
