"""Equal values ⇔ equal fingerprints, and nothing but InvalidJSON for what is no JSON."""

import json
import random
import re
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from idempotency.fingerprint import canonical, compared, is_json, parse_json
from idempotency.problems import InvalidJSON


def fingerprint(**request: Any) -> UUID:
    return compared(**request).fingerprint


# --- Documents, and other spellings of them -----------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
numbers = st.integers() | st.decimals(allow_nan=False, allow_infinity=False, places=6).filter(
    lambda number: abs(number.adjusted()) < 300
)
scalars = st.none() | st.booleans() | numbers | texts
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def spell(document: Any, chance: random.Random) -> str:
    """Write ``document`` as JSON in one of its many spellings."""

    def space() -> str:
        return "".join(chance.choices(" \t\r\n", k=chance.choice((0, 0, 1, 2))))

    def text(value: str) -> str:
        return '"' + "".join(map(character, value)) + '"'

    def character(value: str) -> str:
        ways = ["".join(f"\\u{unit:04x}" for unit in _utf16(value))]
        short = {
            '"': '\\"',
            "\\": "\\\\",
            "\n": "\\n",
            "\t": "\\t",
            "\r": "\\r",
            "\b": "\\b",
            "\f": "\\f",
            "/": "\\/",
        }
        if value in short:
            ways.append(short[value])
        if value not in '"\\' and value >= " ":
            ways.append(value)
        way = chance.choice(ways)
        return way.upper().replace("\\U", "\\u") if way.startswith("\\u") and chance.random() < 0.3 else way

    if document is None or isinstance(document, bool):
        body = json.dumps(document)
    elif isinstance(document, str):
        body = text(document)
    elif isinstance(document, list):
        body = "[" + ",".join(spell(item, chance) for item in document) + (space() + "]")
    elif isinstance(document, dict):
        members = list(document.items())
        chance.shuffle(members)
        written = [f"{space()}{text(key)}{space()}:{spell(value, chance)}" for key, value in members]
        body = "{" + ",".join(written) + space() + "}"
    else:
        body = spell_number(Decimal(document), chance)
    return space() + body + space()


def spell_number(number: Decimal, chance: random.Random) -> str:
    """Move the decimal point and the exponent; add zeros: 1, 1.0, 10e-1, 0.01E+2."""
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    integer = "".join(map(str, digits)) + "0" * (zeros := chance.choice((0, 0, 1, 3)))
    exponent -= zeros
    point = chance.randint(0, len(integer))
    whole, fraction = integer[:point].lstrip("0") or "0", integer[point:]
    exponent += len(fraction)
    marker = f"{chance.choice('eE')}{chance.choice(('+', '')) if exponent >= 0 else ''}{exponent}"
    minus = "-" if sign else ("-" if not number and chance.random() < 0.5 else "")
    return (
        minus
        + whole
        + (f".{fraction}" if fraction else "")
        + (marker if exponent or chance.random() < 0.3 else "")
    )


def _utf16(value: str) -> list[int]:
    encoded = value.encode("utf-16-be")
    return [int.from_bytes(encoded[index : index + 2]) for index in range(0, len(encoded), 2)]


def same(one: Any, two: Any) -> bool:
    """Return whether two documents have one JSON value: unlike in Python, true is not 1."""
    if isinstance(one, bool) or isinstance(two, bool) or one is None or two is None:
        return one is two
    if isinstance(one, int | Decimal):
        return isinstance(two, int | Decimal) and one == two
    if isinstance(one, list):
        return isinstance(two, list) and len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, dict):
        return (
            isinstance(two, dict)
            and one.keys() == two.keys()
            and all(same(one[key], two[key]) for key in one)
        )
    return type(one) is type(two) and bool(one == two)


