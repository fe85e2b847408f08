"""The statements of every request, sent by libpq itself: half the time that a cursor takes.

``psycopg.pq`` is psycopg's own layer under its cursors. Measured with a local server, a cursor against this: a kept
read 0.29 and 0.17 ms, the transaction of a key 1.50 and 0.95 ms. psycopg still writes and reads the values, and Django
still translates the exceptions.

:func:`read_one` and :func:`execute` are for projects too; the rest is the app's own.

The short way is for Django's own PostgreSQL backend as it comes (:func:`_may_bypass_cursor`). Statements go one by one
through ``connection.cursor()`` where other code stands in between: a subclass of the backend (tenants, row security), a
patched method on the way (debug toolbar, Sentry, ddtrace), an ``execute_wrapper``, the log of queries, a driver's
connection or cursor of another class (OpenTelemetry). BEGIN and COMMIT go by libpq each way: as for any ``atomic``
block, Django logs both.

The internals that the short way leans on:

* Django: ``ensure_connection``, ``health_check_done``, ``execute_wrappers``, ``queries_logged``, ``in_atomic_block``,
  ``validate_thread_sharing``, ``validate_no_broken_transaction`` and ``wrap_database_errors`` of a connection, the last
  two in the order of ``CursorWrapper.execute``; the cursor classes of ``django.db.backends.postgresql.base``. No time
  zone is set on the results, as ``create_cursor`` does: a statement here returns no ``timestamptz``.
* psycopg: ``pgconn``, ``prepare_threshold``, ``autocommit``, ``cursor_factory`` and ``wait`` of a connection;
  ``execute("")`` begins a transaction; ``adapt.Transformer``, ``errors.error_from_result``, ``waiting.Wait`` and
  ``pq``, with the pipelines of libpq 14.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import count
from types import CodeType, FunctionType
from typing import Any
from weakref import WeakKeyDictionary

from django.db import InterfaceError, OperationalError, connections
from django.db.backends.postgresql.base import Cursor, DatabaseWrapper, ServerBindingCursor
from django.db.backends.utils import CursorWrapper
from psycopg import Connection, abc, errors
from psycopg.abc import PQGen
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, PipelineStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Wait

__all__ = ["execute", "read_one"]

Row = tuple[Any, ...]
Ask = Callable[[Connection[Any], abc.Transformer, str, Sequence[Any]], PGresult]

# The claim locks and then looks, which takes a new snapshot for each statement, whatever the server's default is.
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
COMMIT = "COMMIT"
# Functions that have been looked at, which takes 10 µs a statement, with the code that they had then.
_shipped: dict[FunctionType, CodeType] = {}
# The plans that PostgreSQL keeps for each connection: a statement, and its name there.
_kept: WeakKeyDictionary[Connection[Any], dict[str, bytes]] = WeakKeyDictionary()
# A generator would not do: two threads may not be inside one.
_numbers = count()
# "There is no such statement" (after DISCARD ALL), "cached plan must not change result type" (after a migration).
_FORGOTTEN = (b"26000", b"0A000")
_CURSOR_METHODS = ("cursor", "_cursor", "_prepare_cursor", "create_cursor", "make_cursor")
# All that a statement passes on its way to the driver.
_METHODS: list[tuple[type, str]] = [
    *((DatabaseWrapper, name) for name in _CURSOR_METHODS),
    *((CursorWrapper, name) for name in ("execute", "_execute_with_wrappers", "_execute")),
    (Connection, "cursor"),
    *((kind, "execute") for kind in (Cursor, ServerBindingCursor)),
]


def read_one(using: str, sql: str, parameters: Sequence[Any]) -> Row | None:
    """Return the first row of a query in the database of that alias, or ``None``.

    Outside a transaction, PostgreSQL plans it once a connection, with ``prepare_threshold`` in ``OPTIONS``. There the
    query is its own health check, too: a connection that turns out to be lost is replaced, and the query is sent again.
    """
    connection = connections[using]
    try:
        return _read(connection, sql, parameters)
    except (InterfaceError, OperationalError):
        if connection.in_atomic_block or not _is_lost(connection):
            raise
        connection.close()
        return _read(connection, sql, parameters)


def _read(connection: Any, sql: str, parameters: Sequence[Any]) -> Row | None:
    if _may_bypass_cursor(connection):
        return _send(connection, _ask_kept, sql, parameters)
    with connection.cursor() as cursor:
        return _first_row(cursor, sql, parameters)


def execute(
    using: str, sql: str, parameters: Sequence[Any], *, begins: bool = False, commits: bool = False
) -> Row | None:
    """Execute a statement of a transaction, and return its first row, or ``None``.

    With ``begins`` it is the first of an ``atomic`` block, which then is READ COMMITTED whatever the server's default.
    With ``commits``, COMMIT follows if it succeeds. The short way sends either in the round trip of the statement.
    """
    connection = connections[using]
    if _may_bypass_cursor(connection):
        ask = partial(_ask_at_once, begins=begins, commits=commits)
        return _send(connection, ask, sql, parameters, begins=begins)
    if begins:
        # Before any cursor: a backend's may run a query first, and then PostgreSQL takes no isolation level any more.
        _send(connection, _ask_at_once, BEGIN, (), begins=True)
    with connection.cursor() as cursor:
        row = _first_row(cursor, sql, parameters)
    if commits:
        _send(connection, _ask_at_once, COMMIT, ())
    return row


@contextmanager
def warnings(using: str) -> Iterator[list[str]]:
    """Collect the functions of PostgreSQL's source that send a warning with an answer."""
    connection, functions = connections[using].connection, list[str]()

    def note(diagnostic: errors.Diagnostic) -> None:
        functions.append(diagnostic.source_function or "")

    connection.add_notice_handler(note)
    try:
        yield functions
    finally:
        connection.remove_notice_handler(note)


