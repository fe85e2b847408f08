"""Outcomes of ``POST /api/funds`` by variant: what a running server reports of real requests."""

import re
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import httpx
import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import connection

from fundapi.api.outcomes import outcome_of
from fundapi.models import Fund
from rollout import operations, store
from rollout.models import Rollout, TelemetryEvent
from rollout.outcomes import HEADER, Outcome
from rollout.tickets import signer_of
from tests.canary import Canary, Judged, judged_rollouts
from tests.conftest import FUND, Api
from tests.obedience import CRASH, DEADLOCK, FAIL_AT_COMMIT, Hold, query
from tests.servers import Server, database_url, running_server

BROKEN = FUND | {"name": CRASH}
CREATED = ("fund_create_success", True, "", "201")
FAILED = ("fund_create_failure", False, "")
INVALID = ("fund_create_failure", False, "validation")


@pytest.fixture
def canary(traffic: Judged) -> Canary:
    return traffic()


def names(canary: Canary, variant: str = "fund-store") -> dict[str, str]:
    """Return the header of a page that has this variant."""
    return {HEADER: f"{canary.feature}={variant}"}


def reports(feature: str) -> list[TelemetryEvent]:
    return list(TelemetryEvent.objects.filter(flag=feature).order_by("seq"))


def said(feature: str) -> list[tuple[str, bool, str, str | None]]:
    """Return the reports about a feature: event, ok, category, detail."""
    return [(event.event, event.ok, event.category, event.detail) for event in reports(feature)]


# --- What is reported -----------------------------------------------------------------------------------------


def test_a_creation_is_reported_by_the_server_for_its_user_and_variant(
    api: Api, user: User, canary: Canary
) -> None:
    assert api.create(**names(canary)).status_code == 201
    (report,) = reports(canary.feature)
    assert (report.event, report.ok, report.variant, report.server) == (
        "fund_create_success",
        True,
        "fund-store",
        True,
    )
    # The voice of the same user's tickets: one person, whoever reports.
    assert report.signer == report.client == signer_of(user.pk)
    assert (report.network, report.age, report.lost) == ("", 0, 0)


ENDINGS: dict[str, tuple[dict[str, Any], int, list[tuple[str, bool, str, str]]]] = {
    "created": ({"body": FUND}, 201, [CREATED]),
    "a field is not valid": ({"body": FUND | {"size": -1}}, 400, [(*INVALID, "400")]),
    "the body is not JSON": ({"body": b"{"}, 400, [(*INVALID, "400")]),
    "the key is not valid": ({"key": "not a key"}, 400, [(*INVALID, "400")]),
    "the type is not JSON": ({"Content-Type": "text/plain"}, 415, [(*INVALID, "415")]),
    "nothing acceptable": ({"Accept": "text/csv"}, 406, []),
    "the view crashes": ({"body": BROKEN}, 500, [(*FAILED, "500")]),
    "the database fails": ({"body": FUND | {"name": DEADLOCK}}, 503, [(*FAILED, "503")]),
    "COMMIT fails": ({"body": FUND | {"name": FAIL_AT_COMMIT}}, 500, [(*FAILED, "500")]),
}


@pytest.mark.parametrize(("request_", "status", "expected"), ENDINGS.values(), ids=ENDINGS.keys())
def test_each_ending_counts_as_the_page_of_the_judge_says(
    api: Api, canary: Canary, obedience: None, request_: dict[str, Any], status: int, expected: list[Any]
) -> None:
    assert api.create(**request_ | names(canary)).status_code == status
    assert said(canary.feature) == expected


def test_a_body_that_is_too_long_is_refused_before_its_user_is_known(api: Api, canary: Canary) -> None:
    assert api.create(body=b" " * (256 * 1024 + 1), **names(canary)).status_code == 413
    assert said(canary.feature) == []


@pytest.mark.parametrize(
    ("status", "counts"), [(413, True), (422, True), (404, False), (405, False), (429, False)]
)
def test_content_that_is_refused_counts_as_validation(status: int, counts: bool) -> None:
    expected = Outcome("fund_create_failure", ok=False, category="validation", detail=str(status))
    assert outcome_of(status, "failed") == (expected if counts else None)


def test_a_replay_is_not_reported_again(api: Api, canary: Canary, key: str) -> None:
    assert [api.create(key, **names(canary)).status_code for _ in range(3)] == [201, 200, 200]
    assert said(canary.feature) == [CREATED]


def test_a_retry_that_fails_twice_is_two_failures_of_one_voice(
    api: Api, canary: Canary, key: str, obedience: None
) -> None:
    for _ in range(2):
        assert api.create(key, BROKEN, **names(canary)).status_code == 500
    assert said(canary.feature) == [(*FAILED, "500")] * 2
    assert len({report.signer for report in reports(canary.feature)}) == 1


