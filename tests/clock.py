"""A clock of the database that a test sets. It holds for connections with its schema first in the search path."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import connection

from tests.servers import database_url

SEARCH_PATH = "travel,pg_catalog,public"
TRAVEL = """
CREATE SCHEMA travel;
CREATE TABLE travel.clock AS SELECT NULL::timestamptz AS stands_at, interval '0' AS ahead;
CREATE FUNCTION travel.now() RETURNS timestamptz STABLE LANGUAGE sql
    AS $$ SELECT coalesce(stands_at, pg_catalog.now()) + ahead FROM travel.clock $$;
CREATE FUNCTION travel.statement_timestamp() RETURNS timestamptz STABLE LANGUAGE sql
    AS $$ SELECT coalesce(stands_at, pg_catalog.statement_timestamp()) + ahead FROM travel.clock $$;
CREATE FUNCTION travel.clock_timestamp() RETURNS timestamptz VOLATILE LANGUAGE sql
    AS $$ SELECT coalesce(stands_at, pg_catalog.clock_timestamp()) + ahead FROM travel.clock $$;
"""


class Clock:
    """The clock of the database, for these connections."""

    def __init__(self, session: psycopg.Connection[Any]) -> None:
        self.session = session

    def set_ahead(self, by: str) -> None:
        self.session.execute("UPDATE travel.clock SET ahead = %s::interval", (by,))

    def set_to(self, moment: str) -> None:
        self.session.execute("UPDATE travel.clock SET ahead = %s::timestamptz - pg_catalog.now()", (moment,))

    def stop(self) -> None:
        """Let it stand still from now on; :meth:`advance` moves it."""
        self.session.execute(
            "UPDATE travel.clock SET stands_at = coalesce(stands_at, pg_catalog.clock_timestamp())"
        )

    def advance(self, seconds: float) -> None:
        self.session.execute("UPDATE travel.clock SET ahead = ahead + make_interval(secs => %s)", (seconds,))

    def reset(self) -> None:
        self.session.execute("UPDATE travel.clock SET stands_at = NULL, ahead = interval '0'")


@contextmanager
def travelling() -> Iterator[Clock]:
    """Put such a clock into this worker's database."""
    with psycopg.connect(database_url(), autocommit=True) as session:
        session.execute(TRAVEL)
        try:
            yield Clock(session)
        finally:
            session.execute("DROP SCHEMA travel CASCADE")


@contextmanager
def travelled(ahead: str) -> Iterator[Clock]:
    """Let the database's clock differ from this process's, for the test's own connection."""
    with travelling() as clock, connection.cursor() as cursor:
        clock.set_ahead(ahead)
        cursor.execute(f"SET search_path TO {SEARCH_PATH}")
        try:
            yield clock
        finally:
            cursor.execute("RESET search_path")
