"""Cut off connections on which PostgreSQL does not answer: the client's side of the statement time-out.

PostgreSQL ends a statement after ``DATABASE_STATEMENT_TIMEOUT``. A frozen server, or a proxy that has lost its other
side, does not: the kernel acknowledges what is sent, no keepalive fails, and the thread waits for good. When its
connection is cut off, the request is answered with 503, and the next one connects anew.
"""

import os
import socket
import threading
import time
from collections.abc import Iterable
from contextlib import suppress

import psycopg
import structlog
from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq import TransactionStatus

from fundapi.metrics import connections_cut

logger = structlog.get_logger(__name__)

INTERVAL = 1.0  # s between two looks at all connections
MARGIN = 2  # s beside the statement time-out, for the network

# How many looks in a row have found each connection waiting for an answer.
_waiting: dict[BaseDatabaseWrapper, int] = {}
_start = threading.Lock()


def watch(databases: Iterable[BaseDatabaseWrapper]) -> None:
    """Watch the connections of ``databases`` as long as this process lives."""
    with _start:
        if settings.DATABASE_STATEMENT_TIMEOUT and not _waiting:  # 0: no time-out
            threading.Thread(target=_watch, name="cutoff", daemon=True).start()
        for database in databases:
            _waiting.setdefault(database, 0)


def _watch() -> None:
    while True:
        time.sleep(INTERVAL)
        look()


def look() -> None:
    """Look at every connection once, and cut off those that were found waiting for too long."""
    for database, times in list(_waiting.items()):
        connection = database.connection  # another thread may close it, or set another, at any time
        with suppress(psycopg.Error, OSError):
            if connection is None or connection.pgconn.transaction_status != TransactionStatus.ACTIVE:
                _waiting[database] = 0
            elif times * INTERVAL < settings.DATABASE_STATEMENT_TIMEOUT + MARGIN:
                _waiting[database] = times + 1
            else:
                _waiting[database] = 0
                cut(connection)


def cut(connection: psycopg.Connection) -> None:
    """End a connection under the thread that waits for it, as if the server had closed it."""
    with socket.socket(fileno=os.dup(connection.pgconn.socket)) as end:
        end.shutdown(socket.SHUT_RDWR)
    connections_cut.inc()
    logger.warning("database_connection_cut", pid=connection.pgconn.backend_pid)