def test_a_reused_key_is_a_conflict_and_no_failure(api: Api, canary: Canary, key: str) -> None:
    api.create(key)
    assert api.create(key, FUND | {"size": 1}, **names(canary)).status_code == 409
    assert said(canary.feature) == [("fund_create_conflict", True, "", "409")]


def test_a_request_whose_first_is_still_running_is_no_outcome(
    api: Api, canary: Canary, key: str, hold: Hold
) -> None:
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(api.create, key, hold.body, **names(canary))
        hold.running()
        assert api.create(key, hold.body, **names(canary)).status_code == 409
        assert said(canary.feature) == []
        hold.release()
        assert first.result().status_code == 201
    assert said(canary.feature) == [CREATED]


def test_both_variants_are_told_apart(api: Api, canary: Canary, obedience: None) -> None:
    api.create(**names(canary, "legacy"))
    api.create(body=BROKEN, **names(canary))
    assert [(report.variant, report.ok) for report in reports(canary.feature)] == [
        ("legacy", True),
        ("fund-store", False),
    ]


# --- Who is not reported --------------------------------------------------------------------------------------


def test_nobody_without_the_right_to_create_reports_anything(
    server: Server, make_user: Callable[..., User], canary: Canary
) -> None:
    for user, status in ((None, 401), (make_user(may_create=False), 403)):
        with Api(server, user) as client:
            assert client.create(**names(canary)).status_code == status
    assert said(canary.feature) == []


def test_a_throttled_request_is_no_outcome(user: User, database: None) -> None:
    with (
        running_server(workers=1, threads=1, FUND_CREATE_RATE="2/minute") as strict,
        judged_rollouts(strict) as make,
        Api(strict, user) as client,
    ):
        canary = make()
        statuses = [client.create(**names(canary)).status_code for _ in range(4)]
    assert statuses == [201, 201, 429, 429]
    assert said(canary.feature) == [CREATED] * 2


def test_telemetry_cannot_claim_to_be_the_servers(api: Api, user: User, canary: Canary) -> None:
    forged = {"server": True, "signer": str(signer_of(user.pk)), "network": "", "age": 0}
    event = {"id": "e1", "event": "fund_create_failure", "flag": canary.feature, "variant": "fund-store"}
    body = {"clientId": str(uuid.uuid4()), "sessionId": "s", "events": [event | forged]} | forged
    assert api.post("/api/telemetry", json=body).status_code == 202
    (stored,) = reports(canary.feature)
    assert (stored.server, stored.signer) == (False, None)


def test_other_addresses_report_nothing(api: Api, canary: Canary) -> None:
    assert api.get("/api/funds", headers=names(canary)).status_code == 200
    assert api.post("/api/funds/1", headers=names(canary)).status_code == 405
    assert said(canary.feature) == []


# --- The header -----------------------------------------------------------------------------------------------


def test_a_page_may_name_several_features(api: Api, traffic: Judged) -> None:
    one, two = traffic(), traffic()
    header = f"{one.feature}=fund-store, {two.feature}=legacy,UNKNOWN_FEATURE=on"
    assert api.create(**{HEADER: header}).status_code == 201
    assert [report.variant for report in reports(one.feature)] == ["fund-store"]
    assert [report.variant for report in reports(two.feature)] == ["legacy"]
    assert reports("UNKNOWN_FEATURE") == []


@pytest.mark.parametrize(
    "header",
    [
        "",
        "=",
        ",,,",
        "{}",
        "{}=",
        "{}=fund store",
        "{}=" + "x" * 33,
        '{}="fund-store',
        "{}=<script>",
        "{}=fund-store;q=1",
        "{}=\xfc",
        "{}=fund-store" + "," * 1000,
        "{}\x01=fund-store",
    ],
)
def test_a_header_that_cannot_be_read_is_ignored(api: Api, canary: Canary, header: str) -> None:
    value = header.format(canary.feature).encode("latin-1")
    headers = {HEADER.encode(): value, b"Idempotency-Key": uuid.uuid4().hex.encode()}
    answer = api.post("/api/funds", json=FUND, headers=headers)
    # The server itself refuses control characters in any header.
    assert answer.status_code == (400 if "\x01" in header else 201)
    assert said(canary.feature) == []


def test_one_bad_member_does_not_hide_the_others(api: Api, canary: Canary) -> None:
    api.create(**{HEADER: f"use_fund_store=on, ?, {canary.feature}=fund-store , X"})
    assert said(canary.feature) == [CREATED]


