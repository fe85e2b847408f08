"""Statements by libpq, or by a cursor where other code stands in between: the same values, errors and transactions."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import wraps
from types import FunctionType
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import Group
from django.db import (
    DEFAULT_DB_ALIAS,
    DatabaseError,
    DataError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.db.backends.postgresql.base import DatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.transaction import TransactionManagementError
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext

from idempotency import idempotent, store, wire
from idempotency.conf import conf
from idempotency.marks import marks
from idempotency.middleware import IdempotencyMiddleware
from idempotency.wire import execute, read_one
from tests.servers import database_url


@pytest.fixture
def short(database: None) -> Iterator[int]:
    """The process of PostgreSQL behind this thread's connection, which is a new one, on Django's own backend."""
    connection.close()
    yield backend()
    connection.close()


@pytest.fixture
def session(short: int, way: str) -> int:
    """The same, each way."""
    return short


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


def test_postgresql_plans_it_once_a_connection(short: int) -> None:
    mark = uuid.uuid4().hex
    for number in range(10):
        assert read_one(DEFAULT_DB_ALIAS, f"SELECT %s::int AS n_{mark}", (number,)) == (number,)
    sql = "SELECT generic_plans + custom_plans FROM pg_prepared_statements WHERE statement LIKE %s"
    assert read_one(DEFAULT_DB_ALIAS, sql, (f"%{mark}%",)) == (10,)


def ask(sql: str, *parameters: object) -> object:
    row = read_one(DEFAULT_DB_ALIAS, sql, parameters)
    return row and row[0]


def test_a_plan_that_the_session_has_forgotten_is_made_again(short: int) -> None:
    sql = "SELECT %s::int + 1"
    assert ask(sql, 1) == 2
    with connection.cursor() as cursor:
        cursor.execute("DISCARD ALL")
    assert ask(sql, 2) == 3
    assert backend() == short


def test_a_forgotten_plan_breaks_no_transaction(short: int) -> None:
    """psycopg has PostgreSQL forget all plans after a rollback, to a savepoint too."""
    sql = "SELECT %s::int + 2"
    assert ask(sql, 1) == 3
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("DEALLOCATE ALL")
        assert ask(sql, 2) == 4


def test_a_migration_may_change_what_a_kept_plan_returns(short: int) -> None:
    """Otherwise every worker of the previous version would fail until its connection ends."""
    table = f"retyped_{uuid.uuid4().hex}"
    sql = f"SELECT kept FROM {table} WHERE %s::int = 1"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {table} AS SELECT 7 AS kept")
        assert ask(sql, 1) == 7
        cursor.execute(f"ALTER TABLE {table} ALTER kept TYPE text")
        assert ask(sql, 1) == "7"
        cursor.execute(f"DROP TABLE {table}")


def test_without_kept_plans_nothing_is_left_in_the_session(short: int) -> None:
    connection.connection.prepare_threshold = None  # as settings have it behind a pooler
    assert ask("SELECT %s::int + 1", 1) == 2
    assert ask("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE %s", "% + 1") == 0


def test_a_statement_takes_values_of_every_kind_as_they_are(session: int) -> None:
    values = (uuid.uuid4(), "o'clock \\ %s ü", b"\0\\'%", None, -1, timedelta(days=1, microseconds=5))
    sql = "SELECT %s::uuid, %s::text, %s::bytea, %s::text, %s::int, %s::interval"
    assert execute(DEFAULT_DB_ALIAS, sql, values) == values
    with transaction.atomic():
        assert execute(DEFAULT_DB_ALIAS, sql, values, begins=True) == values
    assert execute(DEFAULT_DB_ALIAS, "SELECT 2 WHERE false", ()) is None
    with pytest.raises(DataError):
        execute(DEFAULT_DB_ALIAS, "SELECT %s", ("half\0a text",))


def test_errors_are_djangos_and_commit_nothing(session: int) -> None:
    table = f"never_made_{uuid.uuid4().hex}"

    def fail() -> None:
        with transaction.atomic():
            execute(DEFAULT_DB_ALIAS, f"CREATE TABLE {table} ()", (), begins=True)
            execute(DEFAULT_DB_ALIAS, "SELECT 1 / %s", (0,), commits=True)

    with pytest.raises(DataError) as caught:
        fail()
    assert getattr(caught.value.__cause__, "sqlstate", None) == "22012"
    assert ask("SELECT to_regclass(%s)", table) is None


def test_the_first_statement_of_a_transaction_is_in_it(session: int) -> None:
    """The driver begins a transaction with its first statement; a statement that bypasses it must do so too."""
    table = f"undone_{uuid.uuid4().hex}"
    for statement in (execute, read_one):
        with transaction.atomic():
            statement(DEFAULT_DB_ALIAS, f"CREATE TABLE {table} ()", ())
            transaction.set_rollback(True)
    assert ask("SELECT to_regclass(%s)", table) is None


def test_a_broken_transaction_takes_no_statement(session: int) -> None:
    with transaction.atomic():
        transaction.set_rollback(True)
        for statement in (execute, read_one):
            with pytest.raises(TransactionManagementError):
                statement(DEFAULT_DB_ALIAS, "SELECT 1", ())


# --- Code between a statement and the driver -----------------------------------------------------------

LIFE = [
    "SELECT fingerprint",  # the look-up
    "SELECT state",  # the claim
    "SELECT idempotency_save",
    "SELECT fingerprint",
]
ANSWER = store.StoredResponse(uuid.uuid4(), 201, {"Content-Type": "text/plain"}, b"done")


def live(digest: uuid.UUID) -> None:
    """Use a key and find its answer, as a first request and a retry do."""
    assert store.find(digest) is None
    with transaction.atomic(durable=True, using=conf.database):
        assert store.claim(digest) is None
        store.save(digest, ANSWER, operation="test", principal="1", token="k")
    assert store.find(digest) == ANSWER


def shortened(statements: list[str]) -> list[str]:
    return [
        next((start for start in LIFE if statement.strip().startswith(start)), statement)
        for statement in statements
    ]


def test_an_execute_wrapper_sees_every_statement_as_it_is(short: int) -> None:
    seen: list[str] = []

    def wrapper(execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
        seen.append(sql)
        assert context["connection"] is connections[DEFAULT_DB_ALIAS]
        return execute(sql, parameters, many, context)

    with connection.execute_wrapper(wrapper):
        live(uuid.uuid4())
    assert shortened(seen) == LIFE


def test_an_execute_wrapper_may_refuse_a_statement(short: int) -> None:
    def blocker(*_: Any) -> Any:
        raise RuntimeError("No SQL here.")

    with connection.execute_wrapper(blocker), pytest.raises(RuntimeError):
        read_one(DEFAULT_DB_ALIAS, "SELECT 1", ())


def test_the_log_of_queries_holds_every_statement_with_its_values(short: int) -> None:
    digest = uuid.uuid4()
    with CaptureQueriesContext(connection) as captured:
        live(digest)
        ask("SELECT %s::int", 1)
    statements = [query["sql"] for query in captured]
    found, claimed, saved, again = LIFE
    # As Django logs any ``atomic`` block.
    assert shortened(statements) == [found, "BEGIN", claimed, saved, "COMMIT", again, "SELECT 1::int"]
    assert digest.hex in statements[0]


def test_a_patched_cursor_is_used(short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Django's debug toolbar patches each connection."""
    opened = []
    original = connections[DEFAULT_DB_ALIAS].cursor

    def cursor(*arguments: Any) -> Any:
        opened.append(arguments)
        return original(*arguments)

    monkeypatch.setitem(vars(connections[DEFAULT_DB_ALIAS]), "cursor", cursor)
    live(uuid.uuid4())
    assert len(opened) == 4


