"""The header's grammar (design §3), as a pure function."""

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from idempotency.keys import digest, format_key, lock_id, parse
from idempotency.problems import (
    EnvironmentMismatch,
    IdempotencyError,
    KeyInvalid,
    KeyMissing,
    OperationMismatch,
)

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:~-"
tokens = st.text(ALPHABET, min_size=1, max_size=255)
HERE = {"environment": "test", "operation": "fund-create"}


@given(tokens)
def test_a_token_is_read_as_it_is(token: str) -> None:
    assert parse(token, **HERE) == token


@given(tokens)
def test_a_quoted_token_is_the_token(token: str) -> None:
    assert parse(f'"{token}"', **HERE) == token


@given(tokens, tokens, tokens)
def test_parse_undoes_format(environment: str, operation: str, token: str) -> None:
    header = format_key(environment=environment, operation=operation, token=token)
    assert parse(header, environment=environment, operation=operation) == token


@given(tokens, tokens, tokens)
def test_a_key_of_another_environment_is_named_as_such(environment: str, operation: str, token: str) -> None:
    header = format_key(environment=environment + "x", operation=operation, token=token)
    with pytest.raises(EnvironmentMismatch) as refused:
        parse(header, environment=environment, operation=operation)
    assert f"'{environment}x'" in refused.value.detail
    assert f"'{environment}'" in refused.value.detail


@given(tokens, tokens, tokens)
def test_a_key_of_another_operation_is_named_as_such(environment: str, operation: str, token: str) -> None:
    header = format_key(environment=environment, operation=operation + "x", token=token)
    with pytest.raises(OperationMismatch) as refused:
        parse(header, environment=environment, operation=operation)
    assert f"'{operation}x'" in refused.value.detail
    assert f"'{operation}'" in refused.value.detail


def test_of_two_mismatches_the_environment_is_named_first() -> None:
    with pytest.raises(EnvironmentMismatch):
        parse("prod|other|k", **HERE)


def test_a_malformed_namespaced_key_is_invalid_before_it_is_a_mismatch() -> None:
    with pytest.raises(KeyInvalid):
        parse("prod|other|not valid", **HERE)


def test_no_header_is_a_missing_key_and_an_empty_one_is_not_a_key() -> None:
    with pytest.raises(KeyMissing):
        parse(None, **HERE)
    with pytest.raises(KeyInvalid):
        parse("", **HERE)


FAULTS = {
    "": "is empty",
    '""': "is empty",
    "a b": "has white space",
    "a\tb": "has white space",
    "a\u00a0b": "has white space",
    "a/b": "has the character '/'",
    "a,b": "has the character ','",
    "a|b/c|d": "has the character '/'",
    "a\x01b": "has a control character",
    "\u00c3\u00a9": "has a character outside ASCII",
    '"a': "has double quotes that are not one pair",
    'a"b': "has double quotes that are not one pair",
    '"test|fund-create|a"': "has double quotes that are not one pair around a key without '|'",
    "a|b": "has 2 parts",
    "a|b|c|d": "has 4 parts",
    "|b|": "has an empty part",
    "a" * 300: "has 300 characters",
    f"test|fund-create|{'a' * 300}": "has a part of 300 characters",
}


@pytest.mark.parametrize(("header", "fault"), FAULTS.items(), ids=range(len(FAULTS)))
def test_a_malformed_key_is_told_what_is_wrong_with_it(header: str, fault: str) -> None:
    with pytest.raises(KeyInvalid) as refused:
        parse(header, **HERE)
    assert refused.value.detail.startswith(f"The key {fault}")
    assert ": send 1 to 255 characters of " in refused.value.detail


@given(st.text(ALPHABET, min_size=8), st.sampled_from("/\x00\x1b\u202e\n \u00e9"))
def test_a_malformed_key_is_not_repeated(secret: str, odd: str) -> None:
    """A key may be a secret, or a control character of a terminal."""
    assume(secret not in KeyInvalid.detail)
    with pytest.raises(KeyInvalid) as refused:
        parse(secret + odd, **HERE)
    assert secret not in refused.value.detail
    assert refused.value.detail.isprintable()


@given(st.text())
@example("k\n")  # which a careless $ would let pass
@example("٣")  # a digit, but not one of ours
@example('"a|b|c"')
@example("||")
@example("a" * 256)
def test_any_text_is_a_token_of_the_alphabet_or_refused(header: str) -> None:
    try:
        token = parse(header, **HERE)
    except IdempotencyError:
        return
    assert set(token) <= set(ALPHABET)
    assert 1 <= len(token) <= 255
    assert header in {token, f'"{token}"', f"test|fund-create|{token}"}


@given(st.text(ALPHABET + '|" \n', max_size=12))
def test_what_is_nearly_a_key_is_refused_too(header: str) -> None:
    try:
        token = parse(header, **HERE)
    except IdempotencyError:
        return
    assert header in {token, f'"{token}"', f"test|fund-create|{token}"}


PARTS = {"environment": "test", "operation": "fund-create", "principal": "7", "token": "k"}


@pytest.mark.parametrize("part", PARTS)
def test_every_part_makes_another_digest(part: str) -> None:
    assert digest(**PARTS) != digest(**PARTS | {part: "other"})


@given(tokens, tokens, tokens, tokens, st.integers(1, 3))
def test_no_shift_between_parts_makes_the_same_digest(
    environment: str, operation: str, principal: str, token: str, count: int
) -> None:
    """Without their lengths, ("ab", "c") and ("a", "bc") would be one key."""
    one = digest(environment=environment, operation=operation, principal=principal, token=token + "x" * count)
    two = digest(environment=environment, operation=operation, principal=principal + "x" * count, token=token)
    assert one != two


def test_a_digest_never_changes_because_stored_ones_would_be_lost() -> None:
    assert str(digest(**PARTS)) == "d21a1dfe-5249-cca6-9454-9a4bde42efb1"


@given(st.uuids())
def test_a_lock_id_is_a_bigint_and_depends_on_the_digest_alone(key_digest) -> None:
    assert -(2**63) <= lock_id(key_digest) < 2**63
    assert lock_id(key_digest) == lock_id(key_digest)