STATES: dict[str, Callable[[str], object]] = {
    "at 0 %": lambda feature: operations.set_percentage(feature, Decimal(0), reason="test"),
    "stopped": lambda feature: operations.stop(feature, reason="test"),
    "disabled": lambda feature: Rollout.objects.filter(feature=feature).update(enabled=False),
    "complete": lambda feature: Rollout.objects.filter(feature=feature).update(
        percentage=100, stage="complete"
    ),
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES.keys())
def test_a_rollout_that_is_not_judged_gets_no_reports(
    api: Api, canary: Canary, state: Callable[[str], object]
) -> None:
    state(canary.feature)
    assert not canary.rollout.is_judged
    assert api.create(**names(canary)).status_code == 201
    assert said(canary.feature) == []


def test_other_origins_may_send_the_header_without_being_named(database: None) -> None:
    with running_server(workers=1, threads=1, CORS_ALLOWED_ORIGINS="https://app.example") as server:
        asks = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
        allowed = httpx.options(
            f"{server.url}/api/funds", headers=asks | {"Access-Control-Request-Headers": HEADER}
        )
        assert HEADER.lower() in allowed.headers["Access-Control-Allow-Headers"]


# --- A report never fails or delays a request ---------------------------------------------------------------


def metric(server: Server, outcome: str) -> float:
    line = re.search(
        rf'^rollout_server_reports_total{{outcome="{outcome}"}} (\S+)$',
        httpx.get(f"{server.url}/metrics").text,
        re.MULTILINE,
    )
    assert line
    return float(line[1])


def received(server: Server) -> list[str]:
    return re.findall(
        r"^rollout_telemetry_events_total.*", httpx.get(f"{server.url}/metrics").text, re.MULTILINE
    )


@contextmanager
def refusing_connections(refused: bool) -> Iterator[None]:
    """Let the database accept no new connection of the server, as one that is away."""
    name = connection.settings_dict["NAME"]
    query(f'ALTER DATABASE "{name}" CONNECTION LIMIT {0 if refused else -1}')
    try:
        yield
    finally:
        query(f'ALTER DATABASE "{name}" CONNECTION LIMIT -1')


def test_reports_have_a_metric_of_their_own(api: Api, server: Server, canary: Canary) -> None:
    before, browsers = metric(server, "stored"), received(server)
    api.create(**names(canary))
    api.create(**{HEADER: "UNKNOWN_FEATURE=on"})
    assert metric(server, "stored") == before + 1
    assert received(server) == browsers


def test_a_report_that_cannot_be_stored_is_logged_and_the_fund_is_created(
    api: Api, server: Server, user: User, canary: Canary
) -> None:
    before = metric(server, "failed")
    with psycopg.connect(database_url(), autocommit=True) as session:
        session.execute("ALTER TABLE rollout_telemetry RENAME TO rollout_telemetry_away")
        try:
            assert api.create(**names(canary)).status_code == 201
        finally:
            session.execute("ALTER TABLE rollout_telemetry_away RENAME TO rollout_telemetry")
    assert "rollout_report_failed" in server.log
    assert metric(server, "failed") == before + 1
    assert Fund.objects.filter(owner=user).count() == 1
    assert api.create(**names(canary)).status_code == 201  # the connection is as good as before
    assert said(canary.feature) == [CREATED]


@pytest.mark.parametrize("away", [True, False])
def test_a_request_that_lost_the_database_does_not_wait_for_it_again(
    api: Api, server: Server, canary: Canary, hold: Hold, away: bool
) -> None:
    """A killed connection is a 5xx like any other: Django has a new one by then. A database that is away is not."""
    before, log = metric(server, "failed"), len(server.log)
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(api.create, None, hold.body, **names(canary))
        (backend,) = hold.running()
        with refusing_connections(away):
            query("SELECT pg_terminate_backend(%s)", backend)
            assert lost.result().status_code == 503
    assert said(canary.feature) == ([] if away else [(*FAILED, "503")])
    assert metric(server, "failed") == before + away
    assert "rollout_report_failed" not in server.log[log:]
    assert api.create(**names(canary)).status_code == 201
    assert said(canary.feature)[-1] == CREATED


def test_a_report_does_not_wait_for_an_intake_that_hangs(api: Api, user: User, canary: Canary) -> None:
    with psycopg.connect(database_url(), autocommit=True) as session:
        session.execute("SELECT pg_advisory_lock(%s)", (store.FENCE,))
        answer = api.create(**names(canary))
    assert answer.status_code == 201
    assert answer.elapsed.total_seconds() < 2  # a loaded machine; the wait itself ends after 0.1 s
    assert said(canary.feature) == []
