"""Gates: places inside a request where a test stops it, looks around, and lets it go on or kills it.

A gate is an advisory lock in a key space of its own (two integers; the product's locks have one bigint). A
request stops at it because of a trigger that the tests put on the tables, so no production code knows of gates:

* ``stop:claimed:<number>`` as a fund's name: before the fund's INSERT, the key is claimed
* ``stop:inserted:<number>`` as a fund's name: after the fund's INSERT
* ``stop:stored:<number>`` as a key: after the INSERT into the store
* ``stop:committing:<number>`` as a key: inside COMMIT, which is not durable yet
"""

import random
import re
from dataclasses import dataclass
from typing import Any, Self

import psycopg

from tests.eventually import eventually

SPACE = 911  # first integer of every gate's lock

TRIGGERS = f"""
CREATE OR REPLACE FUNCTION lab_stop() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared({SPACE}, split_part(to_jsonb(NEW) ->> TG_ARGV[0], ':', 3)::integer);
    RETURN NEW;
END
$$;
CREATE OR REPLACE TRIGGER lab_claimed BEFORE INSERT ON fundapi_fund
    FOR EACH ROW WHEN (NEW.name LIKE 'stop:claimed:%') EXECUTE FUNCTION lab_stop('name');
CREATE OR REPLACE TRIGGER lab_inserted AFTER INSERT ON fundapi_fund
    FOR EACH ROW WHEN (NEW.name LIKE 'stop:inserted:%') EXECUTE FUNCTION lab_stop('name');
CREATE OR REPLACE TRIGGER lab_stored AFTER INSERT ON idempotency_store
    FOR EACH ROW WHEN (NEW.token LIKE 'stop:stored:%') EXECUTE FUNCTION lab_stop('token');
DROP TRIGGER IF EXISTS lab_committing ON idempotency_store;
CREATE CONSTRAINT TRIGGER lab_committing AFTER INSERT ON idempotency_store DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.token LIKE 'stop:committing:%') EXECUTE FUNCTION lab_stop('token');
"""

STOPPED = """
SELECT locks.pid, activity.application_name
FROM pg_locks AS locks JOIN pg_stat_activity AS activity USING (pid)
WHERE locktype = 'advisory' AND classid = %s AND objid = %s AND NOT granted
"""


@dataclass(frozen=True)
class Stopped:
    """One session that waits at a gate."""

    backend: int  # pid of PostgreSQL's process
    worker: int | None  # pid of the web server's process, where its application_name tells


class Gate:
    """A closed gate, opened at the end of the context at the latest."""

    def __init__(self, url: str, number: int | None = None) -> None:
        self.number = number if number is not None else random.randrange(2**31)
        self._session = psycopg.connect(url, autocommit=True)
        self._session.execute("SELECT pg_advisory_lock(%s::integer, %s::integer)", (SPACE, self.number))
        self._look = psycopg.connect(url, autocommit=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.open()
        self._look.close()

    def open(self) -> None:
        self._session.close()

    def marker(self, where: str) -> str:
        """The fund name, or key, that stops at this gate."""
        return f"stop:{where}:{self.number}"

    def stopped(self) -> list[Stopped]:
        rows = self._look.execute(STOPPED, (SPACE, self.number)).fetchall()
        return [
            Stopped(pid, int(m[1]) if (m := re.fullmatch(r"lab-(\d+)", name)) else None) for pid, name in rows
        ]

    def wait_for(self, count: int = 1) -> list[Stopped]:
        """Return the sessions that wait here, as soon as there are ``count``."""
        return eventually(self.stopped, lambda stopped: len(stopped) == count)


def pass_gate(session: psycopg.Connection[Any], number: int) -> None:
    session.execute("SELECT pg_advisory_xact_lock_shared(%s::integer, %s::integer)", (SPACE, number))
