"""Requests to ``/api/funds`` and their responses (design §2), over HTTP to a running server."""

import base64
import gc
import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import msgspec
import pytest
from django.contrib.auth.models import User
from django.core.handlers.wsgi import WSGIHandler
from django.test import RequestFactory
from rest_framework.response import Response

from fundapi.models import Fund
from tests.answers import assert_problem, errors_of, funds_of
from tests.conftest import FUND, ORIGIN, Api, token_of
from tests.obedience import CRASH, DEADLOCK, FAIL_AT_COMMIT
from tests.servers import Server, running_server

LIMIT = 256 * 1024  # bytes of a body


@pytest.fixture(scope="module")
def debug_server(database: None) -> Iterator[Server]:
    with running_server(workers=1, DEBUG="true") as running:
        yield running


def exact(response: httpx.Response) -> Any:
    """Return the body with exact numbers, without floats."""
    return json.loads(response.text, parse_float=Decimal)


def post(api: Api, body: str | bytes) -> httpx.Response:
    return api.create(body=body)


def with_field(name: str, literal: str) -> str:
    """A valid fund as JSON text, with one member as the test spells it."""
    members = {field: json.dumps(value) for field, value in FUND.items()} | {name: literal}
    return "{" + ", ".join(f"{json.dumps(field)}: {value}" for field, value in members.items()) + "}"


# --- What comes back ----------------------------------------------------------------------------------------


def test_a_fund_is_created_and_shown_with_all_its_fields(api: Api, user: User) -> None:
    body = {
        "name": "Harbor Growth II",
        "size": Decimal("1250000.55"),
        "managementFee": Decimal("0.015"),
        "carryPercentage": Decimal("0.25"),
        "vintageYear": 2031,
        "modelVersion": "v2.1",
        "engineResults": {"irr": Decimal("0.1234"), "flows": [-1, 2]},
    }
    created = post(api, msgspec.json.Encoder(decimal_format="number").encode(body))
    assert created.status_code == 201, created.text
    fund = exact(created)
    assert fund | body == fund
    assert set(fund) == set(body) | {"id", "createdAt"}
    assert isinstance(fund["id"], int)
    created_at = datetime.fromisoformat(fund["createdAt"])
    assert created_at.utcoffset() is not None
    assert abs((datetime.now(UTC) - created_at).total_seconds()) < 60
    shown = api.get(created.headers["Location"])
    assert shown.status_code == 200
    assert exact(shown) == fund
    assert Fund.objects.get(pk=fund["id"]).owner_id == user.pk


def test_absent_fields_get_their_defaults(api: Api) -> None:
    fund = exact(post(api, '{"name": "Harbor", "size": 1}'))
    assert fund["managementFee"] == Decimal("0.02")
    assert fund["carryPercentage"] == Decimal("0.20")
    assert fund["vintageYear"] == datetime.now(UTC).year
    assert fund["modelVersion"] is None
    assert fund["engineResults"] is None


# --- Field by field -----------------------------------------------------------------------------------------

ACCEPTED = [
    ("name", '"x"', "x"),
    ("name", json.dumps("n" * 200), "n" * 200),
    ("name", json.dumps("  " + "n" * 200 + "\\t ".replace("\\t", "\t")), "n" * 200),
    ("name", json.dumps("😀" * 200), "😀" * 200),
    ("name", '"\\ud83d\\ude00"', "😀"),
    ("name", '"<b>&amp;\'\\"</b>"', "<b>&amp;'\"</b>"),
    ("name", json.dumps("\u202eHarbor\u200b"), "\u202eHarbor\u200b"),
    ("name", json.dumps("👩\u200d👩\u200d👧\ufe0f"), "👩\u200d👩\u200d👧\ufe0f"),
    ("name", json.dumps("می\u200cشود"), "می\u200cشود"),
    ("name", json.dumps("e\u0301"), "e\u0301"),  # as it is sent, not composed
    ("size", "0", 0),
    ("size", "-0", 0),
    ("size", "-0.00", 0),
    ("size", "0e5", 0),
    ("size", "0.01", Decimal("0.01")),
    ("size", "1.10", Decimal("1.1")),
    ("size", "1.1000000000000000000000000000000000000", Decimal("1.1")),
    ("size", "1e2", 100),
    ("size", "12345e-2", Decimal("123.45")),
    ("size", "999999999999999999.99", Decimal("999999999999999999.99")),
    ("size", "900719925474099301.07", Decimal("900719925474099301.07")),  # no double holds it
    ("managementFee", "0", 0),
    ("managementFee", "0.1", Decimal("0.1")),
    ("managementFee", "0.10000", Decimal("0.1")),
    ("managementFee", "0.000001", Decimal("0.000001")),
    ("managementFee", "0.099999", Decimal("0.099999")),
    ("carryPercentage", "0", 0),
    ("carryPercentage", "0.5", Decimal("0.5")),
    ("carryPercentage", "5e-1", Decimal("0.5")),
    ("vintageYear", "2000", 2000),
    ("vintageYear", "2100", 2100),
    ("vintageYear", "2025.0", 2025),
    ("vintageYear", "2.025e3", 2025),
    ("modelVersion", "null", None),
    ("modelVersion", '""', ""),
    ("modelVersion", json.dumps("v" * 50), "v" * 50),
    ("engineResults", "null", None),
    ("engineResults", "{}", {}),
    ("engineResults", '{"": {"a": []}}', {"": {"a": []}}),
]


