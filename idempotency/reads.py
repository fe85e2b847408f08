"""The reads of every request, at the price of one round trip each."""

from typing import Any

from django.db import InterfaceError, OperationalError, connections
from django.db.backends.utils import CursorWrapper
from psycopg import Cursor


def read_one(using: str, sql: str, parameters: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Return the row that a query finds in the database of that alias, or ``None``.

    Cheaper than Django's own cursor twice over (0.25 ms in place of 1.2 for who holds a token). Parameters travel
    beside the statement, so with ``prepare_threshold`` in ``OPTIONS`` PostgreSQL plans it once a connection. And it is
    its own health check: outside a transaction, a connection that turns out to be lost is replaced, and asked again.
    """
    connection = connections[using]
    try:
        return _read_one(connection, sql, parameters)
    except (InterfaceError, OperationalError):
        if connection.in_atomic_block or not _is_lost(connection):
            raise
        connection.close()
        return _read_one(connection, sql, parameters)


def _read_one(connection: Any, sql: str, parameters: tuple[Any, ...]) -> tuple[Any, ...] | None:
    connection.ensure_connection()
    cursor = CursorWrapper(Cursor(connection.connection), connection)
    cursor.execute(sql, parameters)
    connection.health_check_done = True
    row: tuple[Any, ...] | None = cursor.fetchone()
    return row


def _is_lost(connection: Any) -> bool:
    return connection.connection is None or bool(connection.connection.closed)
