"""Telemetry and OFREP read whatever JSON there is, and say what is wrong with it."""

import json
import uuid
from decimal import Decimal
from typing import Any

from django.test import RequestFactory
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rest_framework.exceptions import ValidationError

from rollout import store
from rollout.api.ofrep import Refused, evaluation, read_context
from rollout.api.telemetry import parse
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
        batch = parse(sent, tracks=lambda _flag: True)
    except ValidationError:
        return
    indexes = [each["index"] for each in batch.rejected]
    assert indexes == sorted(set(indexes))
    taken = [event for event in batch.events if not event.lost]
    assert len(taken) + len(indexes) == len(sent["events"])
    assert store.arrive(batch.events) == len({event.id for event in taken})
    assert store.arrive(batch.events) == 0


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
