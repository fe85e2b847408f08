"""OFREP 0.3 by its OpenAPI: answers, and refusals of requests that cannot be evaluated."""

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext

from fundapi.web.overload import REJECTED
from rollout import configuration, operations
from rollout.evaluation import override_name
from tests.conftest import ORIGIN
from tests.node import running_oracle
from tests.rollout.conftest import MakeRollout
from tests.servers import Server, running_server

FLAGS = "/ofrep/v1/evaluate/flags"
SPELLINGS = json.loads(Path(__file__).parents[1].joinpath("precedence.json").read_text())["spellings"]
REASONS = {"STATIC", "TARGETING_MATCH", "SPLIT", "DISABLED", "UNKNOWN"}


class Ofrep(httpx.Client):
    """A client of the protocol. ``Connection: close``: a server may hang up on a body that it has not read."""

    def __init__(self, server: Server) -> None:
        super().__init__(base_url=server.url, headers={"Connection": "close"}, timeout=30)

    def evaluate(self, key: str | None = None, /, etag: str = "", **context: Any) -> httpx.Response:
        path = FLAGS if key is None else f"{FLAGS}/{key}"
        return self.post(path, json={"context": context}, headers={"If-None-Match": etag} if etag else {})


@pytest.fixture
def ofrep(server: Server) -> Iterator[Ofrep]:
    with Ofrep(server) as client:
        yield client


def flag_of(response: httpx.Response, feature: str) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    (found,) = [flag for flag in response.json()["flags"] if flag["key"] == feature]
    return dict(found)


def assert_error(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Assert that the answer is an error in the protocol's form; return its body."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/json"
    error: dict[str, Any] = response.json()
    assert error.keys() <= {"key", "errorCode", "errorDetails"}
    assert error["errorCode"] == code, error
    assert error["errorDetails"]
    return error


# --- Answers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "context", "expected"),
    [
        ({"percentage": 100}, {}, (True, "SPLIT", "percentage")),
        ({"percentage": 0}, {}, (False, "SPLIT", "percentage")),
        ({"percentage": 100, "enabled": False}, {}, (False, "DISABLED", "disabled")),
        ({"percentage": 100, "emergency_stop": True}, {}, (False, "DISABLED", "emergency_stop")),
        ({"percentage": 100}, {"emergency_rollback": "true"}, (False, "DISABLED", "emergency_stop")),
        ({"percentage": 100}, {"emergency_rollback": True}, (False, "DISABLED", "emergency_stop")),
        ({"percentage": 100}, {"emergency_rollback": False}, (True, "SPLIT", "percentage")),
        ({"percentage": 100}, {"override": "0"}, (False, "TARGETING_MATCH", "opt_out")),
        ({"percentage": 100}, {"override": 0}, (False, "TARGETING_MATCH", "opt_out")),
        ({"percentage": 100}, {"override": False}, (False, "TARGETING_MATCH", "opt_out")),
        ({"percentage": 0}, {"override": "1"}, (True, "TARGETING_MATCH", "opt_in")),
        ({"percentage": 0}, {"override": "True"}, (True, "TARGETING_MATCH", "opt_in")),
        ({"percentage": 0}, {"override": {"not": "a switch"}}, (False, "SPLIT", "percentage")),
        ({"percentage": 0}, {"override": "yes"}, (False, "SPLIT", "percentage")),
        ({"percentage": 0, "enabled": False}, {"override": "1"}, (False, "DISABLED", "disabled")),
    ],
)
def test_a_flag_says_value_variant_reason_and_why(
    ofrep: Ofrep,
    make_rollout: MakeRollout,
    fields: dict[str, Any],
    context: dict[str, Any],
    expected: tuple[bool, str, str],
) -> None:
    feature = make_rollout(**fields).feature
    switches = {
        override_name(feature) if name == "override" else name: value for name, value in context.items()
    }
    single = ofrep.evaluate(feature, targetingKey="a", **switches)
    value, reason, why = expected
    assert single.status_code == 200
    assert single.headers["Content-Type"] == "application/json"
    assert single.json() == {
        "key": feature,
        "value": value,
        "variant": "on" if value else "off",
        "reason": reason,
        "metadata": {"reason": why, "hashVersion": 2},
    }
    assert reason in REASONS
    assert flag_of(ofrep.evaluate(targetingKey="a", **switches), feature) == single.json()


