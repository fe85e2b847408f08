"""Which errors of the database mean "not now, try again", and which are bugs."""

from django.db import InterfaceError, InternalError, OperationalError

# PostgreSQL's classes are coarse: these are filed under errors of the caller's own making.
NOT_NOW = {
    "25006",  # read_only_sql_transaction: the server has become a standby
    "25P03",  # idle_in_transaction_session_timeout
    "25P04",  # transaction_timeout
}


def is_unavailable(error: BaseException | None) -> bool:
    """Tell whether the database was away, busy or out of patience: a time-out, a lost connection, a standby."""
    if isinstance(error, InternalError):
        return getattr(error.__cause__, "sqlstate", None) in NOT_NOW
    return isinstance(error, OperationalError | InterfaceError)
