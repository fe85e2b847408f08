"""OpenTelemetry, seen from a collector: one trace from the browser to COMMIT and the log line."""

import json
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from benchmarks.servers import free_port
from manage import NOWHERE
from tests.collector import QUICKLY, Collector, attributes, collecting
from tests.conftest import Api
from tests.eventually import eventually
from tests.servers import PROJECT, celery, manage, running_server

REQUEST_ID = "page-1234-5678"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def browser(flags: str = "01") -> tuple[str, str, dict[str, str]]:
    """Return a trace id, the id of a browser's span, and the headers that its OpenTelemetry adds to a request."""
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    return trace_id, span_id, {"traceparent": f"00-{trace_id}-{span_id}-{flags}", "X-Request-ID": REQUEST_ID}


def lines(text: str, event: str = "request") -> list[dict[str, Any]]:
    """Return the lines of a log with an event."""
    found = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [line for line in found if line["event"] == event]


def test_one_trace_leads_from_the_browser_to_commit_and_to_the_log_line(
    database: None, user: User, collector: Collector
) -> None:
    """With the SDK's own intervals, so that all of it is what a stopping process still sends."""
    trace_id, span_id, headers = browser()
    replay_id, _, replay_headers = browser()
    key = secrets.token_hex(16)
    with (
        running_server(workers=2, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as server,
        Api(server, user) as api,
    ):
        fund = {"name": "Zebra fund", "size": 17}
        created = api.create(key, fund, **headers)
        replayed = api.create(key, fund, **replay_headers)
        answers = [created.headers["Idempotency-Status"], replayed.headers["Idempotency-Status"]]
        assert answers == ["created", "replayed"]
        assert created.headers["X-Request-ID"] == REQUEST_ID
        assert api.get("/api/nothing?token=s3cr3t").status_code == 404
        log = server.log
    spans = collector.trace(trace_id)
    request = spans["POST api/funds"]
    assert request.kind == Span.SPAN_KIND_SERVER
    assert request.parent_span_id.hex() == span_id
    assert collector.parents(spans["idempotency.claim"]) == [request.name]
    assert collector.parents(spans["INSERT"]) == [request.name]
    assert collector.parents(spans["BEGIN"]) == ["idempotency.claim", request.name]
    assert collector.parents(spans["COMMIT"]) == ["idempotency.save", request.name]
    in_order = [spans[name].start_time_unix_nano for name in ("BEGIN", "INSERT", "COMMIT")]
    assert in_order == sorted(in_order)
    assert "EVALSHA" in spans  # of the throttle, in Valkey

    said = attributes(request)
    assert (said["http.route"], said["http.response.status_code"]) == ("api/funds", 201)
    assert (said["idempotency.operation"], said["idempotency.outcome"]) == ("fund-create", "created")
    assert said["http.response.header.x_request_id"].values[0].string_value == REQUEST_ID
    again = collector.trace(replay_id)
    assert attributes(again["POST api/funds"])["idempotency.outcome"] == "replayed"
    assert {"idempotency.claim", "INSERT", "COMMIT"}.isdisjoint(again)

    [line, _] = [each for each in lines(log) if each["path"] == "/api/funds"]
    assert (line["trace_id"], line["span_id"]) == (trace_id, request.span_id.hex())
    assert line["request_id"] == REQUEST_ID

    assert collector.services == {"fundapi"}
    assert collector.metrics >= {"http.server.request.duration", "db.client.operation.duration"}
    token = api.headers["Authorization"].removeprefix("Bearer ")
    for secret in (key, token, "Zebra fund", "s3cr3t", user.username, "Authorization"):
        assert secret.encode() not in collector.received


def test_a_request_is_answered_as_without_tracing(database: None, user: User, collector: Collector) -> None:
    """Also one that errs, that no host of ours gets, that is no trace's, or whose trace nobody wants to see."""
    unwanted, _, unwanted_headers = browser("00")
    all_headers: dict[str, Any] = {"OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST": ".*"}
    with running_server(workers=1, **collector.env, **all_headers) as server, Api(server, user) as api:
        refused = api.get("/api/funds", headers={"Host": "elsewhere.example"})
        assert (refused.status_code, refused.json()["code"]) == (400, "bad_request")
        assert "X-Request-ID" in refused.headers
        wrong = {"traceparent": "00-zz-zz-01", "baggage": f"wrong{'x' * 9000}", "X-API-Key": "of-a-provider"}
        assert api.get("/api/funds", headers=wrong).status_code == 200
        assert api.get("/api/funds", headers=unwanted_headers).status_code == 200
        for path in ("/livez", "/readyz", "/health", "/metrics", "/static/rollout/rollout.js"):
            assert httpx.get(server.url + path).status_code == 200
        assert api.create(body={"name": "x" * 300, "size": 1}).status_code == 400
        eventually(lambda: "POST api/funds" in {span.name for span in collector.spans})
        log = server.log
    assert collector.trace(unwanted) == {}
    assert "wrongx" not in log
    assert lines(log)[-1]["trace_id"]
    unsampled = [line for line in lines(log) if line.get("trace_id") == unwanted]
    assert [line["status"] for line in unsampled] == [200]
    # Statements of probes and threads are no traces of their own.
    roots = {span.name for span in collector.spans if not span.parent_span_id}
    assert roots == {"GET api/funds", "POST api/funds"}
    assert b"elsewhere.example" not in collector.received
    token = api.headers["Authorization"].removeprefix("Bearer ")
    assert b"[REDACTED]" in collector.received
    assert token.encode() not in collector.received
    assert b"of-a-provider" not in collector.received


def test_an_error_of_the_database_is_sent_without_the_row(collector: Collector, tmp_path: Path) -> None:
    """To a service whose key is in a file."""
    (tmp_path / "headers").write_text("api-key=s3cr3t\n")
    run = subprocess.run(
        [sys.executable, "-c", FAILING],
        cwd=PROJECT,
        env=dict(NOWHERE) | collector.env | {"OTEL_EXPORTER_OTLP_HEADERS_FILE": f"{tmp_path / 'headers'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    [span] = collector.spans
    [event] = span.events
    said = {each.key: each.value.string_value for each in event.attributes}
    assert said["exception.message"] == "duplicate key"
    assert "duplicate key" in span.status.message
    assert "exception.stacktrace" not in said
    assert b"Zebra" not in collector.received
    assert collector.keys == {"s3cr3t"}


FAILING = """
import psycopg
from fundapi.variables import name_settings
name_settings()
from fundapi.web import tracing
from opentelemetry import trace
stop = tracing.start()
try:
    with trace.get_tracer("x").start_as_current_span("x"):
        raise psycopg.Error("duplicate key\\nDETAIL:  Failing row contains (Zebra,\\nfund).")
except psycopg.Error:
    stop()
"""


@pytest.mark.parametrize("collector_is", ["refusing", "silent", "failing"])
def test_a_collector_that_is_away_slows_nothing_and_is_one_line(
    database: None, user: User, collector_is: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, collecting(status=400) as failing:
        url = {
            "refusing": f"http://127.0.0.1:{free_port()}",
            "silent": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "failing": failing.url,
        }[collector_is]
        env: dict[str, Any] = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
            **QUICKLY,
        }
        with (
            running_server(
                workers=1, OTEL_BSP_MAX_QUEUE_SIZE="10", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="5", **env
            ) as server,
            Api(server, user) as api,
        ):
            api.create()
            eventually(lambda: lines(server.log, "opentelemetry_not_sent"))
            started = time.monotonic()
            assert [api.create().status_code for _ in range(5)] == [201] * 5
            assert time.monotonic() - started < 5
            time.sleep(0.5)
            started = time.monotonic()
            server.stop()
            assert time.monotonic() - started < 10  # s; 2 of them for the collector
            [line] = lines(server.log, "opentelemetry_not_sent")
            said = [each for each in server.log.splitlines() if "opentelemetry" in each or "xport" in each]
        assert line["level"] == "warning"
        assert line["reason"]
        assert len(said) == 1, said


def test_a_collector_that_takes_no_metrics_is_one_line(database: None, user: User) -> None:
    with collecting() as taking, collecting(status=404) as refusing:
        env = taking.env | {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{refusing.url}/v1/metrics"}
        with running_server(workers=1, **env) as server, Api(server, user) as api:
            for _ in range(3):
                before = len(taking.spans)
                assert api.get("/api/funds").status_code == 200
                eventually(lambda before=before: len(taking.spans) > before)  # type: ignore[misc]  # of the default
                time.sleep(0.4)  # s; metrics are refused again meanwhile
            [line] = lines(server.log, "opentelemetry_not_sent")
            assert line["what"] == "metrics"
            assert not lines(server.log, "opentelemetry_sent_again")


def test_a_collector_that_comes_back_is_one_more_line(database: None, user: User) -> None:
    with collecting() as gone:
        port = int(gone.url.rpartition(":")[2])
    env: dict[str, Any] = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": gone.url,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        **QUICKLY,
    }
    with running_server(workers=1, **env) as server, Api(server, user) as api:
        api.get("/api/funds")
        eventually(lambda: lines(server.log, "opentelemetry_not_sent"))
        with collecting(port=port) as collector:
            api.get("/api/funds")
            eventually(lambda: lines(server.log, "opentelemetry_sent_again"))
            eventually(lambda: collector.spans)


def test_a_task_is_in_the_trace_of_whoever_sent_it(
    database: None, collector: Collector, tmp_path: Path
) -> None:
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "ENVIRONMENT": secrets.token_hex(4),
        "LOG_FORMAT": "json",
    }
    worker_log, beat_log = tmp_path / "worker.log", tmp_path / "beat.log"
    worker = ("worker", "--queues", "checks", "--concurrency", "1", "--without-gossip", "--without-mingle")
    with (
        celery(env, worker_log, *worker),
        celery(env, beat_log, "beat", "--schedule", str(tmp_path / "schedule")),
    ):
        eventually(lambda: "succeeded" in worker_log.read_text())
    by_name = {span.name: span for span in collector.spans}
    sent, run = by_name["apply_async/rollout.check"], by_name["run/rollout.check"]
    assert (sent.kind, run.kind) == (Span.SPAN_KIND_PRODUCER, Span.SPAN_KIND_CONSUMER)
    assert run.trace_id == sent.trace_id
    assert run.parent_span_id == sent.span_id
    below = [span for span in collector.spans if collector.parents(span)[:1] == [run.name]]
    [first, *_] = [span for span in below if span.name == "SELECT"]
    assert "db.query.text" in attributes(first)  # today's name, as in the web
    [line] = [each for each in worker_log.read_text().splitlines() if "succeeded" in each]
    assert json.loads(line)["trace_id"] == run.trace_id.hex()
    assert collector.metrics >= {"flower.task.runtime.seconds", "db.client.operation.duration"}


SENDING = """
import fundapi.celery, kombu.exceptions
from fundapi.web import tracing
from opentelemetry import trace
stop = tracing.start()
for name in ("no.such.task", "rollout.check"):
    try:
        fundapi.celery.app.send_task(name, retry=False)
    except kombu.exceptions.OperationalError:
        pass
print(trace.get_current_span().get_span_context().is_valid)
stop()
"""


def test_a_task_that_cannot_be_sent_leaves_no_span_open(collector: Collector) -> None:
    run = subprocess.run(
        [sys.executable, "-c", SENDING],
        cwd=PROJECT,
        env=dict(NOWHERE) | collector.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout == "False\n", run.stderr
    assert {"apply_async/no.such.task", "apply_async/rollout.check"} <= {
        span.name for span in collector.spans
    }


@pytest.mark.parametrize(
    ("name", "value", "program"),
    [
        ("OTEL_METRIC_EXPORT_INTERVAL", "-1", ("-m", "fundapi.web.serve")),
        ("OTEL_PROPAGATORS", "pigeon", ("-m", "celery", "-A", "fundapi", "beat")),
    ],
)
def test_a_variable_that_the_sdk_refuses_is_one_sentence(
    name: str, value: str, program: tuple[str, ...]
) -> None:
    run = subprocess.run(
        [sys.executable, *program],
        cwd=PROJECT,
        env=dict(NOWHERE) | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", name: value},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode != 0
    [sentence] = run.stderr.splitlines()
    assert sentence.startswith("A variable OTEL_... is wrong: ")
    assert value in sentence


def test_without_its_packages_it_is_one_sentence_and_off_none_is_needed(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['opentelemetry'] = None\n")
    env = dict(NOWHERE) | {"PYTHONPATH": f"{tmp_path}"}
    on = env | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "fundapi.web.serve"]
    run = subprocess.run(command, cwd=PROJECT, env=on, capture_output=True, text=True, check=False)
    assert run.stderr.startswith("OTEL_EXPORTER_OTLP_ENDPOINT is set, and opentelemetry")
    assert run.stderr.endswith("is missing: install requirements/image.txt.\n")
    for code in ("import fundapi.wsgi", "import fundapi.celery"):
        subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=env, check=True)
    assert manage("check", PYTHONPATH=f"{tmp_path}").returncode == 0


def test_off_switches_are_obeyed() -> None:
    for off in (
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"},
    ):
        run = subprocess.run(
            [sys.executable, "-c", "import sys, fundapi.wsgi; print('opentelemetry' in sys.modules)"],
            cwd=PROJECT,
            env=dict(NOWHERE) | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", **off},
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout == "False\n"
