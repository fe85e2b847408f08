"""The names of the fields that differ between two requests with one key; never a value."""

import uuid
from typing import Any

import pytest

from idempotency.differences import MISSING, NAMES_MAX, PARTS_MAX, UNNAMED, differing, digests
from idempotency.fingerprint import compared

SALT = uuid.uuid4()
FIRST = {"name": "Harbor", "size": 250_000_000, "engineResults": {"irr": [1, 2]}}


def parts(document: Any, **request: Any) -> dict[str, Any]:
    return dict(
        compared(
            **{"method": "POST", "path": "/api/funds", "query": "", "document": document} | request
        ).parts
    )


@pytest.mark.parametrize(
    ("other", "names"),
    [
        (parts(FIRST), []),
        (parts(FIRST | {"size": 2}), ["size"]),
        (parts(FIRST | {"size": 2, "name": "Bay"}), ["name", "size"]),
        (parts(FIRST | {"vintageYear": 2025}), ["vintageYear"]),
        (parts(FIRST | {"engineResults": {"irr": [2, 1]}}), ["engineResults"]),
        (parts({"name": "Harbor", "size": 250_000_000}), [MISSING]),
        (parts(FIRST, path="/api/funds/2"), ["the path"]),
        (parts(FIRST, query="a=1"), ["the query"]),
        (parts([1]), ["the body", MISSING]),
        (parts(FIRST | {"4111 1111 1111 1111": 1}), [UNNAMED]),
        (parts(FIRST | {"<script>": 1, "a b": 2}), [UNNAMED]),
    ],
)
def test_a_difference_names_the_fields(other: dict[str, Any], names: list[str]) -> None:
    assert differing(digests(parts(FIRST), SALT), other, SALT) == names


def test_forms_are_compared_by_field_and_file() -> None:
    forms: list[Any] = [
        {"fields": {"name": ["Harbor"], "tags": ["a", "b"]}, "files": {"deck": [[name, "text/plain", "d1"]]}}
        for name in ("a.txt", "b.txt")
    ]
    first, other = (
        compared(method="POST", path="/", query="", form=form).parts for form in (forms[0], forms[1])
    )
    assert differing(digests(first, SALT), other, SALT) == ["deck"]


def test_a_body_that_is_no_object_is_one_part() -> None:
    first, other = (compared(method="POST", path="/", query="", body=body).parts for body in (b"1", b"2"))
    assert differing(digests(first, SALT), other, SALT) == ["the body"]


def test_a_difference_is_bounded() -> None:
    many = {f"field{number}": number for number in range(PARTS_MAX)}
    assert digests(parts(many), SALT) == b""
    assert differing(b"", parts(many), SALT) == []
    assert len(differing(digests(parts(FIRST), SALT), parts(many), SALT)) == NAMES_MAX + 1


def test_equal_values_of_two_keys_have_other_digests() -> None:
    one, two = (digests(parts(FIRST), uuid.uuid4()) for _ in range(2))
    assert one[4:8] != two[4:8]
    assert len(one) == 6 * 8


def test_digests_that_an_earlier_release_stored_are_still_understood() -> None:
    salt, stored = (
        uuid.UUID(int=7),
        bytes.fromhex("43be62a84532e12a5e237e06a6bea012f7c0246a408e59c0967527c2e0e0a584"),
    )
    first: dict[str, str | bytes] = {
        "the method": "POST",
        "name": '"Harbor"',
        "size": "25e7",
        "the body": b"raw",
    }
    assert digests(first, salt) == stored
    assert differing(stored, first | {"size": "26e7"}, salt) == ["size"]
