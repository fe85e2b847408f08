"""Transient errors of the database, as opposed to bugs."""

from django.db import InterfaceError, InternalError, OperationalError

# PostgreSQL's classes are coarse: it files these among the errors of a wrong program.
TRANSIENT = {
    "25006",  # read_only_sql_transaction: the server has become a standby
    "25P03",  # idle_in_transaction_session_timeout
    "25P04",  # transaction_timeout
}


def is_unavailable(error: BaseException | None) -> bool:
    """Return whether the error is transient: time-out, lost connection, standby."""
    if isinstance(error, InternalError):
        return getattr(error.__cause__, "sqlstate", None) in TRANSIENT
    return isinstance(error, OperationalError | InterfaceError)