def _may_bypass_cursor(connection: Any) -> bool:
    """Connect, and return whether only Django's own code stands between ``connection.cursor()`` and the driver."""
    if (
        type(connection) is not DatabaseWrapper
        or connection.execute_wrappers
        or connection.queries_logged
        or not vars(connection).keys().isdisjoint(_CURSOR_METHODS)
        or not _are_as_shipped()
    ):
        return False
    connection.ensure_connection()
    driver = connection.connection
    factory: Any = getattr(driver, "cursor_factory", None)
    return (
        type(driver) is Connection
        and factory in (Cursor, ServerBindingCursor)
        and "cursor" not in vars(driver)
    )


def _are_as_shipped() -> bool:
    """Return whether ``_METHODS`` are Django's and psycopg's own: neither replaced nor rewritten."""
    for owner, name in _METHODS:
        function = getattr(owner, name)
        # By type first: a proxy may be equal to what it wraps.
        if type(function) is not FunctionType:
            return False
        if _shipped.get(function) is not function.__code__ and not _is_as_shipped(function):
            return False
    return True


def _is_as_shipped(function: FunctionType) -> bool:
    """Return the same of one function, and note its code."""
    code = function.__code__
    # ``functools.wraps`` copies no globals. ddtrace puts its function among the constants of the code that it rewrites,
    # where a compiler puts none.
    shipped = function.__globals__["__name__"].startswith(("django.", "psycopg.")) and not any(
        map(callable, code.co_consts)
    )
    if shipped:
        _shipped[function] = code
    return shipped


def _is_lost(connection: Any) -> bool:
    return connection.connection is None or bool(connection.connection.closed)


def _first_row(cursor: Any, sql: str, parameters: Sequence[Any]) -> Row | None:
    cursor.execute(sql, parameters)
    row: Row | None = cursor.fetchone() if cursor.description else None
    return row


def _send(
    connection: Any, ask: Ask, sql: str, parameters: Sequence[Any], *, begins: bool = False
) -> Row | None:
    # Before Django complains that the transaction is broken, which a lost connection explains.
    if _is_lost(connection):
        raise OperationalError("the connection is closed")
    connection.validate_thread_sharing()
    connection.validate_no_broken_transaction()
    driver = connection.connection
    with connection.wrap_database_errors:
        if not (driver.autocommit or begins) and _is_idle(driver):
            # With which psycopg begins the transaction, as it does for any cursor.
            driver.execute("")
        values = Transformer(driver)
        result = ask(driver, values, sql, parameters)
        row = _row(driver, values, result)
    connection.health_check_done = True
    return row