def mutate(document: Any, chance: random.Random) -> Any:
    """Return a document with another value."""
    if isinstance(document, list) and document and chance.random() < 0.7:
        place = chance.randrange(len(document))
        return [*document[:place], mutate(document[place], chance), *document[place + 1 :]]
    if isinstance(document, dict) and document and chance.random() < 0.7:
        key = chance.choice(list(document))
        if chance.random() < 0.3:
            return {other: value for other, value in document.items() if other != key}
        return document | {key: mutate(document[key], chance)}
    ways: list[Any] = [None, True, False, 0, "", [], {}, [document], {"": document}, str(document)]
    if isinstance(document, int | Decimal) and not isinstance(document, bool):
        ways += [document + 1, Decimal(str(document) + "1") if "E" not in str(document) else 0, -document]
    return chance.choice([way for way in ways if not same(way, document)])


def of(text: str) -> UUID:
    body = text.encode()
    return fingerprint(method="POST", path="/", query="", document=parse_json(body), body=body)


# --- The property -------------------------------------------------------------------------------------------


@given(documents, st.randoms(use_true_random=False))
def test_every_spelling_of_a_value_has_one_fingerprint(document: Any, chance: random.Random) -> None:
    assert of(spell(document, chance)) == of(spell(document, chance))


@given(documents, st.randoms(use_true_random=False))
def test_another_value_has_another_fingerprint(document: Any, chance: random.Random) -> None:
    other = mutate(document, chance)
    assert of(spell(document, chance)) != of(spell(other, chance))


@given(documents, documents)
def test_two_values_have_one_fingerprint_exactly_when_they_are_one(one: Any, two: Any) -> None:
    chance = random.Random(0)
    assert (of(spell(one, chance)) == of(spell(two, chance))) == same(one, two)


@given(documents, st.randoms(use_true_random=False))
def test_reading_gives_the_value_that_was_written(document: Any, chance: random.Random) -> None:
    assert same(parse_json(spell(document, chance).encode()), document)


@given(documents, st.randoms(use_true_random=False))
def test_the_canonical_text_is_itself_json_of_the_same_value(document: Any, chance: random.Random) -> None:
    text = canonical(parse_json(spell(document, chance).encode()))
    assert same(parse_json(text.encode()), document)
    assert canonical(parse_json(text.encode())) == text


@given(numbers, numbers)
@example(Decimal("0.1"), Decimal("0.1000000000000000055511151231257827"))  # one double, two numbers
@example(2**53, 2**53 + 1)
@example(Decimal("1e300"), Decimal("1e299"))
def test_numbers_compare_as_decimals(one: int | Decimal, two: int | Decimal) -> None:
    assert (canonical(one) == canonical(two)) == (one == two)


EQUAL = [
    ("1", "1.0", "1e0", "10e-1", "0.1e1", "0.01E+2", "100e-2", "1.000"),
    ("0", "-0", "0.0", "-0.0", "0e10", "0E-10", "-0e0"),
    ("100", "1e2", "1E+2", "100.0", "0.1e3"),
    ("-12.5", "-125e-1", "-12.50", "-0.125e2"),
    ('"é"', '"\\u00e9"', '"\\u00E9"'),
    ('"😀"', '"\\ud83d\\ude00"', '"\\uD83D\\uDE00"'),
    ('"/"', '"\\/"', '"\\u002f"'),
    ('{"a":1,"b":2}', '{"b":2,"a":1}', ' { "b" : 2 , "\\u0061" : 1 } '),
    ("null", " null", "null\n"),
]
DIFFERENT = [
    ("1", "true", '"1"', "[1]", '{"":1}', "1.0000000000000000000001", "-1", "10", "0.1"),
    ("0", "false", "null", '""', "[]", "{}", '"0"', "[0]", "[null]"),
    ("[1,2]", "[2,1]", "[1,2,2]", "[[1],2]", "[12]", '["1,2"]'),
    ('{"a":1}', '{"A":1}', '{"a":"1"}', '{"a":1,"b":null}', '[{"a":1}]', '["a",1]', '{"a":{"":1}}'),
    ('"é"', '"e\\u0301"'),
    ('"a"', '"a "', '"\\u0000a"', '"\\\\u0061"'),
    ('"\\ud83d\\ude00"', '"\\\\ud83d\\\\ude00"'),
]


@pytest.mark.parametrize("spellings", EQUAL, ids=lambda spellings: spellings[0])
def test_these_are_one_value(spellings: tuple[str, ...]) -> None:
    assert len({of(text) for text in spellings}) == 1