@pytest.mark.parametrize(
    ("patched", "name"),
    [
        (DatabaseWrapper, "create_cursor"),
        (DatabaseWrapper, "_prepare_cursor"),
        (CursorWrapper, "execute"),
        (CursorWrapper, "_execute"),
        (psycopg.Connection, "cursor"),
        (psycopg.Cursor, "execute"),
    ],
)
def test_a_method_that_is_patched_for_all_connections_is_called(
    short: int, monkeypatch: pytest.MonkeyPatch, patched: type, name: str
) -> None:
    """As instrumentations patch Django's classes, before or after the app is imported."""
    original: Callable[..., Any] = getattr(patched, name)
    called = []

    @wraps(original)
    def patch(*arguments: Any, **options: Any) -> Any:
        called.append(arguments)
        return original(*arguments, **options)

    monkeypatch.setattr(patched, name, patch)
    assert ask("SELECT %s::int", 7) == 7
    assert len(called) == 1


def test_a_method_that_is_rewritten_in_place_is_called(short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ddtrace instruments Django: the function stays the same object, with other code that calls the original's."""
    cursor: Any = DatabaseWrapper.cursor
    original = FunctionType(cursor.__code__, cursor.__globals__, "original", None, cursor.__closure__)
    opened: list[object] = []

    def note(*arguments: Any) -> Any:
        opened.append(arguments)
        return original(*arguments)

    def with_as_many_cells(func: object, message: object) -> Any:
        def rewritten(*arguments: Any) -> Any:
            call: Any = 0.125  # in the place of this constant comes the function
            return (func, message) and call(*arguments)

        return rewritten

    code = with_as_many_cells(1, 2).__code__
    constants = tuple(note if each == 0.125 else each for each in code.co_consts)
    monkeypatch.setattr(cursor, "__code__", code.replace(co_consts=constants))
    live(uuid.uuid4())
    assert len(opened) == len(LIFE)


def test_a_cursor_class_of_the_drivers_connection_is_used(
    short: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As OpenTelemetry traces psycopg."""
    seen = []

    class Traced(psycopg.ClientCursor[Any]):
        def execute(self, query: Any, *arguments: Any, **options: Any) -> Any:
            seen.append(query)
            return super().execute(query, *arguments, **options)

    monkeypatch.setattr(connection.connection, "cursor_factory", Traced)
    live(uuid.uuid4())
    assert shortened(seen) == LIFE


def test_a_proxy_of_the_drivers_connection_is_used(short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ddtrace and New Relic trace psycopg."""
    driver, opened = connection.connection, []

    class Proxy:
        def __getattr__(self, name: str) -> Any:
            return getattr(driver, name)

        def __setattr__(self, name: str, value: object) -> None:
            setattr(driver, name, value)

        def cursor(self, *arguments: Any, **options: Any) -> Any:
            opened.append(arguments)
            return driver.cursor(*arguments, **options)

    monkeypatch.setattr(connections[DEFAULT_DB_ALIAS], "connection", Proxy())
    live(uuid.uuid4())
    assert len(opened) == len(LIFE)


def test_statements_go_by_libpq_where_no_other_code_stands_in_between(
    short: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "_first_row", None)
    live(uuid.uuid4())
    with (
        connection.execute_wrapper(lambda execute, *arguments: execute(*arguments)),
        pytest.raises(TypeError),
    ):
        ask("SELECT 1")


def test_a_patched_cursor_of_the_drivers_connection_is_used(
    short: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, original = [], connection.connection.cursor

    def cursor(*arguments: Any, **options: Any) -> Any:
        opened.append(arguments)
        return original(*arguments, **options)

    monkeypatch.setattr(connection.connection, "cursor", cursor)
    live(uuid.uuid4())
    assert len(opened) == len(LIFE)


def test_a_connection_of_another_thread_is_refused(session: int) -> None:
    caught: list[Exception] = []
    shared = connections[DEFAULT_DB_ALIAS]

    def use() -> None:
        connections[DEFAULT_DB_ALIAS] = shared
        try:
            ask("SELECT 1")
        except DatabaseError as error:
            caught.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert "thread" in str(caught[0])


@pytest.fixture
def tenants(database: None) -> Iterator[list[str]]:
    """Two schemas with keys of their own, in a database whose backend chooses the schema in its ``cursor()``."""
    schemas = [f"tenant_{uuid.uuid4().hex}" for _ in range(2)]
    with connection.cursor() as cursor:
        for schema in schemas:
            cursor.execute(f"CREATE SCHEMA {schema}")
            cursor.execute(
                f"CREATE TABLE {schema}.idempotency_store (LIKE public.idempotency_store INCLUDING ALL)"
            )
    connections.settings["tenants"] = connections.settings["default"] | {
        "ENGINE": "tests.idempotency.tenants"
    }
    with override_settings(IDEMPOTENCY_DATABASE="tenants"):
        yield schemas
    connections["tenants"].close()
    del connections["tenants"]
    del connections.settings["tenants"]
    with connection.cursor() as cursor:
        for schema in schemas:
            cursor.execute(f"DROP SCHEMA {schema} CASCADE")


def test_a_backend_that_chooses_a_schema_in_its_cursor_is_obeyed(tenants: list[str]) -> None:
    """As with django-tenants: the next request on the connection may be another tenant's."""
    digest = uuid.uuid4()
    for schema in tenants:
        connections["tenants"].schema = schema  # type: ignore[attr-defined]
        live(digest)
    for schema, count in ((tenants[0], 1), (tenants[1], 1), ("public", 0)):
        assert ask(f"SELECT count(*) FROM {schema}.idempotency_store WHERE digest = %s", digest) == count


def test_a_backend_with_a_statement_in_its_cursor_claims_under_read_committed(tenants: list[str]) -> None:
    """PostgreSQL takes no isolation level after a statement, and refuses a claim under a stricter one."""
    with connections["tenants"].cursor() as cursor:
        cursor.execute("SET default_transaction_isolation = 'repeatable read'")
    # As in a project that leaves it to the server.
    connections["tenants"].connection.isolation_level = None
    connections["tenants"].schema = tenants[0]  # type: ignore[attr-defined]
    with transaction.atomic(durable=True, using="tenants"):
        assert store.claim(uuid.uuid4()) is None
        assert execute("tenants", "SHOW transaction_isolation", ()) == ("read committed",)
    live(uuid.uuid4())


def test_a_view_that_ends_in_another_schema_has_no_second_effect(tenants: list[str]) -> None:
    """Its answer is stored there: a retry runs the view again, undoes what it wrote, and gets that answer."""
    database: Any = connections["tenants"]

    def moves(_request: HttpRequest) -> HttpResponse:
        Group.objects.using("tenants").create(name=f"{key} {uuid.uuid4().hex}")
        database.schema = tenants[1]
        return HttpResponse(status=201)

    key, before = uuid.uuid4().hex, set(marks)
    guarded = IdempotencyMiddleware(idempotent(operation="moves", admit=lambda *_: "1")(moves))
    marks.intersection_update(before)
    for status in (201, 200):
        database.schema = tenants[0]
        assert guarded(RequestFactory().post("/", headers={"Idempotency-Key": key})).status_code == status
    assert Group.objects.filter(name__startswith=key).count() == 1


def test_a_thread_that_waits_for_postgresql_blocks_no_other_thread(session: int) -> None:
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


def test_psycopg_waits_for_every_answer(short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lets other greenlets run meanwhile, where gevent has patched the standard library."""
    driver, waits = connection.connection, []
    wait = driver.wait

    def noted(steps: Any) -> Any:
        waits.append(steps)
        return wait(steps)

    monkeypatch.setattr(driver, "wait", noted)
    ask("SELECT %s::int", 1)
    monkeypatch.setattr(driver, "prepare_threshold", 5)
    for prepares in (True, False):
        waits.clear()
        ask("SELECT %s::int + 2", 1)
        assert len(waits) == 1 + prepares
    waits.clear()
    live(uuid.uuid4())
    assert len(waits) >= 4


def test_a_read_that_is_interrupted_leaves_no_answer_behind(
    short: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_steps: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(connection.connection, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask("SELECT 1")
    assert connection.connection.closed
    assert ask("SELECT 2") == 2