def test_a_stop_obeys_every_spelling_of_yes(ofrep: Ofrep, make_rollout: MakeRollout) -> None:
    feature = make_rollout(percentage=100).feature
    overridden = {None: "percentage", "0": "opt_out", "1": "opt_in"}
    for value, stop, override in SPELLINGS:
        answer = ofrep.evaluate(feature, targetingKey="a", emergency_rollback=value)
        assert answer.json()["metadata"]["reason"] == ("emergency_stop" if stop else "percentage"), value
        answer = ofrep.evaluate(feature, targetingKey="a", **{override_name(feature): value})
        assert answer.json()["metadata"]["reason"] == overridden[override], value
    for number in (b"1.0", b"1e0", b"10E-1", b"1e999"):
        body = b'{"context": {"targetingKey": "a", "emergency_rollback": %b}}' % number
        assert ofrep.post(f"{FLAGS}/{feature}", content=body).json()["value"] is False, number


def test_a_kill_switch_of_the_context_is_named_as_the_browser_module_names_it() -> None:
    features = ["USE_FUND_STORE", "A", "USE_2ND_STORE", "A__B", "A_", "X1_2Y"]
    with running_oracle() as oracle:
        assert oracle.ask("overrideName", [[feature] for feature in features]) == [
            override_name(feature) for feature in features
        ]
    assert override_name("USE_FUND_STORE") == "ff_useFundStore"


def test_another_targeting_key_may_be_another_bucket(ofrep: Ofrep, make_rollout: MakeRollout) -> None:
    feature = make_rollout(percentage=50).feature
    values = {ofrep.evaluate(feature, targetingKey=str(number)).json()["value"] for number in range(30)}
    assert values == {True, False}


def test_a_rollout_of_another_release_spoils_no_other_flag(database: None) -> None:
    """It is off here, by a hash version that only the other release knows. The cache is theirs too."""
    fields = {"enabled": True, "percentage": 100, "emergencyStop": False}
    rollouts = [{"feature": name, "hashVersion": version, **fields} for name, version in (("A", 3), ("B", 2))]
    cache.set(configuration._key(), json.dumps({"rollouts": rollouts}).encode())
    try:
        answer = Client().post(FLAGS, {"context": {"targetingKey": "a"}}, content_type="application/json")
    finally:
        configuration.forget()
    assert {flag["key"]: flag["value"] for flag in answer.json()["flags"]} == {"A": False, "B": True}


# --- The entity tag -----------------------------------------------------------------------------------------


def test_a_caller_who_has_the_flags_gets_a_304(ofrep: Ofrep, make_rollout: MakeRollout) -> None:
    make_rollout()
    etag = ofrep.evaluate(targetingKey="a").headers["ETag"]
    for sent in (etag, f"W/{etag}"):
        again = ofrep.evaluate(targetingKey="a", etag=sent)
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)


def test_the_tag_is_the_callers_own(ofrep: Ofrep, make_rollout: MakeRollout) -> None:
    feature = make_rollout(percentage=100).feature
    etag = ofrep.evaluate(targetingKey="a").headers["ETag"]
    assert ofrep.evaluate(targetingKey="b", etag=etag).status_code == 200
    other = ofrep.evaluate(targetingKey="a", etag=etag, **{override_name(feature): "0"})
    assert flag_of(other, feature)["value"] is False


@pytest.mark.parametrize("change", ["stop", "percentage"])
def test_a_change_ends_the_304(ofrep: Ofrep, make_rollout: MakeRollout, change: str) -> None:
    feature = make_rollout(percentage=100).feature
    etag = ofrep.evaluate(targetingKey="a").headers["ETag"]
    if change == "stop":
        operations.stop(feature, reason="test")
    else:
        operations.set_percentage(feature, Decimal(0), reason="test")
    assert flag_of(ofrep.evaluate(targetingKey="a", etag=etag), feature)["value"] is False


def test_evaluating_costs_no_sql_while_nothing_changes(make_rollout: MakeRollout) -> None:
    feature = make_rollout().feature
    client = Client()
    body = json.dumps({"context": {"targetingKey": "a"}})
    client.post(FLAGS, body, content_type="application/json")
    with CaptureQueriesContext(connection) as queries:
        for path in (FLAGS, f"{FLAGS}/{feature}"):
            assert client.post(path, body, content_type="application/json").status_code == 200
    assert len(queries) == 0


# --- Refusals -----------------------------------------------------------------------------------------------

