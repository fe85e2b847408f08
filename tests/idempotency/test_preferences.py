"""``Prefer: wait=N`` (RFC 7240), as a pure function."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idempotency.preferences import wait_seconds

READ = [
    ("wait=1", 1),
    ("wait=2", 2),
    ("wait=0", 0),
    ("wait=5", 5),
    ("wait=6", 5),
    ("wait=999999999", 5),
    ("WAIT=2", 2),
    (" wait = 2 ", 2),
    ('wait="2"', 2),
    ("wait=02", 2),
    ("respond-async, wait=2", 2),
    ("respond-async; wait=2", 2),
    ("wait=2, respond-async", 2),
    ("wait=2; foo=bar", 2),
    ("return=minimal,wait=3,handling=lenient", 3),
    ("wait=3, wait=1", 3),
    ("wait=1, wait=3", 1),
]
IGNORED = [
    None,
    "",
    "wait",
    "wait=",
    "wait=x",
    "wait=-1",
    "wait=1.5",
    "wait=1e3",
    "wait=١",  # noqa: RUF001 - a digit to Python's int(), not to RFC 7240
    "wait=2s",
    "await=2",
    "wait-for=2",
    "xwait=2",
    "respond-async",
    "return=representation",
    "foo=wait=2",
]


@pytest.mark.parametrize(("prefer", "seconds"), READ)
def test_a_wait_is_read_and_capped(prefer: str, seconds: int) -> None:
    assert wait_seconds(prefer, maximum=5) == seconds


@pytest.mark.parametrize("prefer", IGNORED)
def test_what_cannot_be_read_is_ignored(prefer: str | None) -> None:
    assert wait_seconds(prefer, maximum=5) == 0


@given(st.text(), st.integers(0, 60))
def test_any_text_gives_a_wait_within_the_bounds(prefer: str, maximum: int) -> None:
    assert 0 <= wait_seconds(prefer, maximum=maximum) <= maximum


@given(st.integers(0, 10**9 - 1), st.integers(0, 60))
def test_any_number_is_capped(seconds: int, maximum: int) -> None:
    assert wait_seconds(f"wait={seconds}", maximum=maximum) == min(seconds, maximum)