@pytest.mark.parametrize(("field", "literal", "kept"), ACCEPTED)
def test_a_value_within_the_rule_is_kept_exactly(api: Api, field: str, literal: str, kept: Any) -> None:
    created = post(api, with_field(field, literal))
    assert created.status_code == 201, created.text
    assert exact(created)[field] == kept
    assert exact(api.get(created.headers["Location"]))[field] == kept


INVISIBLE = [
    *(
        "\u200b",
        "\u200d",
        "\u2060",
        "\ufeff",
        "\u00ad",
        "\u3164",
        "\u115f",
        "\uffa0",
        "\u2800",
        "\ufe0f",
        "\u202e",
    ),
    *("\u2066", "\u061c", "\u180e", "\u034f", "\u0001", "\U000e0041", "\U000e0100", "\u2028", "\u3000"),
]
HUGE = "1" + "0" * 29
REFUSED = [
    ("name", '""', "blank"),
    ("name", '"   \\t\\n\\u00a0"', "blank"),
    *(("name", json.dumps(f" {hidden} {hidden}"), "blank") for hidden in INVISIBLE),
    ("name", json.dumps("".join(INVISIBLE)), "blank"),
    ("name", json.dumps("n" * 201), "max_length"),
    ("name", json.dumps("😀" * 201), "max_length"),
    ("name", "null", "null"),
    ("name", "1", "invalid"),
    ("name", "true", "invalid"),
    ("name", "[]", "invalid"),
    ("name", '{"a": 1}', "invalid"),
    ("name", '"a\\u0000b"', "null_characters_not_allowed"),
    ("size", '"1"', "invalid"),
    ("size", '"NaN"', "invalid"),
    ("size", "true", "invalid"),
    ("size", "false", "invalid"),
    ("size", "null", "null"),
    ("size", "[]", "invalid"),
    ("size", "{}", "invalid"),
    ("size", "-0.01", "min_value"),
    ("size", "-1", "min_value"),
    ("size", "-1e-400", "min_value"),
    ("size", "0.001", "max_decimal_places"),
    ("size", "1e-400", "max_decimal_places"),
    ("size", "1.00000000000000000000000000000000000001", "max_decimal_places"),
    ("size", "999999999999999999.991", "max_value"),
    ("size", "1000000000000000000", "max_value"),
    ("size", HUGE, "max_value"),
    ("size", HUGE + ".5", "max_value"),
    ("size", "1e400", "max_value"),
    ("size", "1e1000", "max_value"),
    ("size", "-1e400", "min_value"),
    ("managementFee", "0.100001", "max_value"),
    ("managementFee", "0.1000000000000000055511151231257827", "max_value"),  # what a double makes of 0.1
    ("managementFee", "-0.000001", "min_value"),
    ("managementFee", "0.0000001", "max_decimal_places"),
    ("managementFee", '"0.02"', "invalid"),
    ("managementFee", "null", "null"),
    ("managementFee", "2", "max_value"),
    ("carryPercentage", "0.500001", "max_value"),
    ("carryPercentage", "-1", "min_value"),
    ("carryPercentage", "20", "max_value"),
    ("carryPercentage", "null", "null"),
    ("vintageYear", "1999", "min_value"),
    ("vintageYear", "2101", "max_value"),
    ("vintageYear", "2025.5", "invalid"),
    ("vintageYear", '"2025"', "invalid"),
    ("vintageYear", "true", "invalid"),
    ("vintageYear", "null", "null"),
    ("vintageYear", HUGE, "max_value"),
    ("vintageYear", HUGE + ".0", "max_value"),
    ("vintageYear", HUGE + ".5", "max_value"),
    ("vintageYear", "1e400", "max_value"),
    ("vintageYear", "-1e1000", "min_value"),
    ("vintageYear", "1e-1000", "min_value"),
    ("modelVersion", json.dumps("v" * 51), "max_length"),
    ("modelVersion", "2", "invalid"),
    ("modelVersion", '"\\u0000"', "null_characters_not_allowed"),
    ("engineResults", "[]", "invalid"),
    ("engineResults", '"{}"', "invalid"),
    ("engineResults", "0", "invalid"),
    ("engineResults", "false", "invalid"),
    ("engineResults", '{"a": "\\u0000"}', "null_character"),
    ("engineResults", '{"a": [{"\\u0000": 1}]}', "null_character"),
    ("id", "1", "unknown_field"),
    ("owner", "1", "unknown_field"),
    ("createdAt", '"2020-01-01T00:00:00Z"', "unknown_field"),
    ("management_fee", "0.02", "unknown_field"),
    ("Name", '"x"', "unknown_field"),
    ("", "1", "unknown_field"),
    ("__class__", "1", "unknown_field"),
    ("\u0000", "1", "unknown_field"),
]


