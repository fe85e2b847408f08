"""The statements of every request, by way of libpq itself: half the time that a cursor takes.

``psycopg.pq`` is psycopg's own layer under its cursors. Measured with a local server, a cursor against this: a kept
read 0.29 and 0.17 ms, the transaction of a key 1.50 and 0.95 ms. Values are still psycopg's to write and to read, and
Django's hooks, logs of queries and exceptions see these statements as they see any other.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

from django.db import InterfaceError, OperationalError, connections
from psycopg import Connection, abc, errors
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult

Row = tuple[Any, ...]

# The plans that PostgreSQL keeps for each connection: a statement, and its name there.
_kept: WeakKeyDictionary[Connection[Any], dict[str, bytes]] = WeakKeyDictionary()
_numbers = count()  # not a generator: two threads may not be inside one
# "There is no such statement" (after DISCARD ALL), "cached plan must not change result type" (after a migration).
_FORGOTTEN = (b"26000", b"0A000")


def read_one(using: str, sql: str, parameters: Sequence[Any]) -> Row | None:
    """Return the first row that a query finds in the database of that alias, or ``None``.

    With ``prepare_threshold`` in ``OPTIONS`` PostgreSQL plans it once a connection. And it is its own health check:
    outside a transaction, a connection that turns out to be lost is replaced, and asked again.
    """
    connection = connections[using]
    try:
        return _execute(connection, _Kept, sql, parameters)
    except (InterfaceError, OperationalError):
        if connection.in_atomic_block or not _is_lost(connection):
            raise
        connection.close()
        return _execute(connection, _Kept, sql, parameters)


def send(using: str, sql: str, parameters: Sequence[Any]) -> Row | None:
    """Execute statements in one message, and return the first row of the last one, or ``None``."""
    return _execute(connections[using], _Message, sql, parameters)


@contextmanager
def warnings(using: str) -> Iterator[list[str]]:
    """Collect which functions of PostgreSQL's source warn of something, beside the answers to statements meanwhile."""
    raw, found = connections[using].connection, list[str]()

    def note(said: errors.Diagnostic) -> None:
        found.append(said.source_function or "")

    raw.add_notice_handler(note)
    try:
        yield found
    finally:
        raw.remove_notice_handler(note)


def _execute(connection: Any, kind: "type[_Cursor]", sql: str, parameters: Sequence[Any]) -> Row | None:
    connection.ensure_connection()
    if _is_lost(connection):  # before Django complains that the transaction is broken, which is no wonder
        raise OperationalError("the connection is closed")
    cursor = kind(connection.connection)
    wrap = connection.make_debug_cursor if connection.queries_logged else connection.make_cursor
    wrap(cursor).execute(sql, parameters)
    connection.health_check_done = True
    return cursor.row


def _is_lost(connection: Any) -> bool:
    return connection.connection is None or bool(connection.connection.closed)


class _Cursor:
    """As much of a cursor as Django's wrappers need."""

    def __init__(self, connection: Connection[Any]) -> None:
        self.connection = connection
        self.row: Row | None = None
        self.query = b""

    @property
    def _query(self) -> "_Cursor":
        """Where Django's log of queries looks for the text, as ``_query.query``."""
        return self

    def execute(self, sql: str, parameters: Sequence[Any]) -> None:
        connection = self.connection
        if not connection.autocommit and _is_idle(connection):
            connection.execute("")  # with which psycopg begins the transaction, as it does for any cursor
        values = Transformer(connection)
        result = self.ask(values, sql, parameters)
        if result.status == ExecStatus.TUPLES_OK:
            values.set_pgresult(result)
            self.row = values.load_row(0, tuple) if result.ntuples else None
        elif result.status != ExecStatus.COMMAND_OK:
            if connection.pgconn.status == ConnStatus.OK and result.error_field(DiagnosticField.SQLSTATE):
                raise errors.error_from_result(result)
            connection.close()  # what has no SQLSTATE is libpq's own word: it has lost the server, and may not know yet
            raise errors.OperationalError(result.get_error_message())

    def ask(self, values: abc.Transformer, sql: str, parameters: Sequence[Any]) -> PGresult:
        raise NotImplementedError


class _Message(_Cursor):
    """Statements with their values written into the text: PostgreSQL takes several in one message only so."""

    def ask(self, values: abc.Transformer, sql: str, parameters: Sequence[Any]) -> PGresult:
        self.query = sql.encode() % tuple(map(values.as_literal, parameters))
        return self.connection.pgconn.exec_(self.query)


class _Kept(_Cursor):
    """One statement, with its values beside it."""

    def ask(self, values: abc.Transformer, sql: str, parameters: Sequence[Any]) -> PGresult:
        connection, pgconn = self.connection, self.connection.pgconn
        self.query = _numbered(sql)
        texts: Any = values.dump_sequence(parameters, [PyFormat.TEXT] * len(parameters))
        if connection.prepare_threshold is None:
            return pgconn.exec_params(self.query, texts)
        kept = _kept.setdefault(connection, {})
        if sql in kept:
            result = pgconn.exec_prepared(kept[sql], texts)
            if result.error_field(DiagnosticField.SQLSTATE) not in _FORGOTTEN or not _is_idle(connection):
                return result
        name = b"idempotency_%d" % next(_numbers)
        result = pgconn.prepare(name, self.query)
        if result.status != ExecStatus.COMMAND_OK:
            return result
        kept[sql] = name
        return pgconn.exec_prepared(name, texts)


def _is_idle(connection: Connection[Any]) -> bool:
    return connection.pgconn.transaction_status == TransactionStatus.IDLE


@lru_cache
def _numbered(sql: str) -> bytes:
    """``%s`` as PostgreSQL itself writes it: ``$1``, ``$2``."""
    number = count(1)
    return re.sub("%s", lambda _: f"${next(number)}", sql).encode()
