"""All SQL of the app: one function a statement, frozen dataclasses out.

The protocol is one transaction: :func:`claim`, the view's own writes, :func:`save`, COMMIT. The claim holds a
transaction-scoped advisory lock, so "still running" needs no row, and ends with its connection.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connections

from idempotency.conf import conf
from idempotency.keys import lock_id
from idempotency.problems import RequestInProgress

COUNT_EXACT_MAX = 100_000  # rows; an index-only count of so many takes about 10 ms, more is estimated


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """What a key was used for, and the answer it got."""

    fingerprint: UUID
    content_type: str
    location: str | None
    etag: str | None
    body: bytes


class AlreadyStored(Exception):
    """The primary key refused the row: somebody else finished first."""


def _execute(sql: str, parameters: tuple[Any, ...]) -> Any:
    cursor = connections[conf.database].cursor()
    cursor.execute(sql, parameters)
    return cursor


def _milliseconds(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)


# idempotency_claim() is made by migration 0001. It is VOLATILE PL/pgSQL, so each of its statements takes a
# new snapshot: it locks first and then looks. A look-up in the statement that takes the lock can be stale.
CLAIM = """
SELECT state, fingerprint, content_type, location, etag, body
FROM idempotency_claim(%s, %s, %s, %s, %s)
"""


def claim(digest: UUID, *, wait: int = 0) -> StoredResponse | None:
    """Take the key for the current transaction. One round trip.

    Returns the stored response if the key has been used and is alive by the database's clock; ``None`` if the
    key is now held, until COMMIT or ROLLBACK. From then on, statement and idle time-outs bound the transaction.
    ``wait`` is how many seconds to wait for another holder.

    Raises:
        RequestInProgress: another transaction holds the key (and still held it after ``wait``).
    """
    row = _execute(
        CLAIM,
        (
            digest,
            lock_id(digest),
            wait * 1000,
            _milliseconds(conf.statement_timeout),
            _milliseconds(conf.idle_timeout),
        ),
    ).fetchone()
    if row[0] == "running":
        raise RequestInProgress
    return StoredResponse(*row[1:]) if row[0] == "stored" else None


# The WHERE of the conflict branch is the last fence: an expired row is replaced, a live one never is.
SAVE = """
INSERT INTO idempotency_store AS stored (
    digest, environment, operation, principal, token,
    fingerprint, status, content_type, location, etag, body, created_at, expires_at
)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, now(), now() + %s)
ON CONFLICT (digest) DO UPDATE SET
    (fingerprint, status, content_type, location, etag, body, created_at, expires_at) = (
        excluded.fingerprint, excluded.status, excluded.content_type, excluded.location, excluded.etag,
        excluded.body, excluded.created_at, excluded.expires_at
    ),
    conflicts = 0,
    last_conflict_at = NULL
WHERE stored.expires_at <= now()
"""


def save(
    digest: UUID, *, operation: str, principal: str, token: str, status: int, response: StoredResponse
) -> None:
    """Store the answer of a claimed key, to live for the TTL.

    Raises:
        AlreadyStored: a live row is there. The transaction is intact and must be rolled back.
    """
    cursor = _execute(
        SAVE,
        (
            digest,
            conf.environment,
            operation,
            principal,
            token,
            response.fingerprint,
            status,
            response.content_type,
            response.location,
            response.etag,
            response.body,
            conf.ttl,
        ),
    )
    if cursor.rowcount == 0:
        raise AlreadyStored


FIND = """
SELECT fingerprint, content_type, location, etag, body
FROM idempotency_store WHERE digest = %s AND expires_at > now()
"""


def find(digest: UUID) -> StoredResponse | None:
    """Return the live stored response of a key, if any, without taking the key."""
    row = _execute(FIND, (digest,)).fetchone()
    return StoredResponse(*row) if row else None


RECORD_CONFLICT = """
UPDATE idempotency_store SET conflicts = conflicts + 1, last_conflict_at = now() WHERE digest = %s
"""


def record_conflict(digest: UUID) -> None:
    """Note on the key that another request came with it, for the support engineer who is asked why."""
    _execute(RECORD_CONFLICT, (digest,))


# pg_locks shows an advisory lock's 64-bit number as two halves; their sum is the signed lock_id again.
RUNNING = """
SELECT (lock.classid::bigint << 32) | lock.objid::bigint, min(activity.xact_start)
FROM pg_locks AS lock LEFT JOIN pg_stat_activity AS activity ON activity.pid = lock.pid
WHERE lock.locktype = 'advisory' AND lock.objsubid = 1 AND lock.granted
  AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
GROUP BY 1
"""


def running() -> dict[int, datetime | None]:
    """Return the :func:`~idempotency.keys.lock_id` of every key held now, and since when where that is visible."""
    return dict(_execute(RUNNING, ()).fetchall())


# SKIP LOCKED: two purges share the work, and a row that is just being replaced by a new use is left alone. The
# batch is chosen once, in a WITH: as a subquery, a nested loop may run it again and again and pass the limit.
PURGE_BATCH = """
WITH batch AS MATERIALIZED (
    SELECT digest FROM idempotency_store WHERE expires_at <= now()
    ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED
)
DELETE FROM idempotency_store AS stored USING batch
WHERE stored.digest = batch.digest AND stored.expires_at <= now()
"""


def purge_batch(limit: int) -> int:
    """Delete up to ``limit`` expired rows in one short transaction; return how many."""
    deleted: int = _execute(PURGE_BATCH, (limit,)).rowcount
    return deleted


COUNT = """
SELECT count(*) FROM (SELECT FROM idempotency_store WHERE expires_at {} now() LIMIT %s) AS counted
"""
ESTIMATE = "EXPLAIN (FORMAT JSON) SELECT FROM idempotency_store WHERE expires_at {} now()"


def _count(comparison: str) -> int:
    counted: int = _execute(COUNT.format(comparison), (COUNT_EXACT_MAX,)).fetchone()[0]
    if counted < COUNT_EXACT_MAX:
        return counted
    plan = _execute(ESTIMATE.format(comparison), ()).fetchone()[0]
    return max(counted, int(plan[0]["Plan"]["Plan Rows"]))


def count_active() -> int:
    """Return the number of live keys: exact up to 100,000, then the planner's estimate. Cheap at any size."""
    return _count(">")


def count_expired() -> int:
    """Return the number of keys a purge would delete, as exact as :func:`count_active`."""
    return _count("<=")
