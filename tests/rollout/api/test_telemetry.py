"""``POST /api/telemetry``, as browsers and worse clients use it."""

import json
import re
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.db import connection

from rollout import configuration, operations, store, tickets
from rollout.api.telemetry import as_uuid, document_of, network_of, parse
from rollout.models import Rollout, TelemetryEvent
from tests.answers import assert_problem
from tests.servers import Server, running_server

Body = dict[str, Any]


@pytest.fixture
def browser(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


@pytest.fixture
def feature(database: None) -> str:
    rollout = Rollout.objects.create(feature=f"SEEN_{uuid.uuid4().hex[:12].upper()}", percentage=10)
    configuration.forget()
    return rollout.feature


def event(name: str = "heartbeat", **fields: Any) -> Body:
    return {"id": uuid.uuid4().hex, "event": name, "category": "usage", "ok": True, **fields}


def batch(*events: Any, **fields: Any) -> Body:
    return {"clientId": str(uuid.uuid4()), "sessionId": str(uuid.uuid4()), "events": list(events), **fields}


def stored(body: Body) -> list[TelemetryEvent]:
    return list(TelemetryEvent.objects.filter(client=as_uuid(body["clientId"])).order_by("seq"))


def test_events_are_kept_as_they_were_sent(browser: httpx.Client, feature: str) -> None:
    sent = event(
        "migration_failed",
        category="migration",
        ok=False,
        flag=feature,
        variant="fund-store",
        at="2031-01-02T03:04:05.678+02:00",
        detail="QuotaExceededError",
    )
    body = batch(event(), sent, dropped=0, sentAt="2031-01-02T03:04:06Z")
    answer = browser.post("/api/telemetry", json=body)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 2, "duplicates": 0, "rejected": []})
    heartbeat, failure = stored(body)
    assert heartbeat.event == "heartbeat"
    assert (failure.event, failure.category, failure.ok) == ("migration_failed", "migration", False)
    assert (failure.flag, failure.variant, failure.detail) == (feature, "fund-store", "QuotaExceededError")
    assert failure.at is not None
    assert failure.at.isoformat() == "2031-01-02T01:04:05.678000+00:00"
    assert failure.arrived_at.year < 2031  # a browser's clock decides nothing
    assert failure.seq > heartbeat.seq


def test_sending_again_is_harmless(browser: httpx.Client) -> None:
    body = batch(event(), event("error", ok=False))
    first = browser.post("/api/telemetry", json=body).json()
    second = browser.post("/api/telemetry", json=body).json()
    assert (first["accepted"], first["duplicates"]) == (2, 0)
    assert (second["accepted"], second["duplicates"]) == (0, 2)
    assert len(stored(body)) == 2


def test_a_batch_sent_many_times_at_once_is_stored_once(server: Server) -> None:
    body = batch(*(event("error", ok=False) for _ in range(200)))

    def send(_: int) -> int:
        accepted: int = httpx.post(f"{server.url}/api/telemetry", json=body, timeout=30).json()["accepted"]
        return accepted

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(send, range(16))) == 200
    assert len(stored(body)) == 200


def test_another_client_s_event_of_the_same_id_is_another_event(browser: httpx.Client) -> None:
    same = event()
    for _ in range(2):
        assert browser.post("/api/telemetry", json=batch(same)).json()["accepted"] == 1


def test_ids_never_change_because_a_batch_of_yesterday_would_be_counted_again() -> None:
    sent = [{"id": each, "event": "heartbeat"} for each in ("1", "\ud83d")]
    body = batch(*sent, clientId="a", sessionId="b", dropped=3)
    found = parse(document_of(body), tracks=bool)
    heartbeat, half_a_pair, loss = found.events
    assert as_uuid(str(heartbeat.id)) == uuid.UUID("4a0fe6d2-544e-b15b-a0f9-923424682c85")
    assert as_uuid(str(half_a_pair.id)) == uuid.UUID("f43212fb-ade9-1144-9898-46c263ae0c34")
    assert loss.id == uuid.UUID("45cdf666-2870-61e7-6db9-0a6486ab50dc")
    assert found.source.client == uuid.UUID("5659c073-608c-2ad7-4626-8ece172168b5")
    assert found.source.session == uuid.UUID("2e7c7a66-0905-338e-6a29-7946d8c0d57e")


def test_postgresql_plans_the_intake_once_a_connection(database: None) -> None:
    connection.close()
    for _ in range(10):
        sent = parse(document_of(batch(event(), event())), tracks=bool)
        assert store.arrive(sent.events, sent.source) == 2
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        ((statement,),) = cursor.fetchall()
    connection.close()
    assert "rollout_telemetry" in statement


