"""Statements through libpq: values, errors and transactions as everywhere.

A read keeps its plan, and finds a connection that was lost before anybody else does.
"""

import threading
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import DEFAULT_DB_ALIAS, DataError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from idempotency.wire import read_one, send
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
    assert read_one(DEFAULT_DB_ALIAS, sql, (f"%{mark}%",)) == (10,)


def ask(sql: str, *parameters: object) -> object:
    row = read_one(DEFAULT_DB_ALIAS, sql, parameters)
    return row and row[0]


def test_a_plan_that_the_session_has_forgotten_is_made_again(session: int) -> None:
    sql = "SELECT %s::int + 1"
    assert ask(sql, 1) == 2
    with connection.cursor() as cursor:
        cursor.execute("DISCARD ALL")
    assert ask(sql, 2) == 3
    assert backend() == session


def test_a_migration_may_change_what_a_kept_plan_returns(session: int) -> None:
    """Else every worker of the version before would fail until its connection ends."""
    table = f"retyped_{uuid.uuid4().hex}"
    sql = f"SELECT kept FROM {table} WHERE %s::int = 1"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {table} AS SELECT 7 AS kept")
        assert ask(sql, 1) == 7
        cursor.execute(f"ALTER TABLE {table} ALTER kept TYPE text")
        assert ask(sql, 1) == "7"
        cursor.execute(f"DROP TABLE {table}")


def test_without_kept_plans_nothing_is_left_in_the_session(session: int) -> None:
    connection.connection.prepare_threshold = None  # as settings have it behind a pooler
    assert ask("SELECT %s::int + 1", 1) == 2
    assert ask("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE %s", "% + 1") == 0


def test_a_message_takes_values_of_every_kind_as_they_are(session: int) -> None:
    values = (uuid.uuid4(), "o'clock \\ %s ü", b"\0\\'%", None, -1, timedelta(days=1, microseconds=5))
    sql = "SELECT 1; SELECT %s, %s, %s, %s::text, %s, %s"
    assert send(DEFAULT_DB_ALIAS, sql, values) == values
    assert send(DEFAULT_DB_ALIAS, "SELECT 1; SELECT 2 WHERE false", ()) is None
    with pytest.raises(DataError):
        send(DEFAULT_DB_ALIAS, "SELECT %s", ("half\0a text",))


def test_errors_are_djangos_and_end_the_message(session: int) -> None:
    with pytest.raises(DataError) as caught:
        send(DEFAULT_DB_ALIAS, "SELECT 1 / %s; CREATE TABLE never_made ()", (0,))
    assert getattr(caught.value.__cause__, "sqlstate", None) == "22012"
    assert ask("SELECT to_regclass('never_made')") is None


def test_the_first_statement_of_a_transaction_is_in_it(session: int) -> None:
    """A transaction begins with the driver's first statement, which this one must not slip past."""
    table = f"undone_{uuid.uuid4().hex}"
    for statement in (send, read_one):
        with transaction.atomic():
            statement(DEFAULT_DB_ALIAS, f"CREATE TABLE {table} ()", ())
            transaction.set_rollback(True)
    assert ask("SELECT to_regclass(%s)", table) is None


def test_djangos_hooks_and_log_of_queries_see_them(session: int) -> None:
    seen = []

    def hook(execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
        seen.append(sql)
        return execute(sql, parameters, many, context)

    with connection.execute_wrapper(hook), CaptureQueriesContext(connection) as captured:
        send(DEFAULT_DB_ALIAS, "SELECT %s; SELECT 2", (1,))
        ask("SELECT %s::int", 1)
    assert seen == ["SELECT %s; SELECT 2", "SELECT %s::int"]
    assert [query["sql"] for query in captured] == ["SELECT 1; SELECT 2", "SELECT $1::int"]


def test_a_thread_that_waits_for_postgresql_keeps_nobody_else_waiting(session: int) -> None:
    """libpq blocks; the interpreter's lock must be free meanwhile, or one slow query stops a whole worker."""

    def wait() -> None:
        ask("SELECT pg_sleep(%s)", 1)
        connection.close()

    waiting = threading.Thread(target=wait)
    waiting.start()
    turns = 0
    while waiting.is_alive():
        turns += 1
        time.sleep(0.001)
    assert turns > 50
