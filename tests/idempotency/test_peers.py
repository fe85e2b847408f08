"""The scenarios of the peers' own test suites, each by the name that it has there, and what this app answers.

Read in: django-idempotency-key 1.3.0 (``tests/tests``), idemkit 1.0.2 (``python/tests``, ``spec/conformance.yaml``),
Powertools for AWS Lambda 3.37 (``tests/functional/idempotency``, ``tests/e2e/idempotency``). drf-idempotency 1.0.0 and
drf-idempotencykey 0.2.0 ship no tests: theirs are from the README. Stripe's are from its API reference.
"""

import re
import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings

from idempotency import idempotent, once
from idempotency.marks import marks
from idempotency.middleware import IdempotencyMiddleware
from idempotency.models import IdempotencyKey
from idempotency.testing import in_progress
from tests.servers import PROJECT

pytestmark = pytest.mark.usefixtures("database")

JSON, FORM, TEXT = "application/json", "application/x-www-form-urlencoded", "text/plain"
PEERS = {
    "django-idempotency-key",
    "drf-idempotency",
    "drf-idempotencykey",
    "idemkit",
    "Powertools",
    "Stripe",
}


@pytest.fixture(autouse=True)
def no_marks_left() -> Iterator[None]:
    """Forget the marks of a test: the system checks of other tests would refuse them."""
    before = set(marks)
    yield
    marks.intersection_update(before)


@dataclass(frozen=True)
class Sent:
    """A request. The view answers with ``status``, or raises where it is 0."""

    body: bytes = b'{"amount": 1}'
    kind: str = JSON
    method: str = "POST"
    path: str = "/pay"
    # ``KEY`` is the scenario's own.
    headers: dict[str, str] = field(default_factory=lambda: {"Idempotency-Key": "KEY"})
    user: str = "ann"
    status: int = 201
    # Before it: the stored key expires, or another request with the key still runs.
    expired: bool = False
    running: bool = False


@dataclass(frozen=True)
class Scenario:
    sent: list[Sent]
    # The status of each answer, and how often the view ran.
    statuses: list[int]
    runs: int
    mark: dict[str, Any] | None = field(default_factory=dict)


def twice(first: Sent | None = None, **changes: Any) -> list[Sent]:
    """Return a request and the same one again, with changes."""
    first = first or Sent()
    return [first, Sent(**{**vars(first), **changes})]