def test_a_beacon_needs_no_preflight(browser: httpx.Client) -> None:
    body = batch(event())
    headers = {"Content-Type": "text/plain;charset=UTF-8"}
    answer = browser.post("/api/telemetry", content=json.dumps(body), headers=headers)
    assert answer.status_code == 202
    assert len(stored(body)) == 1


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ("heartbeat", "not_an_object"),
        (event(id=None), "invalid_id"),
        (event(id=""), "invalid_id"),
        (event(id="x" * 101), "invalid_id"),
        (event(id=7), "invalid_id"),
        (event(""), "invalid_event"),
        (event("<script>"), "invalid_event"),
        (event("x" * 65), "invalid_event"),
        (event(ok="false"), "invalid_ok"),
        (event(ok=1), "invalid_ok"),  # though it equals the True of its neighbour
        (event(ok=[True]), "invalid_ok"),
        (event(flag="use_fund_store"), "invalid_flag"),
        (event(flag=["A"]), "invalid_flag"),
        (event(variant="x" * 33), "invalid_variant"),
        (event(variant="a\0b"), "invalid_variant"),
        (event(category={"a": 1}), "invalid_category"),
        (event(at="yesterday"), "invalid_at"),
        (event(at=1_754_900_000), "invalid_at"),
        (event(at="9999-12-31T23:59:59-14:00"), "invalid_at"),
        (event(at="0001-01-01T00:00:00+14:00"), "invalid_at"),
    ],
)
def test_one_bad_event_is_named_and_loses_no_other(browser: httpx.Client, wrong: Any, code: str) -> None:
    body = batch(event(), wrong, event("error", ok=False))
    answer = browser.post("/api/telemetry", json=body)
    assert answer.status_code == 202
    assert answer.json() == {"accepted": 2, "duplicates": 0, "rejected": [{"index": 1, "code": code}]}
    assert [each.event for each in stored(body)] == ["heartbeat", "error"]


@pytest.mark.parametrize(
    ("name", "ok"), [("migration_succeeded", True), ("migration_failed", False), ("console_warning", False)]
)
def test_an_event_that_does_not_say_whether_it_is_ok_is_judged_by_its_name(
    browser: httpx.Client, feature: str, name: str, ok: bool
) -> None:
    body = batch({"id": "1", "event": name, "flag": feature})
    browser.post("/api/telemetry", json=body)
    assert [each.ok for each in stored(body)] == [ok]


@pytest.mark.parametrize(
    ("detail", "kept"),
    [
        ("x" * 5000, "x" * 499 + "…"),
        ("a\0b", "ab"),
        ("half \ud800 a pair", "half ? a pair"),
        ({"reason": "quota", "é": 1}, '{"reason": "quota", "é": 1}'),
        ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),
        (None, None),
    ],
)
def test_a_detail_is_cut_and_cleaned_never_refused(browser: httpx.Client, detail: Any, kept: Any) -> None:
    body = batch(event("error", ok=False, detail=detail))
    assert browser.post("/api/telemetry", content=json.dumps(body), headers=JSON).json()["accepted"] == 1
    assert [each.detail for each in stored(body)] == [kept]


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "parse_error"),
        (b"{", 400, "parse_error"),
        (b"\xff", 400, "parse_error"),
        (b"[" * 100_000, 400, "parse_error"),
        (b"1" * 5000, 400, "parse_error"),
        (b"[]", 400, "validation_error"),
        (b'{"clientId": "a", "sessionId": "b"}', 400, "validation_error"),
        (b'{"clientId": 1, "sessionId": "b", "events": []}', 400, "validation_error"),
        (b'{"clientId": "a", "sessionId": "", "events": []}', 400, "validation_error"),
        (b'{"clientId": "a", "sessionId": "b", "events": [], "dropped": -1}', 400, "validation_error"),
        (b'{"clientId": "a", "sessionId": "b", "events": [], "dropped": 1.5}', 400, "validation_error"),
        (b'{"clientId": "a", "sessionId": "b", "events": [], "dropped": 1e999}', 400, "validation_error"),
        (b'{"clientId": "a", "sessionId": "b", "events": [' + b"1," * 200 + b"1]}", 400, "validation_error"),
        (b" " * (256 * 1024 + 1), 413, "body_too_large"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_body_that_cannot_be_used_is_a_problem_that_says_what_to_do(
    browser: httpx.Client, content: bytes, status: int, code: str
) -> None:
    assert_problem(browser.post("/api/telemetry", content=content, headers=JSON), status, code)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b'{"clientId": "a", "sessionId": "", "events": 7}', b" " * (256 * 1024 + 1)),
        json.dumps(batch(event(), event(id=7), event("error", detail={"a": [1.0]}), dropped=2)).encode(),
        json.dumps(batch(event(), ticket="x", more="\ud800")).encode(),
    ],
    ids=["empty", "cut", "a list", "wrong fields", "too large", "events", "half a pair"],
)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain;charset=UTF-8", "a/b", ""])
def test_the_short_way_past_drf_gives_the_same_answers(
    browser: httpx.Client, content: bytes, content_type: str
) -> None:
    """A client that also accepts something else goes the whole way."""

    def answer(number: int, accept: str) -> Any:
        body = content.replace(b'"clientId": "', b'"clientId": "%d' % number)
        headers = {"Content-Type": content_type, "Accept": accept}
        found = browser.post("/api/telemetry", content=body, headers=headers)
        of_the_request = {"x-request-id", "date"}
        return (
            found.status_code,
            found.text,
            {name: value for name, value in found.headers.items() if name not in of_the_request},
        )

    short, json_only, whole = map(
        answer, range(3), ("*/*", "application/json", "application/json, text/plain")
    )
    assert short == json_only == whole


