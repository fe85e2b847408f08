"""OFREP 0.3 by its OpenAPI: answers, and refusals of requests that cannot be evaluated."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from rollout import operations
from rollout.api.ofrep import override_name
from tests.node import running_oracle
from tests.rollout.conftest import MakeRollout
from tests.servers import Server, running_server

FLAGS = "/ofrep/v1/evaluate/flags"
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

REFUSED = [
    (b"", "PARSE_ERROR"),
    (b"{", "PARSE_ERROR"),
    (b"a=b", "PARSE_ERROR"),
    (b"[" * 100_000, "PARSE_ERROR"),
    (b'{"context": {"targetingKey": "\xff"}}', "PARSE_ERROR"),
    (b'{"context": {"targetingKey": "a", "x": ' + b"1" * 5000 + b"}}", "PARSE_ERROR"),
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


@pytest.mark.parametrize("key", ["NO_SUCH", "A/B", "A%2FB", "%00", "%0A", "A%0A", "%ff", "ä", "<b>"])
def test_an_unknown_flag_is_a_404_with_its_key(ofrep: Ofrep, key: str) -> None:
    response = ofrep.evaluate(key, targetingKey="a")
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/json"
    assert set(response.json()) == {"key", "errorCode", "errorDetails"}
    assert response.json()["errorCode"] == "FLAG_NOT_FOUND"


def test_half_a_surrogate_pair_is_a_key_like_any_other(ofrep: Ofrep, make_rollout: MakeRollout) -> None:
    feature = make_rollout(percentage=100).feature
    body = b'{"context": {"targetingKey": "\\ud800"}}'
    assert ofrep.post(f"{FLAGS}/{feature}", content=body).json()["value"] is True
    assert ofrep.post(FLAGS, content=body).status_code == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_a_huge_body_is_refused_in_the_protocols_form(ofrep: Ofrep, *, chunked: bool) -> None:
    body = b'{"context": {"targetingKey": "' + b"a" * 300_000 + b'"}}'
    response = ofrep.post(FLAGS, content=iter([body]) if chunked else body)
    assert response.status_code == 413
    assert response.json()["errorCode"] == "GENERAL"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "BREW"])
@pytest.mark.parametrize("path", [FLAGS, f"{FLAGS}/USE_FUND_STORE"])
def test_only_post_evaluates(ofrep: Ofrep, method: str, path: str) -> None:
    response = ofrep.request(method, path)
    assert (response.status_code, response.headers["Allow"], response.text) == (405, "POST", "")


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
            assert response.status_code == 503
            assert response.json()["errorCode"] == "GENERAL"
            assert "127.0.0.1" not in response.text