@pytest.mark.parametrize(("field", "literal", "code"), REFUSED)
def test_a_value_outside_the_rule_is_refused_by_field_and_code(
    api: Api, user: User, field: str, literal: str, code: str
) -> None:
    problem = assert_problem(post(api, with_field(field, literal)), 400, "validation_error")
    assert errors_of(problem) == {(field, code)}
    assert funds_of(user) == 0


def test_all_wrong_fields_are_named_at_once(api: Api) -> None:
    problem = assert_problem(post(api, '{"size": -1, "vintageYear": "x"}'), 400, "validation_error")
    assert errors_of(problem) == {("name", "required"), ("size", "min_value"), ("vintageYear", "invalid")}


def test_all_unknown_fields_are_named_at_once(api: Api) -> None:
    problem = assert_problem(post(api, json.dumps(FUND | {"b": 1, "a": 2})), 400, "validation_error")
    assert errors_of(problem) == {("a", "unknown_field"), ("b", "unknown_field")}


NUMBERS = [
    "0.1",
    "0.10000000000000001",
    "1.10",
    "123456789012345678901234567890",
    "-123456789012345678901234567890.123456789",
    "18446744073709551616",
    "9007199254740993",
    "1e400",
    "1E-400",
    "-2.5e-7",
    "-0.0",
    "0e-10",
    "9" * 1000,
    "1e1000",
]


@pytest.mark.parametrize("literal", NUMBERS, ids=lambda literal: literal[:40])
def test_numbers_in_engine_results_are_kept_digit_by_digit(api: Api, literal: str) -> None:
    created = post(api, with_field("engineResults", f'{{"n": {literal}, "in": [{{"deep": {literal}}}]}}'))
    assert created.status_code == 201, created.text[:300]
    for response in (created, api.get(created.headers["Location"])):
        results = json.loads(response.text, parse_float=Decimal, parse_int=Decimal)["engineResults"]
        assert results == {"n": Decimal(literal), "in": [{"deep": Decimal(literal)}]}


def test_engine_results_keep_every_kind_of_text(api: Api) -> None:
    texts = {"ключ": '\u2028 \x7f 😀 \\ / " \b', "": "", "<script>": "</script>"}
    created = api.create(body=FUND | {"engineResults": texts})
    assert created.json()["engineResults"] == texts
    assert api.get(created.headers["Location"]).json()["engineResults"] == texts


# --- Bodies -------------------------------------------------------------------------------------------------

GOOD = json.dumps(FUND)
BROKEN = {
    "no JSON": b"hello",
    "cut off": GOOD[:-1].encode(),
    "two documents": (GOOD + GOOD).encode(),
    "trailing comma": (GOOD[:-1] + ",}").encode(),
    "single quotes": GOOD.replace('"', "'").encode(),
    "comment": (GOOD + "// x").encode(),
    "control character in a string": b'{"name": "a\nb", "size": 1}',
    "invalid escape": b'{"name": "\\x41", "size": 1}',
    "NaN": with_field("size", "NaN").encode(),
    "Infinity": with_field("size", "Infinity").encode(),
    "-Infinity": with_field("engineResults", '{"a": -Infinity}').encode(),
    "leading zero": with_field("size", "01").encode(),
    "leading plus": with_field("size", "+1").encode(),
    "no digit before the point": with_field("size", ".5").encode(),
    "no digit after the point": with_field("size", "5.").encode(),
    "hexadecimal": with_field("size", "0x10").encode(),
    "digits with underscores": with_field("size", "1_000").encode(),
    "digits of another script": with_field("size", "\u0661").encode(),
    "a number of 1001 digits": with_field("size", "1" * 1001).encode(),
    "a number of 100,000 digits": with_field("size", "1" * 100_000).encode(),
    "an exponent of 100,000 digits": with_field("size", "1e" + "9" * 100_000).encode(),
    "a huge exponent": with_field("size", "1e1001").encode(),
    "a huge negative exponent": with_field("size", "1e-999999999999").encode(),
    "duplicate key": b'{"name": "a", "size": 1, "size": 1}',
    "duplicate key by escape": b'{"name": "a", "size": 1, "siz\\u0065": 2}',
    "duplicate key deep inside": with_field("engineResults", '{"a": [{"b": 1, "b": 1}]}').encode(),
    "lone high surrogate": with_field("name", '"\\ud800"').encode(),
    "lone low surrogate": with_field("name", '"\\udc00x"').encode(),
    "swapped surrogates": with_field("name", '"\\ude00\\ud83d"').encode(),
    "lone surrogate in a key": with_field("engineResults", '{"\\ud800": 1}').encode(),
    "surrogate as UTF-8": b'{"name": "\xed\xa0\x80", "size": 1}',
    "not UTF-8": b'{"name": "\xff", "size": 1}',
    "Latin-1": '{"name": "é", "size": 1}'.encode("latin-1"),
    "UTF-16": GOOD.encode("utf-16"),
    "UTF-32": GOOD.encode("utf-32"),
    "BOM": b"\xef\xbb\xbf" + GOOD.encode(),
    "65 levels": with_field("engineResults", '{"a":' * 64 + "1" + "}" * 64).encode(),
    "65 levels, empty inside": b"[" * 65 + b"]" * 65,
    "1,000 levels": b"[" * 1000 + b"]" * 1000,
    "100,000 levels": b"[" * 100_000 + b"]" * 100_000,
    "100,000 levels of objects": b'{"a":' * 40_000 + b"1" + b"}" * 40_000,
    "100,000 levels left open": b"[" * 200_000,
    "only white space": b" \n ",
    "NUL": b"\0",
}  # fmt: skip


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
def test_a_body_that_two_parsers_could_read_differently_is_refused(api: Api, user: User, body: bytes) -> None:
    assert_problem(post(api, body), 400, "parse_error")
    assert funds_of(user) == 0