def test_options_describe_the_address(browser: httpx.Client) -> None:
    answer = browser.options("/api/telemetry")
    assert answer.headers["Allow"] == "POST, OPTIONS"
    assert answer.json() == {
        "name": "Telemetry",
        "description": "Take up to 200 events. Sending them again is harmless.",
        "renders": ["application/json"],
        "parses": ["application/json"],
    }


def test_a_form_is_no_telemetry(browser: httpx.Client) -> None:
    answer = browser.post("/api/telemetry", data={"events": "[]"})
    assert_problem(answer, 415, "unsupported_media_type")


def test_losses_are_kept_once_however_often_they_are_reported(browser: httpx.Client) -> None:
    body = batch(event(), dropped=7)
    for dropped in (7, 7, 7.0, 9):
        answer = browser.post("/api/telemetry", json=body | {"dropped": dropped}).json()
        assert answer["accepted"] + answer["duplicates"] == 1
    assert [each.lost for each in stored(body) if each.lost] == [7, 9]


def test_migration_events_are_kept_only_while_they_are_tracked(browser: httpx.Client, feature: str) -> None:
    with_flag = {"flag": feature, "variant": "fund-store"}
    body = batch(event("migration_succeeded", **with_flag), event("error", ok=False, **with_flag))
    operations.configure(feature, {"track_migrations": False}, reason="a test")
    assert browser.post("/api/telemetry", json=body).json() == {
        "accepted": 1,
        "duplicates": 0,
        "rejected": [{"index": 0, "code": "migrations_not_tracked"}],
    }
    operations.configure(feature, {"track_migrations": True}, reason="a test")
    assert browser.post("/api/telemetry", json=body).json() == {
        "accepted": 1,
        "duplicates": 1,
        "rejected": [],
    }


def test_each_address_has_its_own_throttle(database: None) -> None:
    with running_server(
        TELEMETRY_RATE="3/minute", TRUSTED_PROXIES="1", ENVIRONMENT=uuid.uuid4().hex
    ) as server:

        def send(address: str) -> httpx.Response:
            headers = {"X-Forwarded-For": f"10.9.9.9, {address}"}  # the first is the client's own word
            return httpx.post(f"{server.url}/api/telemetry", json=batch(event()), headers=headers, timeout=30)

        assert [send("192.0.2.1").status_code for _ in range(4)] == [202, 202, 202, 429]
        refused = send("192.0.2.1")
        assert_problem(refused, 429, "throttled")
        assert int(refused.headers["Retry-After"]) > 0
        assert send("192.0.2.2").status_code == 202
        assert send("unknown").status_code == 202
        ipv6 = [send(f"2001:db8:7:9::{number}").status_code for number in range(1, 5)]
        assert ipv6 == [202, 202, 202, 429]
        assert send("2001:db8:7:a::1").status_code == 202
        with_ports = [send(f"192.0.2.3:{port}").status_code for port in range(4711, 4715)]
        assert with_ports == [202, 202, 202, 429]
        assert send("192.0.2.1:4711").status_code == 429
        assert send("[2001:db8:7:9::1]:4711").status_code == 429


# --- Whose events they are ----------------------------------------------------------------------------------------


def test_events_with_a_ticket_are_its_user_s(browser: httpx.Client, user: User) -> None:
    ticket = tickets.issue(user.pk).text
    signed, unsigned = batch(event(), dropped=3, ticket=ticket), batch(event(), ticket=None)
    for body in (signed, unsigned):
        answer = browser.post(
            "/api/telemetry", content=json.dumps(body), headers={"Content-Type": "text/plain"}
        )
        assert answer.json() == {"accepted": 1, "duplicates": 0, "rejected": []}
    assert [(each.signer, each.network) for each in stored(signed)] == [
        (tickets.signer_of(user.pk), "127.0.0.0/24")
    ] * 2
    assert [(each.signer, each.network) for each in stored(unsigned)] == [(None, "127.0.0.0/24")]


