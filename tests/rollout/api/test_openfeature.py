"""OFREP works with OpenFeature's own SDKs, for Python and for the web.

Each test has a feature of its own whose name ends the frontends' vectors: ``<uuid>USE_FUND_STORE`` is the uuid
``<uuid>USE_FUND_ST`` and the feature ``ORE`` too, in the same bucket.
"""

import json
import subprocess
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import FlagEvaluationDetails

from rollout import configuration, operations
from rollout.models import Rollout
from tests.node import NODE, node_packages
from tests.servers import PROJECT, Server

FEATURE = "USE_FUND_STORE"
VECTORS: list[tuple[str, int]] = [
    (text, bucket)
    for text, _, bucket in json.loads(Path(__file__).parents[1].joinpath("vectors.json").read_text())
    if text.endswith(FEATURE)
]
STATES: dict[str, Callable[[str], object]] = {
    "0 %": lambda feature: operations.set_percentage(feature, Decimal(0), reason="test"),
    "10 %": lambda feature: operations.set_percentage(feature, Decimal(10), reason="test"),
    "50 %": lambda feature: operations.set_percentage(feature, Decimal(50), reason="test"),
    "100 %": lambda feature: operations.set_percentage(feature, Decimal(100), reason="test"),
    "stopped": lambda feature: operations.stop(feature, reason="test"),
    "released": lambda feature: operations.release(feature, reason="test"),
    "disabled": lambda feature: operations.configure(feature, {"enabled": False}, reason="test"),
}
SHARE = {"0 %": 0, "10 %": 10, "50 %": 50, "100 %": 100, "stopped": 0, "released": 100, "disabled": 0}
REASON = {"stopped": "DISABLED", "disabled": "DISABLED"}

Ask = Callable[[str, str], tuple[bool, str]]


def make_feature(name: str) -> str:
    assert FEATURE.endswith(name)
    Rollout.objects.create(feature=name, hash_version=1)
    configuration.forget()
    return name


@pytest.fixture
def python_client(server: Server) -> Iterator[OpenFeatureClient]:
    provider = OFREPProvider(server.url)
    api.set_provider(provider, domain="python-test")
    yield api.get_client(domain="python-test")
    api.shutdown()
    provider.session.close()


def details(
    client: OpenFeatureClient, feature: str, *, default: bool = False, **context: Any
) -> FlagEvaluationDetails[bool]:
    targeting_key = context.pop("targeting_key", None)
    return client.get_boolean_details(feature, default, EvaluationContext(targeting_key, context))


def test_the_python_sdk_evaluates_every_vector_in_every_state(python_client: OpenFeatureClient) -> None:
    feature = make_feature("STORE")
    assert len(VECTORS) >= 13
    for state, enter in STATES.items():
        enter(feature)
        for text, bucket in VECTORS:
            # The default is the wrong answer: an error would not look like success.
            expected = bucket < SHARE[state]
            answer = details(
                python_client, feature, default=not expected, targeting_key=text.removesuffix(feature)
            )
            assert answer.error_code is None, answer.error_message
            assert (answer.value, answer.variant) == (expected, "on" if expected else "off"), (state, text)
            assert answer.reason == REASON.get(state, "SPLIT")


def test_the_python_sdk_obeys_the_kill_switches_in_the_context(python_client: OpenFeatureClient) -> None:
    feature = make_feature("E")
    STATES["100 %"](feature)
    assert details(python_client, feature, targeting_key="a").value is True
    assert details(python_client, feature, default=True, targeting_key="a", ff_e="0").value is False
    for yes in ("true", "yes", True, 1, 1.0):
        stop = details(python_client, feature, default=True, targeting_key="a", emergency_rollback=yes)
        assert (stop.value, stop.flag_metadata["reason"]) == (False, "emergency_stop")


def test_the_python_sdk_understands_every_refusal(python_client: OpenFeatureClient) -> None:
    feature = make_feature("ORE")
    assert details(python_client, "NO_SUCH", targeting_key="a").error_code == "FLAG_NOT_FOUND"
    assert details(python_client, feature).error_code == "TARGETING_KEY_MISSING"
    assert details(python_client, feature, other=1).error_code == "TARGETING_KEY_MISSING"
    assert details(python_client, feature, targeting_key="a" * 257).error_code == "INVALID_CONTEXT"
    assert details(python_client, "", targeting_key="a").error_code == "FLAG_NOT_FOUND"
    wrong_type = python_client.get_string_details(feature, "default", EvaluationContext("a"))
    assert (wrong_type.value, wrong_type.error_code) == ("default", "TYPE_MISMATCH")


class WebClient:
    """The web SDK in a Node.js process of the test. Commands and answers are a line each."""

    def __init__(self, server: Server) -> None:
        node_packages()
        self.process = subprocess.Popen(
            [NODE, str(PROJECT / "tests" / "js" / "openfeature.mjs"), server.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, feature: str, default: bool, context: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(
            json.dumps({"feature": feature, "default": default, "context": context}) + "\n"
        )
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


@pytest.fixture
def web_client(server: Server) -> Iterator[WebClient]:
    client = WebClient(server)
    yield client
    client.close()


def test_the_web_sdk_evaluates_every_vector_in_every_state(web_client: WebClient) -> None:
    feature = make_feature("FUND_STORE")
    for state, enter in STATES.items():
        enter(feature)
        for text, bucket in VECTORS:
            expected = bucket < SHARE[state]
            answer = web_client.ask(feature, not expected, {"targetingKey": text.removesuffix(feature)})
            assert "errorCode" not in answer, answer
            assert (answer["value"], answer["variant"]) == (expected, "on" if expected else "off"), (
                state,
                text,
            )
            assert answer["reason"] == REASON.get(state, "SPLIT")


def test_the_web_sdk_obeys_the_kill_switches_in_the_context(web_client: WebClient) -> None:
    feature = make_feature("RE")
    STATES["100 %"](feature)
    assert web_client.ask(feature, False, {"targetingKey": "a"})["value"] is True
    assert web_client.ask(feature, True, {"targetingKey": "a", "ff_re": "0"})["value"] is False
    stopped = web_client.ask(feature, True, {"targetingKey": "a", "emergency_rollback": "true"})
    assert (stopped["value"], stopped["flagMetadata"]["reason"]) == (False, "emergency_stop")


def test_the_web_sdk_follows_a_stop_for_the_same_browser(web_client: WebClient) -> None:
    """The SDK sends If-None-Match by itself: a tag that did not cover the rollouts would keep the old flags."""
    feature = make_feature("TORE")
    STATES["100 %"](feature)
    first = web_client.ask(feature, False, {"targetingKey": "a"})
    again = web_client.ask(feature, False, {"targetingKey": "a"})
    operations.stop(feature, reason="test")
    after = web_client.ask(feature, True, {"targetingKey": "a"})
    assert [first["value"], again["value"], after["value"]] == [True, True, False]
    assert [first["status"], again["status"], after["status"]] == [200, 304, 200]


def test_the_web_sdk_understands_a_flag_that_is_not_there(web_client: WebClient) -> None:
    answer = web_client.ask("NO_SUCH", True, {"targetingKey": "a"})
    assert (answer["value"], answer["errorCode"]) == (True, "FLAG_NOT_FOUND")