NO_OBJECT = ["[]", '"x"', "1", "true", "null", "[" + GOOD + "]", "1.5"]


@pytest.mark.parametrize("body", NO_OBJECT)
def test_a_body_that_is_no_object_is_refused(api: Api, body: str) -> None:
    problem = assert_problem(post(api, body), 400, "validation_error")
    assert {field for field, _ in errors_of(problem)} == {""}


@pytest.mark.parametrize("body", [b"", b"{}"])
def test_an_empty_body_names_what_is_missing(api: Api, body: bytes) -> None:
    problem = assert_problem(post(api, body), 400, "validation_error")
    assert errors_of(problem) == {("name", "required"), ("size", "required")}


def test_64_levels_are_not_too_deep(api: Api) -> None:
    nested = '{"a":' * 62 + "[1]" + "}" * 62  # the fund itself is one more, the array another
    assert post(api, with_field("engineResults", nested)).status_code == 201


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/xml", "multipart/form-data; boundary=x", "text/json", "application/*", "*/*", "json",
     "application/vnd.api+json"],
)  # fmt: skip
def test_another_content_type_than_json_is_refused(api: Api, user: User, content_type: str) -> None:
    response = api.create(**{"Content-Type": content_type})
    assert_problem(response, 415, "unsupported_media_type")
    assert funds_of(user) == 0


def test_a_body_without_a_content_type_is_refused(server: Server, user: User, key: str) -> None:
    headers = {"Authorization": f"Bearer {token_of(user)}", "Idempotency-Key": key}
    response = httpx.post(f"{server.url}/api/funds", content=GOOD.encode(), headers=headers)
    assert_problem(response, 415, "unsupported_media_type")


def padded(size: int) -> bytes:
    return GOOD[:-1].encode() + b" " * (size - len(GOOD)) + b"}"


def test_a_body_of_exactly_the_limit_is_accepted(api: Api) -> None:
    assert post(api, padded(LIMIT)).status_code == 201


def test_a_body_over_the_limit_is_refused(api: Api, user: User) -> None:
    problem = assert_problem(post(api, padded(LIMIT + 1)), 413, "body_too_large")
    assert str(LIMIT) in problem["detail"]
    assert funds_of(user) == 0