@pytest.mark.parametrize(
    ("ticket", "code"),
    [
        (tickets.issue(7, now=time.time() - 3601).text, "expired"),
        (tickets.issue(7).text + "x", "invalid"),
        ("x" * 200_000, "invalid"),
        ("\0", "invalid"),
        ("\ud800", "invalid"),
        ("", "invalid"),
        (7, "invalid"),
        ({"ticket": tickets.issue(7).text}, "invalid"),
    ],
    ids=lambda value: str(value)[:20].encode("unicode_escape").decode(),
)
def test_a_ticket_that_is_refused_loses_no_event_and_is_named(
    browser: httpx.Client, ticket: Any, code: str
) -> None:
    body = batch(event(), ticket=ticket)
    answer = browser.post("/api/telemetry", content=json.dumps(body), headers=JSON)
    assert answer.status_code == 202
    assert answer.json() == {"accepted": 1, "duplicates": 0, "rejected": [], "ticket": code}
    assert [(each.signer, each.network) for each in stored(body)] == [(None, "127.0.0.0/24")]


def test_batches_are_counted_by_their_ticket(browser: httpx.Client) -> None:
    def counts() -> dict[str, str]:
        text = browser.get("/metrics").text
        return dict(
            re.findall(r'^rollout_telemetry_tickets_total\{ticket="(\w+)"\} (\S+)$', text, re.MULTILINE)
        )

    before = counts()
    assert before.keys() == {"none", "valid", "expired", "invalid"}
    old = tickets.issue(7, now=time.time() - 3601).text
    for ticket in (None, tickets.issue(7).text, old, "x"):
        browser.post("/api/telemetry", json=batch(ticket=ticket))
    assert {name: float(now) - float(before[name]) for name, now in counts().items()} == dict.fromkeys(
        before, 1
    )


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:7:9::1", "2001:db8:7::/48"),
        ("2001:db8:7:a:ffff:ffff:ffff:ffff", "2001:db8:7::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("::1", "::/48"),
        ("", ""),
        ("unknown", ""),
        ("192.0.2.77:8080", "192.0.2.0/24"),
        ("[2001:db8:7:9::1]:8080", "2001:db8:7::/48"),
        ("[2001:db8:7:9::1]", "2001:db8:7::/48"),
        ("192.0.2.77:", ""),
        ("'; DROP TABLE", ""),
    ],
)
def test_an_address_is_one_of_its_network(address: str, network: str) -> None:
    assert network_of(address) == network
    assert len(network) <= 43


def test_the_network_is_that_of_the_address_that_throttles_count(user: User) -> None:
    with running_server(workers=1, TRUSTED_PROXIES="1") as server:
        for said, network in (
            ("10.9.9.9, 192.0.2.77", "192.0.2.0/24"),
            ("10.9.9.9, 2001:db8:7:9::1", "2001:db8:7::/48"),
            ("192.0.2.77, unknown", ""),
        ):
            body = batch(event())
            httpx.post(
                f"{server.url}/api/telemetry", json=body, headers={"X-Forwarded-For": said}, timeout=30
            )
            assert [each.network for each in stored(body)] == [network]


SENT = "2031-01-02T03:04:05.900Z"


@pytest.mark.parametrize(
    ("at", "sent_at", "age"),
    [
        ("2031-01-02T03:04:05.100Z", SENT, 0),
        ("2031-01-02T03:04:04.900Z", SENT, 1),
        ("2031-01-02T02:54:05.900Z", SENT, 600),
        ("2031-01-01T01:04:05.900Z", SENT, 26 * 3600),
        ("2031-01-02T05:04:04.900+02:00", SENT, 1),
        ("2031-01-02T03:04:09Z", SENT, 0),  # in the future
        ("1970-01-01T00:00:00Z", "2999-01-01T00:00:00Z", 2**31 - 1),
        (None, SENT, 0),
        ("2031-01-01T01:04:05Z", None, 0),
        ("2031-01-01T01:04:05Z", "yesterday", 0),
        ("2031-01-01T01:04:05Z", 7, 0),
        ("2031-01-01T01:04:05Z", {}, 0),
    ],
)
def test_an_event_s_age_is_by_the_browser_s_clock_alone(
    browser: httpx.Client, at: str | None, sent_at: Any, age: int
) -> None:
    body = batch(event(at=at), sentAt=sent_at)
    assert browser.post("/api/telemetry", json=body).json()["accepted"] == 1
    assert [each.age for each in stored(body)] == [age]
