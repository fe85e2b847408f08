"""Errors of the database that are no bugs: it is away, busy, read-only or not migrated."""

from django.db import InterfaceError, InternalError, OperationalError, ProgrammingError

# PostgreSQL's classes are coarse: it files these among the errors of a wrong program.
TRANSIENT = {
    "25006",  # read_only_sql_transaction: the server has become a standby
    "25P03",  # idle_in_transaction_session_timeout
    "25P04",  # transaction_timeout
}
UNDEFINED = {"42P01", "42703", "42883"}  # undefined_table, undefined_column, undefined_function


def is_unavailable(error: BaseException | None) -> bool:
    """Return whether the error is transient: time-out, lost connection, standby."""
    if isinstance(error, InternalError):
        return getattr(error.__cause__, "sqlstate", None) in TRANSIENT
    return isinstance(error, OperationalError | InterfaceError)


def is_unmigrated(error: BaseException | None) -> bool:
    """Return whether the schema is older than this code: a table, column or function is missing."""
    return isinstance(error, ProgrammingError) and getattr(error.__cause__, "sqlstate", None) in UNDEFINED


def sentence(error: BaseException) -> str | None:
    """Return the error and what to do, for a person at a shell; None where it may be a bug."""
    if is_unmigrated(error):
        return "The database is not migrated: run manage.py migrate."
    if is_unavailable(error):
        return f"The database could not be asked ({str(error).partition(chr(10))[0].rstrip('.')}): try again later."
    return None