NO_NUMBERS = (b"NaN", b"Infinity", b"-Infinity")
REFUSED = [
    (b"", "PARSE_ERROR"),
    (b"{", "PARSE_ERROR"),
    (b"a=b", "PARSE_ERROR"),
    (b"[" * 100_000, "PARSE_ERROR"),
    (b'{"context": {"targetingKey": "\xff"}}', "PARSE_ERROR"),
    (b'{"context": {"targetingKey": "a", "x": ' + b"1" * 5000 + b"}}", "PARSE_ERROR"),
    (b'{"context": {"targetingKey": "\xed\xa0\x80"}}', "PARSE_ERROR"),
    ('{"context": {"targetingKey": "a"}}'.encode("utf-16"), "PARSE_ERROR"),
    *[(b'{"context": {"targetingKey": "a", "x": [%b]}}' % number, "PARSE_ERROR") for number in NO_NUMBERS],
    (b'{"context": {"targetingKey": "a", "emergency_rollback": 1, "emergency_rollback": 0}}', "PARSE_ERROR"),
    (b"[]", "INVALID_CONTEXT"),
    (b"null", "INVALID_CONTEXT"),
    (b'"context"', "INVALID_CONTEXT"),
    (b"{}", "INVALID_CONTEXT"),
    (b'{"context": null}', "INVALID_CONTEXT"),
    (b'{"context": []}', "INVALID_CONTEXT"),
    (b'{"context": {}}', "TARGETING_KEY_MISSING"),
    (b'{"context": {"targetingKey": null}}', "TARGETING_KEY_MISSING"),
    (b'{"context": {"targetingKey": ""}}', "TARGETING_KEY_MISSING"),
    (b'{"context": {"targetingKey": 5}}', "INVALID_CONTEXT"),
    (b'{"context": {"targetingKey": false}}', "INVALID_CONTEXT"),
    (b'{"context": {"targetingKey": ["a"]}}', "INVALID_CONTEXT"),
    (b'{"context": {"targetingKey": "%b"}}' % (b"a" * 257), "INVALID_CONTEXT"),
    (b'{"context": {"targetingKey": "%b"}}' % ("\N{EURO SIGN}" * 257).encode(), "INVALID_CONTEXT"),
]


@pytest.mark.parametrize(("body", "code"), REFUSED, ids=range(len(REFUSED)))
def test_a_request_that_cannot_be_evaluated_is_a_400_with_the_protocols_code(
    ofrep: Ofrep, make_rollout: MakeRollout, body: bytes, code: str
) -> None:
    feature = make_rollout().feature
    single = ofrep.post(f"{FLAGS}/{feature}", content=body)
    assert single.status_code == 400
    assert single.headers["Content-Type"] == "application/json"
    assert set(single.json()) == {"key", "errorCode", "errorDetails"}
    assert (single.json()["key"], single.json()["errorCode"]) == (feature, code)
    bulk = ofrep.post(FLAGS, content=body)
    assert bulk.status_code == 400
    assert set(bulk.json()) == {"errorCode", "errorDetails"}
    assert bulk.json()["errorCode"] == code


UNKNOWN = {
    "": "", "/": "/", "//": "//", "NO_SUCH": "NO_SUCH", "A/B": "A/B", "A%2FB": "A/B", "A/": "A/", "..%2F": "../",
    "%00": "\0", "%0A": "\n", "A%0A": "A\n", "%2F": "/", "ä": "ä", "<b>": "<b>", "%ff": "%FF",
}  # fmt: skip


@pytest.mark.parametrize("key", UNKNOWN)
def test_an_unknown_flag_is_a_404_with_its_key(ofrep: Ofrep, key: str) -> None:
    response = ofrep.evaluate(key, targetingKey="a")
    error = assert_error(response, 404, "FLAG_NOT_FOUND")
    assert error["key"] == UNKNOWN[key]


