"""A read keeps its plan, and finds a connection that was lost before anybody else does."""

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from django.db import DEFAULT_DB_ALIAS, OperationalError, connection, transaction

from idempotency.reads import read_one
from tests.servers import database_url


@pytest.fixture
def session(database: None) -> Iterator[int]:
    """The process of PostgreSQL behind this thread's connection, which is a new one."""
    connection.close()
    yield backend()
    connection.close()


def backend() -> int:
    row = read_one(DEFAULT_DB_ALIAS, "SELECT pg_backend_pid()", ())
    assert row is not None
    return int(row[0])


def kill(pid: int) -> None:
    with psycopg.connect(database_url(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


def test_a_row_comes_as_python_has_it_or_not_at_all(session: int) -> None:
    digest = uuid.uuid4()
    row = read_one(
        DEFAULT_DB_ALIAS,
        "SELECT %s::uuid, %s::bytea, now() > %s::timestamptz",
        (digest, b"\0x", "1999-01-01"),
    )
    assert row == (digest, b"\0x", True)
    assert read_one(DEFAULT_DB_ALIAS, "SELECT 1 WHERE %s::int = 2", (1,)) is None


def test_a_lost_connection_is_replaced_and_asked_again(session: int) -> None:
    kill(session)
    assert backend() != session


def test_in_a_transaction_a_lost_connection_is_an_error(session: int) -> None:
    @transaction.atomic
    def lose_it() -> None:
        read_one(DEFAULT_DB_ALIAS, "SELECT 1", ())
        kill(session)
        read_one(DEFAULT_DB_ALIAS, "SELECT 1", ())

    with pytest.raises(OperationalError):
        lose_it()


def test_a_time_out_is_not_asked_again(session: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '50ms'")
    with pytest.raises(OperationalError):
        read_one(DEFAULT_DB_ALIAS, "SELECT pg_sleep(%s)", (5,))
    assert backend() == session


def test_postgresql_plans_it_once_a_connection(session: int) -> None:
    mark = uuid.uuid4().hex
    for number in range(10):
        assert read_one(DEFAULT_DB_ALIAS, f"SELECT %s::int AS n_{mark}", (number,)) == (number,)
    sql = "SELECT generic_plans + custom_plans FROM pg_prepared_statements WHERE statement LIKE %s"
    assert read_one(DEFAULT_DB_ALIAS, sql, (f"%{mark}%",)) == (5,)  # what came before was not worth it