@pytest.mark.parametrize("values", DIFFERENT, ids=lambda values: values[0])
def test_these_are_different_values(values: tuple[str, ...]) -> None:
    assert len({of(text) for text in values}) == len(values)


# --- The rest of a request ----------------------------------------------------------------------------------

REQUEST: dict[str, Any] = {
    "method": "POST",
    "path": "/api/funds",
    "query": "",
    "document": {"a": 1},
    "body": b"",
}
CHANGES: list[dict[str, Any]] = [
    {"method": "PUT"},
    {"path": "/api/funds/"},
    {"query": "a=1"},
    {"path": "/api/fund", "query": "s"},
    {"document": {"a": 2}},
    {"document": None},
    {"document": ..., "body": b'{"a":1}'},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_each_part_of_a_request_counts(change: dict[str, Any]) -> None:
    assert fingerprint(**REQUEST) != fingerprint(**REQUEST | change)


@given(st.binary(), st.binary())
def test_bodies_that_are_not_json_compare_byte_for_byte(one: bytes, two: bytes) -> None:
    def raw(body: bytes) -> UUID:
        return fingerprint(method="POST", path="/", query="", body=body)

    assert (raw(one) == raw(two)) == (one == two)


def test_a_fingerprint_never_changes_because_stored_keys_would_conflict() -> None:
    assert str(fingerprint(**REQUEST)) == "c61ece83-2409-1bd4-6b15-753dfc6d9bba"


# --- What is no JSON ----------------------------------------------------------------------------------------


@given(st.binary(max_size=200))
@example(b"\xef\xbb\xbf{}")
@example(b"\xed\xa0\x80")
@example(b'"\\ud800"')
@example(b"1e" + b"9" * 5000)
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example(b"-")
@example(b"")
def test_any_bytes_are_json_or_invalid_json(body: bytes) -> None:
    check_bytes(body)


def check_bytes(body: bytes) -> None:
    try:
        document = parse_json(body)
    except InvalidJSON:
        return
    assert canonical(document)


@given(documents, st.randoms(use_true_random=False), st.data())
def test_a_damaged_document_is_json_or_invalid_json(document: Any, chance: random.Random, data: Any) -> None:
    body = bytearray(spell(document, chance).encode())
    place = data.draw(st.integers(0, len(body) - 1))
    body[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    check_bytes(bytes(body))


@given(texts, documents, documents)
def test_a_key_twice_is_refused_and_named(key: str, one: Any, two: Any) -> None:
    chance = random.Random(1)
    name = json.dumps(key)
    with pytest.raises(InvalidJSON, match="twice"):
        parse_json(f"[{{{name}: {spell(one, chance)}, {name}: {spell(two, chance)}}}]".encode())


@given(documents)
def test_python_reads_the_same_from_what_we_accept(document: Any) -> None:
    """Where a plain parser with exact numbers is content too, there is one meaning only."""
    text = spell(document, random.Random(2))
    assert same(json.loads(text, parse_float=Decimal), parse_json(text.encode()))


@pytest.mark.parametrize("levels", [1, 63, 64])
@pytest.mark.parametrize("pair", ["[]", '{"a":}'])
def test_64_levels_are_read(levels: int, pair: str) -> None:
    for inside in ("1", '""'):
        parse_json((pair[:-1] * levels + inside + pair[-1] * levels).encode())


@pytest.mark.parametrize("levels", [65, 66, 500, 5000, 100_000])
@pytest.mark.parametrize("pair", ["[]", '{"a":}'])
def test_more_than_64_levels_are_refused(levels: int, pair: str) -> None:
    for inside in ("1", "[]", "{}"):
        outside = levels - 1 if inside in {"[]", "{}"} else levels
        with pytest.raises(InvalidJSON):
            parse_json((pair[:-1] * outside + inside + pair[-1] * outside).encode())


def test_a_wide_document_is_not_deep() -> None:
    parse_json(b"[" + b"[1]," * 50_000 + b"1]")


@pytest.mark.parametrize("number", ["9" * 1000, "0." + "1" * 998, "1e1000", "1E-1000", "-1e+1000"])
def test_a_number_within_a_thousand_digits_is_exact(number: str) -> None:
    assert parse_json(number.encode()) == Decimal(number)


@pytest.mark.parametrize(
    "number", ["9" * 1001, "0." + "1" * 999, "1e1001", "1E-1001", "1e" + "0" * 999 + "1"]
)
def test_a_number_beyond_is_refused(number: str) -> None:
    with pytest.raises(InvalidJSON):
        parse_json(number.encode())


# --- Media types --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON", "application/json; charset=utf-8", "application/json;charset=x",
     " application/json ", "application/vnd.api+json", "application/problem+json; a=b"],
)  # fmt: skip
def test_json_is_known_by_its_media_type(content_type: str) -> None:
    assert is_json(content_type)


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "text/json", "application/jsonp", "application/json5", "xapplication/json", "application/*",
     "application/xml", "application/json, text/plain", "json", "multipart/form-data; a=application/json"],
)  # fmt: skip
def test_other_media_types_are_not_json(content_type: str) -> None:
    assert not is_json(content_type)