@pytest.mark.parametrize(
    "path",
    [
        "//ofrep", "///ofrep/v1", "//ofrep/v1/evaluate/flags",
        "/ofrep", "/ofrep/", "/ofrep//", "/ofrep/v1", "/ofrep/v1/", "/ofrep/v1/configuration",
        "/ofrep/v2/evaluate/flags",
        "/ofrep/v1/evaluate", "/ofrep/v1/evaluate/", "/ofrep/v1//evaluate/flags", "/ofrep//v1/evaluate/flags",
        "/ofrep/v1/evaluate/flagsA", "/ofrep/v1/evaluate/flags%0A", "/ofrep/v1/evaluate/flags%00", "/ofrep/%00",
        "/ofrep/%0A", "/ofrep/%ff", "/ofrep/V1/evaluate/flags", "/ofrep/index.html", "/ofrep/%3Cb%3E",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_address_is_a_404_in_the_protocols_form(ofrep: Ofrep, path: str, method: str) -> None:
    address = f"{str(ofrep.base_url).removesuffix('/')}{path}"  # whole: httpx would drop a second slash
    assert "key" not in assert_error(ofrep.request(method, address), 404, "GENERAL")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "text/json", "x"]
)
def test_a_body_of_another_type_is_refused(
    ofrep: Ofrep, make_rollout: MakeRollout, content_type: str
) -> None:
    feature = make_rollout().feature
    body, headers = b'{"context": {"targetingKey": "a"}}', {"Content-Type": content_type}
    error = assert_error(ofrep.post(f"{FLAGS}/{feature}", content=body, headers=headers), 400, "PARSE_ERROR")
    assert error["key"] == feature
    assert "application/json" in error["errorDetails"]
    assert_error(ofrep.post(FLAGS, content=body, headers=headers), 400, "PARSE_ERROR")


@pytest.mark.parametrize("content_type", ["", "Application/JSON", "application/json; charset=utf-8"])
def test_a_body_of_json_or_of_no_type_is_read(ofrep: Ofrep, content_type: str) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    body = b'\xef\xbb\xbf{"context": {"targetingKey": "a"}}'  # with a BOM, as some of .NET's clients send it
    assert ofrep.post(FLAGS, content=body, headers=headers).status_code == 200


@pytest.mark.parametrize("letter", ["a", "ä", "\N{GRINNING FACE}"])
def test_a_targeting_key_has_at_most_256_characters_not_bytes(
    ofrep: Ofrep, make_rollout: MakeRollout, letter: str
) -> None:
    feature = make_rollout(percentage=100).feature
    assert ofrep.evaluate(feature, targetingKey=letter * 256).json()["value"] is True
    error = assert_error(ofrep.evaluate(feature, targetingKey=letter * 257), 400, "INVALID_CONTEXT")
    assert "256" in error["errorDetails"]
    assert_error(
        ofrep.evaluate(targetingKey=letter * 250_000), 400, "INVALID_CONTEXT"
    ) if letter == "a" else None


def test_half_a_surrogate_pair_is_a_key_like_any_other(ofrep: Ofrep, make_rollout: MakeRollout) -> None:
    feature = make_rollout(percentage=100).feature
    body = b'{"context": {"targetingKey": "\\ud800"}}'
    assert ofrep.post(f"{FLAGS}/{feature}", content=body).json()["value"] is True
    assert ofrep.post(FLAGS, content=body).status_code == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_a_huge_body_is_refused_in_the_protocols_form(ofrep: Ofrep, *, chunked: bool) -> None:
    body = b'{"context": {"targetingKey": "' + b"a" * 300_000 + b'"}}'
    response = ofrep.post(FLAGS, content=iter([body]) if chunked else body)
    assert "key" not in assert_error(response, 413, "GENERAL")
    single = ofrep.post(f"{FLAGS}/A", content=iter([body]) if chunked else body)
    assert assert_error(single, 413, "GENERAL")["key"] == "A"


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"])
@pytest.mark.parametrize("path", [FLAGS, f"{FLAGS}/A", f"{FLAGS}/"])
def test_only_post_evaluates(ofrep: Ofrep, method: str, path: str) -> None:
    response = ofrep.request(method, path)
    error = assert_error(response, 405, "GENERAL")
    assert response.headers["Allow"] == "POST"
    assert error.get("key") == {FLAGS: None, f"{FLAGS}/A": "A", f"{FLAGS}/": ""}[path]
    head = ofrep.head(path)
    assert (head.status_code, head.headers["Allow"], head.content) == (405, "POST", b"")


def test_a_request_that_there_is_no_time_for_is_refused_in_the_protocols_form() -> None:
    for path, key in ((FLAGS, None), (f"{FLAGS}/A%2FB", "A/B"), ("/ofrep/v2", None)):
        shed = Client().post(path, {}, content_type="application/json", **{REJECTED: True})  # type: ignore[arg-type]
        error = shed.json()
        assert (shed.status_code, error["errorCode"], error.get("key")) == (503, "GENERAL", key)
        assert int(shed.headers["Retry-After"]) > 0


