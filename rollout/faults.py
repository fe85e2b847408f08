"""Sentences about a database that is away, not migrated or read-only. A bug has none, and stays a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.core.management.base import CommandError
from django.db import DatabaseError, InterfaceError, OperationalError, ProgrammingError, connection
from django.db.migrations.exceptions import InconsistentMigrationHistory
from django.db.migrations.executor import MigrationExecutor

READ_ONLY = "25006"  # SQLSTATE read_only_sql_transaction
DENIED = "42501"  # insufficient_privilege
ADVICE = {
    READ_ONLY: "The database is read-only or a standby ({}): use the primary, or end the read-only mode.",
    DENIED: "The database role may not do this ({}): use the role that owns the tables, or grant it the right.",
    "55P03": "Another session holds what this needs ({}): try again; pg_stat_activity shows that session.",
    "57014": "The database took too long ({}): try again; pg_stat_activity shows what it waits for.",
    "25P03": "The command paused too long within a transaction ({}): try again.",
    "25P04": "The transaction took too long ({}): try again.",
    "53100": "The disk of the database is full ({}): free space there, and try again.",
    "53300": "The database has no free connection ({}): try again, or raise max_connections.",
}
AWAY = "The database could not be asked ({}): check that it runs, and its address, role and password; then try again."
# A table, column, function or schema does not exist, or a column that this release does not know must not be null.
SCHEMA = {"42P01", "42703", "42883", "3F000", "23502"}


def sentence(error: BaseException) -> str | None:
    """Return what is wrong with the database and what to do, or None where the error may be a bug."""
    if not isinstance(error, DatabaseError | InterfaceError):
        return None
    if isinstance(error, InconsistentMigrationHistory):
        return str(error)
    state = _sqlstate(error)
    if state in SCHEMA:
        with suppress(DatabaseError, InterfaceError):
            return unmigrated(first_line(error))
    is_operational = isinstance(error, OperationalError | InterfaceError)
    # libpq does not know an option of the address.
    is_unconnected = isinstance(error, ProgrammingError) and state is None and connection.connection is None
    template = ADVICE.get(state or "", AWAY if is_operational or is_unconnected else None)
    return template and template.format(first_line(error))


def unmigrated(why: str = "") -> str | None:
    """Return how the database's migrations differ from this release's, or None where they do not.

    ``why`` is the error by which that was found.
    """
    executor = MigrationExecutor(connection)
    loader = executor.loader
    missing = [step for step, _ in executor.migration_plan(loader.graph.leaf_nodes())]
    unknown = [
        f"{app}.{name}"
        for app, name in loader.applied_migrations
        if app in loader.migrated_apps and (app, name) not in loader.disk_migrations
    ]
    if missing:
        count = f"{len(missing)} migration{'s are' if len(missing) > 1 else ' is'} missing"
        details = "; ".join(filter(None, [why, f"{count}, from {missing[0]} on"]))
        return f"The database is not migrated ({details}): run manage.py migrate."
    if unknown:
        names = ", ".join(unknown)
        return f"The database is ahead of this release, which does not know {names}: run the release that migrated it."
    return None


@contextmanager
def in_words(returncode: int = 1) -> Iterator[None]:
    """Raise a :class:`CommandError` for an error that has a :func:`sentence`; also a decorator of ``handle``."""
    try:
        yield
    except (DatabaseError, InterfaceError) as error:
        if (text := sentence(error)) is None:
            raise
        raise CommandError(text, returncode=returncode) from error


def _sqlstate(error: BaseException | None) -> str | None:
    """Return PostgreSQL's code: of the error, or of the one it was raised for."""
    while error is not None:
        if state := getattr(error, "sqlstate", None):
            return str(state)
        error = error.__cause__ or error.__context__
    return None


def first_line(error: BaseException) -> str:
    """Return the first line of an error, as part of a sentence."""
    text = str(error).strip().partition("\n")[0]
    for prefix in ("connection failed: ", "connection is bad: "):  # psycopg's, before libpq's own words
        text = text.removeprefix(prefix)
    return " ".join(text.split()).rstrip(".: ") or type(error).__name__