NO_KEY: dict[str, Any] = {"headers": {}}
REPLAYED, CONFLICT = [201, 200], [201, 409]
SCENARIOS: dict[str, Scenario] = {
    # --- A key is needed, may be missing, is malformed
    "django-idempotency-key: test_get_exempt": Scenario([Sent(method="GET", **NO_KEY)], [201], 1),
    "django-idempotency-key: test_post_exempt": Scenario(twice(), [201, 201], 2, mark=None),
    "django-idempotency-key: test_bad_request_no_key_specified": Scenario([Sent(**NO_KEY)], [400], 0),
    "django-idempotency-key: test_post_optional": Scenario(
        [Sent(**NO_KEY), *twice()], [201, *REPLAYED], 2, {"required": False}
    ),
    "idemkit: test_missing_key_required_returns_400": Scenario([Sent(**NO_KEY)], [400], 0),
    "idemkit: test_drf_mixin_no_key_passes_through": Scenario(
        [Sent(**NO_KEY)], [201], 1, {"required": False}
    ),
    "idemkit: test_get_request_passes_through_without_idempotency": Scenario(
        twice(Sent(method="GET")), [201, 201], 2
    ),
    "idemkit: test_oversize_key_rejected_as_400": Scenario(
        [Sent(headers={"Idempotency-Key": "x" * 256})], [400], 0
    ),
    "idemkit: test_quoted_and_unquoted_key_dedupe_together": Scenario(
        twice(headers={"Idempotency-Key": '"KEY"'}), REPLAYED, 1
    ),
    "Powertools: test_raise_on_no_idempotency_key": Scenario([Sent(**NO_KEY)], [400], 0),
    "Powertools: test_default_no_raise_on_missing_idempotency_key": Scenario(
        twice(Sent(**NO_KEY)), [201, 201], 2, {"required": False}
    ),
    "Stripe: keys are up to 255 characters long": Scenario(
        [Sent(headers={"Idempotency-Key": "KEY" + "x" * 223})], [201], 1
    ),
    "drf-idempotency: MAX_KEY_LENGTH, and other characters": Scenario(
        [Sent(headers={"Idempotency-Key": "a b"})], [400], 0
    ),
    "django-idempotency-key: test_post_custom_header_pass": Scenario(
        twice(Sent(headers={"X-Request-Key": "KEY"})), REPLAYED, 1, {"header": "X-Request-Key"}
    ),
    "django-idempotency-key: test_post_custom_header_fail": Scenario(
        [Sent()], [400], 0, {"header": "X-Request-Key"}
    ),
    # --- A retry, and its status
    "django-idempotency-key: test_middleware_duplicate_request": Scenario(twice(), REPLAYED, 1),
    "django-idempotency-key: test_middleware_duplicate_request_use_original_status_code": Scenario(
        twice(), [201, 201], 1, {"replay_status": "original"}
    ),
    "django-idempotency-key: test_middleware_duplicate_request_use_different_status_code": Scenario(
        twice(), [201, 208], 1, {"replay_status": 208}
    ),
    "idemkit: test_duplicate_request_replays_handler_runs_once": Scenario(
        twice(), [201, 201], 1, {"replay_status": "original"}
    ),
    "idemkit: basic-replay": Scenario([Sent()] * 3, [201, 200, 200], 1),
    "drf-idempotencykey: the same request returns the original response": Scenario(twice(), REPLAYED, 1),
    "Powertools: test_idempotent_lambda_already_completed": Scenario(twice(), REPLAYED, 1),
    # --- Another request
    "idemkit: test_same_key_different_payload_returns_422": Scenario(
        twice(body=b'{"amount": 2}'), CONFLICT, 1
    ),
    "drf-idempotency: another body is refused": Scenario(twice(body=b'{"amount": 2}'), CONFLICT, 1),
    "Powertools: test_idempotency_payload_validation_with_tampering_nested_object": Scenario(
        twice(Sent(b'{"a": {"b": [1, {"c": 2}]}}'), body=b'{"a": {"b": [1, {"c": 3}]}}'), CONFLICT, 1
    ),
    "Powertools: test_idempotent_data_sorting": Scenario(
        twice(Sent(b'{"a": 1, "b": {"c": 2, "d": 3}}'), body=b'{"b": {"d": 3, "c": 2}, "a": 1}'), REPLAYED, 1
    ),
    "idemkit: test_body_form_urlencoded_sorted": Scenario(
        twice(Sent(b"a=1&b=2", FORM), body=b"b=2&a=1"), REPLAYED, 1
    ),
    "idemkit: test_body_unknown_content_type_is_raw": Scenario(
        twice(Sent(b'{"a": 1}', TEXT), body=b'{"a":1}'), CONFLICT, 1
    ),
    "idemkit: test_body_content_type_with_charset": Scenario(
        twice(Sent(b'{"a": 1}'), body=b'{"a":1}', kind=f"{JSON}; charset=utf-8"), REPLAYED, 1
    ),
    # It calls the two numbers different, and that a known limitation.
    "idemkit: test_fingerprint_known_limitation_numeric_type": Scenario(
        twice(Sent(b'{"a": 1}'), body=b'{"a": 1.0}'), REPLAYED, 1
    ),
    "idemkit: test_fingerprint_changes_with_path": Scenario(twice(path="/other"), CONFLICT, 1),
    "idemkit: test_fingerprint_changes_with_method": Scenario(twice(method="PUT"), CONFLICT, 1),
    # It sorts the query; here a query counts as it is written.
    "idemkit: test_fingerprint_stable_across_param_order": Scenario(
        twice(Sent(path="/pay?a=1&b=2"), path="/pay?b=2&a=1"), CONFLICT, 1
    ),
    # --- Another caller, another time
    "idemkit: test_cross_tenant_isolation_different_callers_dont_collide": Scenario(
        twice(user="bob"), [201, 201], 2
    ),
    "drf-idempotencykey: a key belongs to its user": Scenario(twice(user="bob", body=b"{}"), [201, 201], 2),
    "Powertools: test_idempotent_lambda_in_progress": Scenario([Sent(running=True), Sent()], [409, 201], 1),
    "drf-idempotency: the loser of two concurrent requests": Scenario(
        [Sent(), Sent(running=True)], REPLAYED, 1
    ),
    "Powertools: test_idempotent_lambda_expired": Scenario(twice(expired=True), [201, 201], 2),
    "Powertools: test_ttl_caching_expiration_idempotency": Scenario(
        [Sent(), Sent(), Sent(expired=True)], [201, 200, 201], 2, {"ttl": timedelta(minutes=1)}
    ),
    # --- Errors
    "idemkit: test_5xx_response_is_not_cached": Scenario(twice(Sent(status=500)), [500, 500], 2),
    "idemkit: test_handler_exception_releases_claim": Scenario([Sent(status=0), Sent()], [500, 201], 2),
    "Powertools: test_idempotent_lambda_exception": Scenario(twice(Sent(status=0)), [500, 500], 2),
    "django-idempotency-key: test_store_on_statuses_does_not_store": Scenario(
        twice(Sent(status=400)), [400, 400], 2
    ),
    "django-idempotency-key: test_store_on_statuses_does_store": Scenario(
        twice(Sent(status=422)), [422, 422], 1, {"stored_errors": [422]}
    ),
    "drf-idempotency: CACHE_CLIENT_ERROR_RESPONSES": Scenario(
        twice(Sent(status=404)), [404, 404], 1, {"stored_errors": range(404, 423)}
    ),
    "drf-idempotencykey: only successes are kept": Scenario([Sent(status=400), Sent()], [400, 201], 2),
    "Stripe: the result is saved regardless of whether it succeeds or fails": Scenario(
        twice(Sent(status=500)), [500, 500], 1, {"stored_errors": [402, 500]}
    ),
    "Stripe: no result is saved when another request with the key runs": Scenario(
        [Sent(running=True), *twice()], [409, *REPLAYED], 1
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_of_a_peer(name: str) -> None:
    scenario, key, runs = SCENARIOS[name], uuid.uuid4().hex, list[int]()

    def view(request: HttpRequest) -> HttpResponse:
        status = int(request.headers["X-Status"])
        runs.append(status)
        if not status:
            raise ZeroDivisionError
        return HttpResponse(f"run {len(runs)}", status=status)

    def caller(request: HttpRequest, _view: Any) -> str:
        return request.headers["X-User"]

    options: Any = {"operation": "peers", "admit": caller}
    marked = view if scenario.mark is None else idempotent(**options | scenario.mark)(view)
    answers = [send(marked, sent, key) for sent in scenario.sent]
    assert [answer.status_code for answer in answers] == scenario.statuses
    assert len(runs) == scenario.runs
    if scenario.mark is not None and scenario.statuses == REPLAYED:
        assert answers[0].content == answers[1].content == b"run 1"


def send(view: Any, sent: Sent, key: str) -> HttpResponse:
    headers = {name: value.replace("KEY", key) for name, value in sent.headers.items()}
    request = RequestFactory().generic(
        sent.method,
        sent.path,
        sent.body,
        content_type=sent.kind,
        headers=headers | {"X-User": sent.user, "X-Status": str(sent.status)},
    )
    if sent.expired:
        IdempotencyKey.objects.filter(token=key).update(
            created_at=F("created_at") - timedelta(days=2), expires_at=F("created_at") - timedelta(days=1)
        )
    with in_progress("peers", key, principal=sent.user) if sent.running else nullcontext():
        try:
            answer: HttpResponse = IdempotencyMiddleware(view)(request)
        except ZeroDivisionError:
            return HttpResponse(status=500)
    return answer


def test_scenarios_of_headers() -> None:
    """idemkit: ``test_header_filtering``, ``test_set_cookie_header_not_replayed``."""

    def view(_request: HttpRequest) -> HttpResponse:
        own = {"ETag": '"1"', "Location": "/1", "Vary": "Cookie", "X-More": "more", "Set-Cookie": "secret=1"}
        return HttpResponse("made", status=201, headers=own)

    marked, key = idempotent(operation="peers", admit=lambda _request, _view: "me")(view), uuid.uuid4().hex
    with override_settings(IDEMPOTENCY_REPLAYED_HEADERS=["X-More"]):
        first, again = (send(marked, Sent(), key) for _ in range(2))
    kept = {"Content-Type", "ETag", "Location", "X-More"}
    assert {name: again.headers[name] for name in kept} == {name: first.headers[name] for name in kept}
    assert again.headers["Cache-Control"] == "no-store"
    assert set(again.headers) == kept | {"Idempotency-Key", "Idempotency-Status", "Cache-Control"}


@pytest.mark.parametrize("result", [None, 0, "", False, [], {"id": 1}], ids=repr)
def test_scenarios_of_functions(result: Any) -> None:
    """Powertools: ``test_idempotent_function_falsy_values``; idemkit: ``queue-at-least-once-dedup``, five times."""
    key, runs = f"Q1 {uuid.uuid4()}", 0
    for _ in range(5):
        with once("queue", key) as work:
            if work:
                runs += 1
                work.result = result
        assert work.result == result
    assert runs == 1


# --- The table in the docs -----------------------------------------------------------------------------------

PAGE = (PROJECT / "docs/reference/idempotency.md").read_text()
TABLE = re.findall(
    r"^\| (.*) \|$", PAGE.split("## Beside its peers", 1)[1].split("\n## ", 1)[0], re.MULTILINE
)


def test_every_peer_has_a_scenario_and_a_column() -> None:
    assert {name.split(":")[0] for name in SCENARIOS} == PEERS
    assert {re.sub(r"[ \d.]+$", "", cell) for cell in TABLE[0].split(" | ")[2:-1]} == PEERS


def test_every_row_of_the_table_names_its_tests() -> None:
    tests = {
        name
        for file in (PROJECT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    for row in TABLE[2:]:
        named = re.findall(r"`(test_\w+)`", row.split(" | ")[-1])
        assert named, row
        assert set(named) <= tests | {name.split(": ")[1] for name in SCENARIOS}, row