def _row(driver: Connection[Any], values: abc.Transformer, result: PGresult) -> Row | None:
    if result.status == ExecStatus.TUPLES_OK:
        values.set_pgresult(result)
        return values.load_row(0, tuple) if result.ntuples else None
    if result.status == ExecStatus.COMMAND_OK:
        return None
    if driver.pgconn.status == ConnStatus.OK and result.error_field(DiagnosticField.SQLSTATE):
        raise errors.error_from_result(result)
    # An error without SQLSTATE is libpq's own: it has lost the server, and may not know yet.
    driver.close()
    raise errors.OperationalError(result.get_error_message())


def _ask_at_once(
    driver: Connection[Any],
    values: abc.Transformer,
    sql: str,
    parameters: Sequence[Any],
    *,
    begins: bool = False,
    commits: bool = False,
) -> PGresult:
    """Send a statement in a pipeline, with BEGIN before or COMMIT behind it: if it fails, COMMIT is not executed.

    Its values go beside it. Written into it, they would be in PostgreSQL's log whenever it fails or is slow.
    """
    pgconn = driver.pgconn
    texts: Any = values.dump_sequence(parameters, [PyFormat.TEXT] * len(parameters))
    try:
        pgconn.enter_pipeline_mode()
        if begins:
            pgconn.send_query_params(BEGIN.encode(), None)
        pgconn.send_query_params(_numbered(sql), texts)
        if commits:
            pgconn.send_query_params(COMMIT.encode(), None)
        pgconn.pipeline_sync()
        results = driver.wait(_results(pgconn))
        pgconn.exit_pipeline_mode()
    except BaseException:
        # Half a pipeline: nobody could tell whose the next answer is.
        driver.close()
        raise
    failed = (result for result in results if result.status == ExecStatus.FATAL_ERROR)
    return next(failed, results[1 if begins else 0])


def _results(pgconn: PGconn) -> PQGen[list[PGresult]]:
    """Collect the results of a pipeline, or of one statement.

    psycopg waits meanwhile, without the interpreter's lock; under gevent the other greenlets run.
    """
    in_pipeline = pgconn.pipeline_status != PipelineStatus.OFF
    while pgconn.flush():
        yield Wait.W
    results = list[PGresult]()
    while True:
        while pgconn.is_busy():
            yield Wait.R
            pgconn.consume_input()
        result = pgconn.get_result()  # None after each statement
        if result is None:
            if not in_pipeline:
                return results
        elif result.status == ExecStatus.PIPELINE_SYNC:
            return results
        else:
            results.append(result)


def _ask_kept(
    driver: Connection[Any], values: abc.Transformer, sql: str, parameters: Sequence[Any]
) -> PGresult:
    """Send one statement with its values beside it, by a kept plan where the settings allow one."""
    pgconn, query = driver.pgconn, _numbered(sql)
    texts: Any = values.dump_sequence(parameters, [PyFormat.TEXT] * len(parameters))
    # In a transaction a forgotten plan is an error that breaks it, and psycopg forgets all plans after a rollback.
    if driver.prepare_threshold is None or not _is_idle(driver):
        return _result_of(driver, partial(pgconn.send_query_params, query, texts))
    kept = _kept.setdefault(driver, {})
    if sql in kept:
        result = _result_of(driver, partial(pgconn.send_query_prepared, kept[sql], texts))
        if result.error_field(DiagnosticField.SQLSTATE) not in _FORGOTTEN:
            return result
    name = b"idempotency_%d" % next(_numbers)
    result = _result_of(driver, partial(pgconn.send_prepare, name, query))
    if result.status != ExecStatus.COMMAND_OK:
        return result
    kept[sql] = name
    return _result_of(driver, partial(pgconn.send_query_prepared, name, texts))


def _result_of(driver: Connection[Any], send: Callable[[], None]) -> PGresult:
    try:
        send()
        return driver.wait(_results(driver.pgconn))[0]
    except BaseException:
        # An answer that nobody has read would be taken for that of the next statement.
        driver.close()
        raise


def _is_idle(driver: Connection[Any]) -> bool:
    return driver.pgconn.transaction_status == TransactionStatus.IDLE


@lru_cache
def _numbered(sql: str) -> bytes:
    """Return a statement with its ``%s`` as PostgreSQL writes them: ``$1``, ``$2``."""
    number = count(1)
    return re.sub("%s", lambda _: f"${next(number)}", sql).encode()