@given(documents, documents)
def test_same_agrees_with_itself(one: Any, two: Any) -> None:
    """The comparison that this file tests with is symmetric and reflexive."""
    assume(one is not two)
    assert same(one, one)
    assert same(one, two) == same(two, one)


SENTENCES = {
    b"": "at line 1, column 1: put a value here",
    b"{": "at line 1, column 2: put a key in double quotes here",
    b"{'a': 1}": "at line 1, column 2: put a key in double quotes here",
    b'{"a" 1}': "at line 1, column 6: put a colon here",
    b'{"a": 1 "b": 2}': "at line 1, column 9: put a comma here, or close",
    b'{"a":\n tru}': "at line 2, column 2: put a value here",
    b'{"a": "b': "at line 1, column 7: close the string",
    b'{"a": "\n"}': "at line 1, column 8: write this control character as an escape",
    b'{"a": "\\q"}': "correct the escape",
    b'{"a": "\\u12"}': "correct the escape",
    b"{} {}": "at line 1, column 4: remove what follows",
    b'{"a": NaN}': "NaN is not a JSON number: send a number",
    b"\xef\xbb\xbf{}": "begins with a byte order mark (U+FEFF): send UTF-8 without it",
    "{}".encode("utf-16"): "looks like UTF-16 or UTF-32: send it as UTF-8",
    "{}".encode("utf-16-le"): "looks like UTF-16 or UTF-32: send it as UTF-8",
    "{}".encode("utf-16-be"): "looks like UTF-16 or UTF-32: send it as UTF-8",
    "{}".encode("utf-32"): "looks like UTF-16 or UTF-32: send it as UTF-8",
    "{}".encode("utf-32-be"): "looks like UTF-16 or UTF-32: send it as UTF-8",
    b'{"a": "\xe9"}': "Send the body as UTF-8: its byte 7 is not",
}
# Python's own, which speak of Python, and differ by its version.
OF_PYTHON = re.compile("Expecting|Extra data|Unterminated|Invalid|Illegal|utf-8-sig|codec|delimiter")


@pytest.mark.parametrize(("body", "sentence"), SENTENCES.items(), ids=range(len(SENTENCES)))
def test_what_is_no_json_is_told_what_to_do(body: bytes, sentence: str) -> None:
    with pytest.raises(InvalidJSON) as refused:
        parse_json(body)
    assert sentence in refused.value.detail
    assert refused.value.detail.endswith(".")
    assert not OF_PYTHON.search(refused.value.detail)


@given(st.text(alphabet='{}[]:,"\\\n 01eEtrunflas-.', max_size=12))
def test_no_message_of_python_is_passed_on(text: str) -> None:
    try:
        parse_json(text.encode())
    except InvalidJSON as error:
        assert not OF_PYTHON.search(error.detail)  # noqa: PT017 - most texts raise it, some are JSON
        assert "correct what stands here" not in error.detail  # noqa: PT017 - likewise
