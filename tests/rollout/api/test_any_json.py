"""Telemetry and OFREP read whatever JSON there is, and say what is wrong with it."""

import json
import sys
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from django.test import RequestFactory
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rest_framework.exceptions import ParseError, ValidationError

from rollout import store
from rollout.api.ofrep import Refused, evaluation, read_context
from rollout.api.telemetry import Document, document_of, parse, read
from rollout.evaluation import Config

texts = st.text(st.characters(), max_size=6)  # with halves of surrogate pairs
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
GOOD = {
    "id": texts,
    "event": st.sampled_from(["heartbeat", "migration_failed", "error", "é"]),
    "category": st.sampled_from(["migration", "", "a\0"]) | texts,
    "ok": st.booleans() | st.none(),
    "at": st.datetimes().map(str) | st.just("9999-12-31T23:59:59-14:00"),
    "flag": st.sampled_from(["USE_FUND_STORE", "A\n"]),
    "variant": texts,
    "detail": anything,
}
events = st.fixed_dictionaries({}, optional={name: value | anything for name, value in GOOD.items()})
batches = st.fixed_dictionaries(
    {"clientId": texts, "sessionId": texts, "events": st.lists(events | anything, max_size=5)},
    optional={"dropped": st.integers(0, 2**70) | st.floats() | anything, "sentAt": anything},
)


@settings(derandomize=True, deadline=None)  # it writes to a database
@given(batches | anything)
@example({"clientId": "a", "sessionId": "b", "events": [], "dropped": float("inf")})
def test_each_event_is_stored_once_or_refused_by_its_index(database: None, document: Any) -> None:
    sent = json.loads(json.dumps(document))
    if isinstance(sent, dict) and isinstance(sent.get("clientId"), str):
        sent["clientId"] = (uuid.uuid4().hex + sent["clientId"])[:100]
    try:
        batch = parse(document_of(sent), tracks=lambda _flag: True)
    except ValidationError:
        return
    indexes = [each["index"] for each in batch.rejected]
    assert indexes == sorted(set(indexes))
    taken = [event for event in batch.events if not event.lost]
    assert len(taken) + len(indexes) == len(sent["events"])
    assert store.arrive(batch.events, batch.source) == len({event.id for event in taken})
    assert store.arrive(batch.events, batch.source) == 0


# --- Bodies of telemetry -------------------------------------------------------------------------------------------

odd = st.sampled_from(
    [
        *("-0", "-0.0", "01", "1.", "1e5", "1E400", "-1e999", "1e-400", "0.1e1", "NaN", "-Infinity", "+1"),
        *("9" * 19, "18446744073709551616", "-" + "9" * 30, "1" * 400, "1" * 5000, "1.7976931348623157e308"),
        *(
            '"\\ud800"',
            '"\\ud83d\\ude00"',
            '"\\udc00\\ud800"',
            '"\\u0000"',
            '"\\x"',
            '"\\u12"',
            '"\t"',
            '"\x00"',
        ),
        *("[1,]", '{"a": 1,}', '{"a": 1, "a": 2}', '{"\\ud800": 1}', "nul", "truex", "", "[[{}]]", "\ufeff1"),
        *('"é\U0001f600\u2028"', "'a'", "/**/1", "1 2"),
    ]
)
values = odd | anything.map(json.dumps) | texts.map(lambda text: json.dumps(text, ensure_ascii=False))


def members(*names: str) -> st.SearchStrategy[str]:
    """Return what stands in the braces of an object with some of these names and others, some twice."""
    name = st.sampled_from([*names, "other", "", "\\ud800"])
    pairs = st.lists(st.tuples(name, values), max_size=4)
    return pairs.map(lambda found: ", ".join(f'"{name}": {value}' for name, value in found))


sent = members(*GOOD).map(lambda inside: f"{{{inside}}}") | values
lists = st.lists(sent, max_size=3).map(lambda found: f'"events": [{", ".join(found)}]')
fields = members("clientId", "sessionId", "sentAt", "dropped", "ticket", "events")
documents = st.tuples(fields, lists).map(lambda parts: f"{{{', '.join(filter(None, parts))}}}")


@given((documents | values).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b'\xef\xbb\xbf{"events": []}')
@example('{"events": []}'.encode("utf-16"))
@example(b'{"events": [], "clientId": "\xff"}')
@example(b'{"events": [], "other": "\xff"}')
@example(b'{"events": [{"other": 01}]}')
def test_a_body_has_the_values_that_json_reads_in_it(body: bytes) -> None:
    """Texts are compared, because 1 equals ``True`` and NaN equals nothing."""

    def by_json() -> Document:
        try:
            return document_of(json.loads(body))
        except (ValueError, RecursionError):
            raise ParseError from None

    def outcome(reading: Callable[[], Document]) -> str:
        try:
            return repr(reading())
        except (ParseError, ValidationError) as error:
            return type(error).__name__

    assert outcome(lambda: read(body)) == outcome(by_json)


def test_a_detail_is_kept_or_nested_too_deeply() -> None:
    """To write it takes more of the stack than to read it."""
    outcomes = []
    # From Python 3.12 on, code in C has a limit of its own, some thousand levels later.
    for depth in (*range(1, sys.getrecursionlimit()), *range(1000, 60_000, 1000)):
        detail = "[" * depth + "]" * depth
        event = f'{{"id": "1", "event": "error", "detail": {detail}}}'
        body = f'{{"clientId": "a", "sessionId": "b", "events": [{event}]}}'
        try:
            outcomes.append(len(parse(read(body.encode()), tracks=bool).events))
        except ParseError:
            outcomes.append(0)
    assert outcomes == sorted(outcomes, reverse=True)
    assert (outcomes[0], outcomes[-1]) == (1, 0)


# --- OFREP --------------------------------------------------------------------------------------------------------

contexts = st.fixed_dictionaries(
    {"targetingKey": texts | anything},
    optional={
        "emergency_rollback": anything,
        "ff_useFundStore": anything | st.sampled_from(["1", "0", 0, 1.0]),
    },
)


@given(
    st.fixed_dictionaries({"context": contexts | anything}) | anything, st.sampled_from([1, 2]), st.booleans()
)
def test_any_context_is_evaluated_or_refused(document: Any, hash_version: int, enabled: bool) -> None:
    body = json.dumps(document).encode()
    request = RequestFactory().post("/", body, content_type="application/json")
    try:
        context = read_context(request)
    except Refused:
        return
    config = Config("USE_FUND_STORE", enabled, Decimal(50), emergency_stop=False, hash_version=hash_version)
    answer = evaluation(config, context)
    assert json.loads(json.dumps(answer)) == answer
    assert answer["variant"] == ("on" if answer["value"] else "off")
