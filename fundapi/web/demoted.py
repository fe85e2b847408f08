"""Leave a server that takes no writes any more: another one may, at the same address or another host of DATABASE_URL.

A primary that becomes a standby restarts, which ends its connections. But one that was only made read-only keeps them,
and so does a standby to which a proxy led for a moment. They would serve nothing but replays for CONN_MAX_AGE.
"""

from collections.abc import Iterable

from django.db.backends.base.base import BaseDatabaseWrapper

# PostgreSQL tells its clients of a change of these with the next answer.
READ_ONLY = b"in_hot_standby", b"default_transaction_read_only"


def leave(databases: Iterable[BaseDatabaseWrapper]) -> None:
    """Have each connection to a read-only server made anew before its next use. For the thread that uses them."""
    for database in databases:
        connection = database.connection
        if connection is None or connection.closed:
            continue
        if any(connection.pgconn.parameter_status(name) == b"on" for name in READ_ONLY):
            database.close_at = 0  # Django closes it (close_if_unusable_or_obsolete)
