"""A kill between a fund and its stored answer: the gate stops where it should, and the outcomes are told."""

from itertools import takewhile

import pytest

from benchmarks.bodies import fund
from benchmarks.killing import Gate, Retry, killed, told
from benchmarks.load import request
from benchmarks.peers.facts import STILL
from benchmarks.servers import Site
from benchmarks.stack import stack

SENT = [
    b"SELECT caller",
    b'INSERT INTO "fundapi_fund" ("name") VALUES (Fund 1)',
    b"SELECT save(Fund 1)",
    b"COMMIT",
]


@pytest.mark.parametrize("more", [0, 1, 2])
def test_a_gate_lets_so_many_messages_pass_after_the_insert(more: int) -> None:
    gate = Gate()
    gate.arm("Fund 1", more)
    assert list(takewhile(gate.lets, SENT)) == SENT[: 2 + more]
    assert gate.closed.is_set() == (more < 2)


def test_a_closed_gate_lets_nothing_pass_until_it_is_opened() -> None:
    gate = Gate()
    gate.arm("Fund 1", 0)
    assert [gate.lets(message) for message in (*SENT, *SENT)] == [True, True, *[False] * 6]
    gate.open()
    assert all(map(gate.lets, SENT))


def test_the_insert_of_another_fund_closes_no_gate() -> None:
    gate = Gate()
    gate.arm("Fund 2", 0)
    assert all(map(gate.lets, SENT))
    assert not gate.inserted


@pytest.mark.parametrize(
    ("retries", "words"),
    [
        ([Retry(1, 201), Retry(1, 200)], "1 row (1 x 200, 1 x 201)"),
        ([Retry(1, 201, 409, 58.0), Retry(2, 201, 409, 59.4)], "1 to 2 rows (2 x 201 after 409 for 59 s)"),
        ([Retry(2, 201, None, 29.0), Retry(2, 201)], "2 rows (2 x 201 for 29 s)"),
        ([Retry(1, 409, 409, 75.2)], "1 row (1 x still 409 for 75 s)"),
    ],
)
def test_outcomes_are_told(retries: list[Retry], words: str) -> None:
    assert told(retries) == words


def test_fundapi_leaves_everything_or_nothing() -> None:
    """Before its last message nothing, and the retry creates; after it everything, and the retry replays."""
    with stack() as running:
        token = running.token()

        def post(key: str, name: str) -> bytes:
            return request("POST", "/api/funds", token=token, body=fund(name), key=key)

        def count(name: str) -> int:
            with running.superuser() as connection:
                found = connection.execute("SELECT FROM fundapi_fund WHERE name = %s", [name])
                return found.rowcount

        found = killed(Site("ours"), running, post, count)
    assert found.startswith("1 row (")
    assert "x 200" in found
    assert "x 201" in found
    assert STILL not in found
