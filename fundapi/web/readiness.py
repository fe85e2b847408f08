"""Readiness: whether the database would take a create, by three questions that write nothing.

A create that is rolled back would be the truest question. But it takes a transaction id, a number of the funds'
sequence, WAL and dead rows at every probe of every process, and it would find only one likely fault more: a full disk.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

from django.apps import apps
from django.db import DatabaseError, InterfaceError, ProgrammingError, connection
from psycopg.errors import InsufficientPrivilege, UndefinedTable

# One statement: each round trip of a busy process may take a while. A standby's transactions are read-only, too.
QUESTION = """
SELECT current_setting('transaction_read_only') = 'on',
       ARRAY(SELECT app || '.' || name FROM django_migrations),
       has_table_privilege('fundapi_fund', 'INSERT') AND has_table_privilege('idempotency_store', 'INSERT')
"""


class Readiness(NamedTuple):
    """A state in one word of ``/health``, and in words of ``/readyz``."""

    word: str
    text: str

    @property
    def ready(self) -> bool:
        return self.word == "ok"


READY = Readiness("ok", "ok")
AWAY = Readiness("unavailable", "no database")
READ_ONLY = Readiness("read-only", "read-only: the database takes no writes")
FORBIDDEN = Readiness("forbidden", "forbidden: the database role may not add funds (grant_database_roles)")


def readiness() -> Readiness:
    """Return the state of the database."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(QUESTION)
            read_only, migrations, may_create = cursor.fetchone()
    except ProgrammingError as error:
        match error.__cause__:
            case UndefinedTable():
                return _unmigrated("everything", 1)
            case InsufficientPrivilege():
                return FORBIDDEN
        raise
    except (DatabaseError, InterfaceError):
        return AWAY
    if read_only:
        return READ_ONLY
    # More than ours are there while the next version is rolled out: they suit this one (fundapi.checks).
    if missing := own_migrations().difference(migrations):
        return _unmigrated(min(missing), len(missing))
    return READY if may_create else FORBIDDEN


def _unmigrated(first: str, count: int) -> Readiness:
    more = f" and {count - 1} more are" if count > 1 else " is"
    return Readiness("unmigrated", f"unmigrated: {first}{more} missing (manage.py migrate)")


@cache
def own_migrations() -> frozenset[str]:
    """Return every migration that this code came with, such as ``rollout.0001_initial``.

    By the names of files: Django's loader imports them all, which costs each worker time and memory.
    """
    return frozenset(
        f"{app.label}.{file.stem}"
        for app in apps.get_app_configs()
        for file in Path(app.path, "migrations").glob("[!_~]*.py")
    )