def test_a_body_far_over_the_limit_is_refused_by_its_announced_length(server: Server, user: User) -> None:
    """The server responds after the headers, before it reads the body."""
    head = (
        f"POST /api/funds HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token_of(user)}\r\n"
        "Content-Type: application/json\r\nIdempotency-Key: k\r\nContent-Length: 10000000000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head.encode())
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"application/problem+json" in answer.replace(b"Application", b"application")


def chunked(api: Api, chunks: Iterator[bytes], key: str) -> httpx.Response:
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    return api.post("/api/funds", content=chunks, headers=headers)


def test_a_chunked_body_is_read_like_any_other(api: Api, key: str) -> None:
    created = chunked(api, iter([GOOD[:10].encode(), GOOD[10:].encode()]), key)
    assert created.status_code == 201, created.text
    assert api.create(key, GOOD).content == created.content


def test_a_chunked_body_of_exactly_the_limit_is_accepted(api: Api, key: str) -> None:
    whole = padded(LIMIT)
    assert chunked(api, iter([whole[:100_000], whole[100_000:]]), key).status_code == 201


def test_a_chunked_body_over_the_limit_is_refused(api: Api, user: User, key: str) -> None:
    whole = padded(LIMIT + 1)
    response = chunked(api, iter([whole[:100_000], whole[100_000:]]), key)
    assert_problem(response, 413, "body_too_large")
    assert funds_of(user) == 0
    assert api.create(key).status_code == 201


# --- What a fund is when it is written out ------------------------------------------------------------------

LARGE = {
    "1e1000": 261_500 // 1002,  # 1,001 digits and a comma
    "-9.5e999": 261_500 // 1002,
    "1e-1000": 261_500 // 1003,
    "0e-1000": 261_500 // 1003,
    "0.5e-999": 261_500 // 1003,
    "0e1000": 261_500 // 8,  # zero, but written with its exponent in the first answer
    '"\\u0001"': 261_500 // 9,
    '"é"': 261_500 // 5,
    "[]": 261_500 // 3,
}


def repeated(literal: str, times: int) -> str:
    return with_field("engineResults", '{"a":[' + ",".join([literal] * times) + "]}")


def test_an_answer_names_few_unknown_fields(api: Api) -> None:
    """256 KiB of unknown fields were an answer of 5 MB."""
    body = "{" + ",".join(f'"{number}": 0' for number in range(20_000)) + "}"
    refused = post(api, body)
    assert len(assert_problem(refused, 400, "validation_error")["errors"]) == 20
    assert len(post(api, f'{{"{"k" * 250_000}": 0}}').content) < 1000


@pytest.mark.parametrize("literal", LARGE)
def test_a_fund_that_fits_when_written_digit_by_digit_is_kept(api: Api, literal: str) -> None:
    created = post(api, repeated(literal, LARGE[literal] - 2))
    assert created.status_code == 201, created.text[:500]
    assert len(created.content) <= LIMIT
    shown = api.get(created.headers["Location"])
    assert len(shown.content) <= LIMIT
    assert exact(shown)["engineResults"] == exact(created)["engineResults"]


@pytest.mark.parametrize("literal", ["-9.5e999", "1e-1000", "0e-1000"])
@pytest.mark.parametrize("times", [263, 28_000])
def test_a_fund_that_is_larger_when_written_digit_by_digit_is_refused(
    api: Api, user: User, literal: str, times: int
) -> None:
    problem = assert_problem(post(api, repeated(literal, times)), 400, "validation_error")
    assert errors_of(problem) == {("engineResults", "too_large")}
    (error,) = problem["errors"]
    size, limit = map(int, re.findall("[0-9]{6,}", error["detail"]))
    assert limit == LIMIT
    assert 0 < size - times * 1000 < times * 10 + 500
    assert funds_of(user) == 0


@pytest.mark.parametrize("place", ['{"a":' * 60 + "[%s]" + "}" * 60, '{"a":{"b":[[%s]]}}'])
def test_numbers_count_at_any_depth(api: Api, place: str) -> None:
    body = with_field("engineResults", place % ",".join(["1e1000"] * 300))
    assert errors_of(post(api, body).json()) == {("engineResults", "too_large")}


def test_numbers_count_as_values_of_keys_and_not_in_texts(api: Api) -> None:
    members = ",".join(f'"{number}": 1e1000' for number in range(300))
    body = with_field("engineResults", f"{{{members}}}")
    assert errors_of(post(api, body).json()) == {("engineResults", "too_large")}
    assert post(api, repeated('"1E+1000"', 10_000)).status_code == 201


# --- Reading ------------------------------------------------------------------------------------------------

PAGE_LIMIT = 1024 * 1024  # bytes of a page


def store(owner: User, results: Any) -> int:
    """Store a fund as an older release may have."""
    fund = Fund.objects.create(
        owner=owner,
        name="Old",
        size=1,
        management_fee=0,
        carry_percentage=0,
        vintage_year=2020,
        engine_results=results,
    )
    return int(fund.pk)


def turned(api: Api, address: str, link: str) -> Iterator[tuple[httpx.Response, list[int]]]:
    """Yield each page from ``address`` on, and the ids in it."""
    following: str | None = address
    while following is not None:
        response = api.get(following)
        assert response.status_code == 200, response.text[:500]
        page = response.json()
        yield response, [fund["id"] for fund in page["results"]]
        following = page[link]


@pytest.mark.parametrize("page_size", [3, 200])
def test_a_page_has_at_most_a_mebibyte_and_the_next_one_goes_on(api: Api, user: User, page_size: int) -> None:
    larger = {"a": [Decimal("1e1000")] * 2000}  # 2 MB
    of = {
        "-": None,
        "s": {"irr": Decimal("0.2")},
        "m": {"a": "é" * 65_000},
        "l": {"a": "x" * 261_000},
        "x": larger,
    }
    stored = [store(user, of[kind]) for kind in "-sslllllmmmmmmmmm--xx-sxmml"][::-1]
    pages = list(turned(api, f"/api/funds?pageSize={page_size}", "next"))
    assert [identifier for _, ids in pages for identifier in ids] == stored
    for response, ids in pages:
        assert len(response.content) <= PAGE_LIMIT or len(ids) == 1
    assert sum(len(response.content) > PAGE_LIMIT for response, _ in pages) == 3
    if page_size == 200:
        assert len(pages) < 12
    last = f"/api/funds?cursor={cursor('r=1&p=0')}&pageSize={page_size}"
    back = list(turned(api, last, "previous"))
    assert [identifier for _, ids in back for identifier in ids[::-1]] == stored[::-1]
    for response, ids in back:
        assert len(response.content) <= PAGE_LIMIT or len(ids) == 1
        if ids[-1:] and ids[-1] != stored[-1]:
            assert (
                next(turned(api, response.json()["next"], "next"))[1][0] == stored[stored.index(ids[-1]) + 1]
            )


def test_names_count_towards_a_page(api: Api, user: User) -> None:
    store(user, {"a": "x" * 600_000})
    for _ in range(198):
        Fund.objects.create(
            owner=user,
            name="\u0001" * 200,
            size=1,
            management_fee=0,
            carry_percentage=0,
            vintage_year=2020,
            model_version="\u0001" * 50,
        )
    store(user, {"a": "x" * 300_000})
    for response, _ in turned(api, "/api/funds?pageSize=200", "next"):
        assert len(response.content) <= PAGE_LIMIT


def names(page: dict[str, Any]) -> list[str]:
    return [fund["name"] for fund in page["results"]]


def _pages() -> list[Any]:
    """Return what pages are made of. By type: ``isinstance`` would evaluate the lazy objects of other tests."""
    return [each for each in gc.get_objects() if issubclass(type(each), Fund | Response)]


def test_what_a_page_held_is_freed_without_the_garbage_collector(user: User) -> None:
    """It counts objects, not bytes: pages of 1 MiB came to 400 MB."""
    fund: dict[str, Any] = {"size": 1, "management_fee": 0, "carry_percentage": 0, "vintage_year": 2025}
    Fund.objects.create(owner=user, name="f", engine_results={"a": 1}, **fund)
    request = RequestFactory().get("/api/funds", headers={"Authorization": f"Bearer {token_of(user)}"})
    handler: Any = WSGIHandler()
    gc.collect()
    held_before = set(map(id, _pages()))
    gc.disable()
    try:
        with closing(handler(request.environ, lambda *_: None)) as answer:
            assert b'"engineResults":{"a":1}' in b"".join(answer)
        del answer
        assert {id(each) for each in _pages()} <= held_before
    finally:
        gc.enable()


def test_funds_are_listed_newest_first_a_page_at_a_time(api: Api) -> None:
    for number in range(5):
        api.create(body=FUND | {"name": f"Fund {number}"})
    first = api.get("/api/funds", params={"pageSize": 2}).json()
    assert set(first) == {"next", "previous", "results"}
    assert names(first) == ["Fund 4", "Fund 3"]
    assert first["previous"] is None
    second = api.get(first["next"]).json()
    assert names(second) == ["Fund 2", "Fund 1"]
    third = api.get(second["next"]).json()
    assert names(third) == ["Fund 0"]
    assert third["next"] is None
    assert names(api.get(third["previous"]).json()) == ["Fund 2", "Fund 1"]
    assert names(api.get(second["previous"]).json()) == ["Fund 4", "Fund 3"]


def test_a_fund_made_while_somebody_turns_pages_shifts_nothing(api: Api) -> None:
    for number in range(4):
        api.create(body=FUND | {"name": f"Fund {number}"})
    first = api.get("/api/funds", params={"pageSize": 2}).json()
    api.create(body=FUND | {"name": "Newer"})
    assert names(api.get(first["next"]).json()) == ["Fund 1", "Fund 0"]


def test_a_list_shows_what_the_fund_itself_shows(api: Api) -> None:
    created = api.create(body=FUND | {"engineResults": {"a": 1}})
    listed = api.get("/api/funds").json()["results"]
    assert listed == [api.get(created.headers["Location"]).json()]


def test_no_funds_are_an_empty_list(api: Api) -> None:
    assert api.get("/api/funds").json() == {"next": None, "previous": None, "results": []}


@pytest.mark.parametrize("size", ["0", "-1", "x", "", "1e9", "99999999999999999999"])
def test_an_unreadable_page_size_is_not_an_error(api: Api, size: str) -> None:
    api.create()
    assert len(api.get("/api/funds", params={"pageSize": size}).json()["results"]) == 1


def cursor(position: str) -> str:
    return base64.b64encode(position.encode()).decode()


POSITIONS = [
    "p=abc",
    "p=\0",
    "p=",
    "p=1.5",
    "p=-1",
    "p=1e3",
    "p=\u0661",
    "r=1&p=x",
    "p=" + "9" * 20,
    "p=" + "9" * 5000,
    "o=x",
]
CURSORS = ["x", "é", *map(cursor, POSITIONS)]


@pytest.mark.parametrize("position", CURSORS, ids=range(len(CURSORS)))
def test_a_made_up_cursor_is_never_a_crash(api: Api, position: str) -> None:
    response = api.get("/api/funds", params={"cursor": position})
    assert_problem(response, 404, "not_found")


@pytest.mark.parametrize("position", ["p=9999999999999999999", "p=0", "r=1&p=1", "o=1000"])
def test_a_cursor_beyond_every_fund_is_an_empty_page(api: Api, position: str) -> None:
    response = api.get("/api/funds", params={"cursor": cursor(position)})
    assert response.status_code == 200
    assert response.json()["results"] == []


def test_another_users_fund_does_not_exist_for_me(
    api: Api, server: Server, make_user: Callable[..., User]
) -> None:
    location = api.create().headers["Location"]
    with Api(server, make_user()) as other:
        theirs = assert_problem(other.get(location), 404, "not_found")
        nobodys = assert_problem(other.get("/api/funds/999999999999"), 404, "not_found")
        assert theirs == nobodys  # not even that it exists
        assert other.get("/api/funds").json()["results"] == []


IDS = ["0", "9223372036854775807", "9223372036854775808", "1" * 100, "1" * 5000, "-1", "x", "1.0", "%31x", "1/", "%00",
       "\u0661"]  # fmt: skip


@pytest.mark.parametrize("identifier", IDS, ids=lambda identifier: identifier[:25])
def test_an_id_that_no_fund_has_is_not_found(api: Api, identifier: str) -> None:
    assert_problem(api.get(f"/api/funds/{identifier}"), 404, "not_found")


def test_a_user_without_the_permission_to_create_still_reads(
    server: Server, make_user: Callable[..., User]
) -> None:
    user = make_user(may_create=False)
    fund = Fund.objects.create(
        owner=user, name="Old", size=1, management_fee=0, carry_percentage=0, vintage_year=2020
    )
    with Api(server, user) as api:
        assert api.get(f"/api/funds/{fund.pk}").json()["name"] == "Old"
        assert names(api.get("/api/funds").json()) == ["Old"]


# --- Errors: problem+json everywhere, DEBUG or not ----------------------------------------------------------

ERRORS: dict[str, tuple[str, str, dict[str, Any], int, str]] = {
    "unknown address": ("GET", "/api/nothing", {}, 404, "not_found"),
    "the bare prefix": ("GET", "/api", {}, 404, "not_found"),
    "the prefix with a slash": ("GET", "/api/", {}, 404, "not_found"),
    "a slash too many": ("POST", "/api/funds/", {"json": FUND}, 404, "not_found"),
    "two slashes": ("POST", "//api/funds", {"json": FUND}, 404, "not_found"),
    "an address with odd bytes": ("GET", "/api/%ff%fe%00", {}, 404, "not_found"),
    "unknown fund": ("GET", "/api/funds/0", {}, 404, "not_found"),
    "unknown problem": ("GET", "/api/problems/nothing", {}, 404, "not_found"),
    "method": ("DELETE", "/api/funds", {}, 405, "method_not_allowed"),
    "method on a fund": ("POST", "/api/funds/1", {"json": FUND}, 405, "method_not_allowed"),
    "made-up method": ("BREW", "/api/funds", {}, 405, "method_not_allowed"),
    "nothing acceptable": ("GET", "/api/funds", {"headers": {"Accept": "text/html"}}, 406, "not_acceptable"),
    "too large": ("POST", "/api/funds", {"content": b" " * (LIMIT + 1)}, 413, "body_too_large"),
    "too large, elsewhere": ("POST", "/api/nothing", {"content": b" " * (LIMIT + 1)}, 413, "body_too_large"),
    "not JSON": ("POST", "/api/funds", {"content": b"{"}, 400, "parse_error"),
    "wrong type": ("POST", "/api/funds", {"data": {"a": "b"}}, 415, "unsupported_media_type"),
    "crash": ("POST", "/api/funds", {"json": FUND | {"name": CRASH}}, 500, "server_error"),
    "crash at COMMIT": ("POST", "/api/funds", {"json": FUND | {"name": FAIL_AT_COMMIT}}, 500, "server_error"),
    "database": ("POST", "/api/funds", {"json": FUND | {"name": DEADLOCK}}, 503, "database_unavailable"),
    "unknown host": ("GET", "/api/funds", {"headers": {"Host": "evil.example"}}, 400, "bad_request"),
    "broken cursor": ("GET", "/api/funds?cursor=x", {}, 404, "not_found"),
}  # fmt: skip


def send(api: Api, method: str, path: str, options: dict[str, Any], key: str) -> httpx.Response:
    headers = {"Idempotency-Key": key, "Content-Type": "application/json", "Origin": ORIGIN}
    if "data" in options:
        del headers["Content-Type"]
    address = f"{str(api.base_url).removesuffix('/')}{path}"  # whole: httpx would drop a second slash
    return api.request(method, address, **options | {"headers": headers | options.get("headers", {})})


@pytest.mark.parametrize(("method", "path", "options", "status", "code"), ERRORS.values(), ids=ERRORS.keys())
def test_every_error_is_a_problem(
    api: Api,
    obedience: None,
    key: str,
    method: str,
    path: str,
    options: dict[str, Any],
    status: int,
    code: str,
) -> None:
    response = send(api, method, path, options, key)
    assert_problem(response, status, code)
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert response.headers["Vary"].lower().split(", ").count("origin") == 1
    assert response.headers.get("Content-Length", str(len(response.content))) == str(len(response.content))
    assert response.headers["X-Request-ID"]


@pytest.mark.parametrize("status_503", [DEADLOCK])
def test_a_failing_database_says_when_to_come_back(api: Api, obedience: None, status_503: str) -> None:
    response = api.create(body=FUND | {"name": status_503})
    assert_problem(response, 503, "database_unavailable")
    assert response.headers["Retry-After"] == "1"


@pytest.mark.parametrize(("method", "path", "options", "status", "code"), ERRORS.values(), ids=ERRORS.keys())
def test_every_error_is_a_problem_in_debug_mode_too(
    debug_server: Server,
    user: User,
    obedience: None,
    key: str,
    method: str,
    path: str,
    options: dict[str, Any],
    status: int,
    code: str,
) -> None:
    with Api(debug_server, user) as api:
        problem = assert_problem(send(api, method, path, options, key), status, code)
    assert "told to" not in json.dumps(problem).lower()


def test_an_error_contains_no_secret(api: Api, obedience: None) -> None:
    token = api.headers["Authorization"].split()[1]
    response = api.create("very-secret-key", FUND | {"name": f"{CRASH} Harbor Secret"})
    assert response.status_code == 500
    for secret in (token, "very-secret-key", "Harbor Secret", "told to crash", "fundapi_fund"):
        assert secret not in response.text


CODES = {
    *("bad_request", "validation_error", "parse_error", "not_authenticated", "authentication_failed"),
    *(
        "permission_denied",
        "signed_in_as_another",
        "not_found",
        "method_not_allowed",
        "not_acceptable",
        "body_too_large",
    ),
    *(
        "unsupported_media_type",
        "throttled",
        "server_error",
        "database_unavailable",
        "idempotency_key_missing",
    ),
    *(
        "idempotency_key_invalid",
        "idempotency_key_environment_mismatch",
        "idempotency_key_operation_mismatch",
    ),
    *("idempotency_key_reused", "idempotency_request_in_progress", "https_required"),
}


@pytest.mark.parametrize("code", sorted(CODES))
def test_the_type_of_every_problem_leads_to_its_explanation(server: Server, code: str) -> None:
    response = httpx.get(f"{server.url}/api/problems/{code}")
    assert response.status_code == 200
    explained = response.json()
    assert explained["code"] == code
    assert explained["type"] == f"/api/problems/{code}"
    assert explained["title"]
    assert len(explained["detail"]) > 20
    assert 400 <= explained["status"] < 600


def test_every_code_that_exists_is_in_the_list_of_these_tests(server: Server) -> None:
    listed = httpx.get(f"{server.url}/api/problems/nothing").json()["detail"]
    assert set(re.findall(r"[a-z]+(?:_[a-z]+)+|throttled", listed.partition("Known: ")[2])) == CODES


def test_options_describe_without_touching_anything(api: Api, user: User) -> None:
    response = api.options("/api/funds")
    assert response.status_code == 200
    assert "POST" in response.headers["Allow"]
    assert funds_of(user) == 0


def test_head_answers_like_get_without_a_body(api: Api) -> None:
    location = api.create().headers["Location"]
    response = api.head(location)
    assert (response.status_code, response.content) == (200, b"")


# --- In our own words ---------------------------------------------------------------------------------------

HEADERS = "headers"
OWN_WORDS = {
    "no credentials": ({HEADERS: {"Authorization": ""}}, 401, "not_authenticated", "Send 'Authorization: Bea"),
    "two tokens": ({HEADERS: {"Authorization": "Bearer a b"}}, 401, "authentication_failed", "The token is malformed"),
    "no token": ({HEADERS: {"Authorization": "Bearer"}}, 401, "authentication_failed", "The token is malformed"),
    "unknown token": ({HEADERS: {"Authorization": "Bearer a"}}, 401, "authentication_failed", "The token is malformed"),
    "Accept": ({HEADERS: {"Accept": "text/html"}}, 406, "not_acceptable", "Accept application/json, or leave"),
    "Content-Type": ({HEADERS: {"Content-Type": "text/plain"}}, 415, "unsupported_media_type", "Send the body as"),
    "method": ({"method": "PUT"}, 405, "method_not_allowed", "See the Allow header"),
    "cursor": ({"method": "GET", "url": "/api/funds?cursor=x"}, 404, "not_found", "The cursor is not one of this list"),
    "schema": ({"method": "POST", "url": "/api/schema"}, 405, "method_not_allowed", "See the Allow header"),
    "host": ({HEADERS: {"Host": "evil.example"}}, 400, "bad_request", "Correct the address and the headers"),
    "byte order mark": ({"content": b"\xef\xbb\xbf{}"}, 400, "parse_error", "The body begins with a byte order mark"),
}  # fmt: skip


@pytest.mark.parametrize(("options", "status", "code", "words"), OWN_WORDS.values(), ids=OWN_WORDS)
def test_a_detail_says_what_to_do_in_our_own_words(
    api: Api, key: str, options: dict[str, Any], status: int, code: str, words: str
) -> None:
    given = {"Content-Type": "application/json", "Idempotency-Key": key}
    request = {"method": "POST", "url": "/api/funds", "content": GOOD.encode()} | options
    response = api.request(**request | {"headers": given | options.get("headers", {})})
    assert assert_problem(response, status, code)["detail"].startswith(words)


def test_each_field_says_what_to_do_in_our_own_words(api: Api) -> None:
    details = {}
    for body in ('{"name": null}', '{"name": "", "size": 0}', '{"name": "a\\u0000", "size": 0}', "null", "[]",
                 json.dumps(FUND | {"name": "n" * 201})):  # fmt: skip
        for error in post(api, body).json()["errors"]:
            details[error["field"], error["code"]] = error["detail"]
    assert details == {
        ("name", "null"): "Send a value instead of null.",
        ("size", "required"): "Send this field.",
        ("name", "blank"): "Send at least one visible character.",
        ("name", "null_characters_not_allowed"): "The character U+0000 cannot be stored: remove it.",
        ("", "invalid"): "Send one JSON object with the fields of a fund.",
        ("name", "max_length"): "Send at most 200 characters.",
    }
