"""Funds whose name makes PostgreSQL wait, crash or fail at COMMIT.

So a test decides when a real request of a real server is still running, or how it ends, without touching our code.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection

from tests.conftest import FUND
from tests.eventually import eventually

CRASH = "Told to crash"  # DataError: a bug, 500
DEADLOCK = "Told to deadlock"  # OperationalError: the database's fault, 503
FAIL_AT_COMMIT = "Told to fail at COMMIT"  # IntegrityError, after the view has answered 201

CREATE = """
CREATE FUNCTION test_obey() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.name LIKE 'Held %' THEN
        PERFORM pg_advisory_xact_lock(hashtextextended(NEW.name, 0));
    ELSIF NEW.name LIKE 'Told to crash%' THEN
        RAISE EXCEPTION 'told to crash' USING ERRCODE = 'data_exception', DETAIL = NEW.name;
    ELSIF NEW.name LIKE 'Told to deadlock%' THEN
        RAISE EXCEPTION 'told to deadlock' USING ERRCODE = 'deadlock_detected', DETAIL = NEW.name;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER test_obey BEFORE INSERT ON fundapi_fund FOR EACH ROW EXECUTE FUNCTION test_obey();
CREATE FUNCTION test_obey_late() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'told to fail at COMMIT' USING ERRCODE = 'integrity_constraint_violation', DETAIL = NEW.name;
END $$;
CREATE CONSTRAINT TRIGGER test_obey_late AFTER INSERT ON fundapi_fund DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (NEW.name LIKE 'Told to fail at COMMIT%') EXECUTE FUNCTION test_obey_late();
"""
DROP = "DROP FUNCTION IF EXISTS test_obey CASCADE; DROP FUNCTION IF EXISTS test_obey_late CASCADE"
WAITING = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND wait_event = 'advisory' AND query LIKE %s
"""


def query(sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return cursor.fetchall() if cursor.description else []


@contextmanager
def undeletable(table: str) -> Iterator[None]:
    """Let every deletion from a table fail."""
    query("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$")
    try:
        query(f"CREATE TRIGGER refused BEFORE DELETE ON {table} EXECUTE FUNCTION refuse()")
        yield
    finally:  # with a cursor of its own: the product may have closed the connection after the failure
        query("DROP FUNCTION refuse CASCADE")


class Hold:
    """A fund that cannot be created until it is released; its request runs as long."""

    def __init__(self) -> None:
        self.body = FUND | {"name": f"Held {uuid.uuid4().hex}"}
        self.held = True
        query("SELECT pg_advisory_lock(hashtextextended(%s, 0))", self.body["name"])

    def running(self, count: int = 1) -> list[int]:
        """Wait until ``count`` requests are in the INSERT of the fund; return their backends' pids."""
        return self._waiting("%fundapi_fund%", count)

    def waiting(self, count: int = 1) -> list[int]:
        """Wait until ``count`` requests wait for the key; return their backends' pids."""
        return self._waiting("%idempotency_claim%", count)

    def release(self) -> None:
        if self.held:
            self.held = False
            query("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", self.body["name"])

    @staticmethod
    def _waiting(pattern: str, count: int) -> list[int]:
        def pids() -> list[int]:
            found = [pid for (pid,) in query(WAITING, pattern)]
            return found if len(found) >= count else []

        found: list[int] = eventually(pids)
        return found


@pytest.fixture(scope="session")
def obedience(database: None) -> None:
    """This worker's table of funds obeys names from now on. Each directory's conftest has its own copy."""
    query(DROP)
    query(CREATE)


@pytest.fixture
def hold(obedience: None) -> Iterator[Hold]:
    holding = Hold()
    yield holding
    holding.release()