def test_a_host_that_is_not_ours_is_refused_in_the_protocols_form(ofrep: Ofrep) -> None:
    for path in (FLAGS, f"{FLAGS}/A", "/ofrep/v2"):
        response = ofrep.post(path, json={}, headers={"Host": "evil.example"})
        assert assert_error(response, 400, "GENERAL").get("key") == ("A" if path.endswith("/A") else None)


def test_no_fault_is_a_page_even_with_debug(database: None) -> None:
    """What another release left in the cache is no configuration of this one."""
    with running_server(workers=1, DEBUG="on") as broken, Ofrep(broken) as client:
        cache.set(configuration._key(), b"[]")
        try:
            assert "key" not in assert_error(client.evaluate(targetingKey="a"), 500, "GENERAL")
            assert assert_error(client.evaluate("A", targetingKey="a"), 500, "GENERAL")["key"] == "A"
            assert_error(client.get("/ofrep/v2"), 404, "GENERAL")
            assert_error(client.post(FLAGS, headers={"Host": "evil.example"}), 400, "GENERAL")
        finally:
            configuration.forget()
        assert "TypeError" in broken.log


@pytest.mark.parametrize("debug", [False, True])
@override_settings(ROOT_URLCONF="rollout.urls", MIDDLEWARE=[])
def test_any_project_that_includes_the_urls_answers_in_the_protocols_form(
    database: None, *, debug: bool
) -> None:
    client = Client(raise_request_exception=False)
    body = {"context": {"targetingKey": "a"}}
    with override_settings(DEBUG=debug, DATA_UPLOAD_MAX_MEMORY_SIZE=100):
        assert client.post("/ofrep/v2").json()["errorCode"] == "GENERAL"
        assert client.get(FLAGS).json()["errorCode"] == "GENERAL"
        huge = client.post(f"{FLAGS}/A", "a" * 101, content_type="application/json")
        assert (huge.status_code, huge.json()["key"], huge.json()["errorCode"]) == (413, "A", "GENERAL")
        cache.set(configuration._key(), b"[]")
        try:
            fault = client.post(f"{FLAGS}/A", body, content_type="application/json")
        finally:
            configuration.forget()
        assert (fault.status_code, fault.json()["key"], fault.json()["errorCode"]) == (500, "A", "GENERAL")


def test_a_browser_on_another_origin_may_send_the_protocols_credentials(ofrep: Ofrep) -> None:
    asked = "x-api-key, authorization, content-type, if-none-match"
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": asked}
    allowed = ofrep.options(FLAGS, headers={"Origin": ORIGIN, **preflight}).headers
    assert allowed["Access-Control-Allow-Origin"] == ORIGIN
    assert set(asked.split(", ")) <= set(allowed["Access-Control-Allow-Headers"].split(", "))
    body = {"context": {"targetingKey": "a"}}
    for sent in ({"X-API-Key": "any"}, {"Authorization": "Bearer any"}):
        answer = ofrep.post(FLAGS, json=body, headers={"Origin": ORIGIN, **sent})
        assert answer.status_code == 200
        assert "ETag" in answer.headers["Access-Control-Expose-Headers"]
    refused = ofrep.post("/ofrep/v2", headers={"Origin": ORIGIN})
    assert refused.headers["Access-Control-Allow-Origin"] == ORIGIN


def test_a_browser_session_needs_no_csrf_token_to_ask(server: Server, make_rollout: MakeRollout) -> None:
    make_rollout()
    cookies = {"sessionid": "x", "csrftoken": "y" * 32}
    body = {"context": {"targetingKey": "a"}}
    assert httpx.post(server.url + FLAGS, json=body, cookies=cookies).status_code == 200


def test_while_nobody_can_know_it_says_so_in_json_and_sdks_use_their_defaults(database: None) -> None:
    with (
        running_server(workers=1, DATABASE_URL="postgres://nobody@127.0.0.1:1/gone") as blind,
        Ofrep(blind) as client,
    ):
        for key in (None, "USE_FUND_STORE"):
            response = client.evaluate(key, targetingKey="a")
            assert assert_error(response, 503, "GENERAL").get("key") == key
            assert int(response.headers["Retry-After"]) > 0
            assert "127.0.0.1" not in response.text
