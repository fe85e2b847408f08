"""A project can translate what the app says to its clients."""

import json
from typing import Any

import pytest
from django.test import RequestFactory

from idempotency import idempotent
from idempotency.fingerprint import parse_json
from idempotency.keys import parse
from idempotency.marks import marks
from idempotency.middleware import IdempotencyMiddleware
from idempotency.problems import IdempotencyError, translated


def upper(text: str) -> str:
    """Stand in for a catalogue: the placeholders stay."""
    return "".join(part if number % 2 else part.upper() for number, part in enumerate(_split(text)))


def _split(text: str) -> list[str]:
    parts, rest = [], text
    while "%(" in rest:
        before, _, after = rest.partition("%(")
        name, _, rest = after.partition(")s")
        parts += [before, f"%({name})s"]
    return [*parts, rest]


SAID = {
    "a fault": lambda: parse("x" * 256, environment="e", operation="o"),
    "a character": lambda: parse("a b", environment="e", operation="o"),
    "another environment": lambda: parse("x|o|k", environment="e", operation="o"),
    "another operation": lambda: parse("e|x|k", environment="e", operation="o"),
    "a missing key": lambda: parse(None, environment="e", operation="o"),
    "a place": lambda: parse_json(b'{"a": 1 "b": 2}'),
    "a key twice": lambda: parse_json(b'{"a": 1, "a": 2}'),
    "a number": lambda: parse_json(b"1e1001"),
    "a depth": lambda: parse_json(b"[" * 65 + b"]" * 65),
    "bytes": lambda: parse_json(b'"\xff"'),
}


@pytest.mark.parametrize("case", SAID)
def test_every_word_of_a_problem_is_translated(case: str) -> None:
    with pytest.raises(IdempotencyError) as raised:
        SAID[case]()
    error = raised.value
    text = translated(error.text, upper)
    assert text.upper() == error.detail.upper()
    assert text != error.detail
    assert type(error.detail) is str


def test_an_answer_is_in_the_language_of_its_request(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = {"Idempotency-Key is missing": "Der Idempotency-Key fehlt"}
    monkeypatch.setattr("idempotency.protocol.gettext", lambda text: catalogue.get(text, text))
    view: Any = marked(lambda _: None)
    answer: Any = IdempotencyMiddleware(view)(RequestFactory().post("/"))
    assert json.loads(answer.content)["title"] == "Der Idempotency-Key fehlt"


def marked(view: Any) -> Any:
    guarded = idempotent(operation="german", admit=lambda _request, _view: "me")(view)
    # No URL leads to it, which the system checks of other tests would refuse.
    marks.discard(guarded.idempotent)
    return guarded
