"""All SQL of the app: one function a statement, frozen dataclasses out.

The protocol is one transaction: :func:`claim` begins it, the view writes, :func:`save` commits it. The claim holds a
transaction-scoped advisory lock, so "still running" needs no row, and ends with its connection.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import DatabaseError, OperationalError, connections, transaction

from idempotency.bodies import pack, unpack
from idempotency.conf import conf
from idempotency.keys import lock_id
from idempotency.problems import RequestInProgress
from idempotency.wire import execute, read_one, warnings

# Rows; an index-only count of so many takes about 10 ms. Beyond, the planner estimates.
COUNT_EXACT_MAX = 100_000


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """The stored answer of a key, and the fingerprint of its request."""

    fingerprint: UUID
    status: int
    headers: dict[str, str]
    body: bytes


class AlreadyStored(Exception):
    """The primary key refused the row: another request finished first."""


class NotReplicated(OperationalError):
    """PostgreSQL no longer waits for its synchronous standby."""


def _execute(sql: str, parameters: tuple[Any, ...]) -> Any:
    cursor = connections[conf.database].cursor()
    cursor.execute(sql, parameters)
    return cursor


def _is_ours() -> bool:
    """Return whether the transaction is the protocol's own: a ``TestCase`` wraps each test in another one."""
    return len(connections[conf.database].atomic_blocks) == 1


def _milliseconds(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)


# idempotency_claim() is made by migration 0003. It is VOLATILE PL/pgSQL, so each of its statements takes a
# new snapshot: it locks first and then looks. A look-up in the statement that takes the lock can be stale.
CLAIM = """
SELECT state, fingerprint, status, content_type, location, etag, headers, body
FROM idempotency_claim(%s, %s, %s, %s, %s)
"""
# Inside a transaction of somebody else, such as a TestCase's, the time-outs stay as they are.
CLAIM_INSIDE = """
SELECT state, fingerprint, status, content_type, location, etag, headers, body
FROM idempotency_claim(%s, %s, %s,
    (SELECT setting::integer FROM pg_settings WHERE name = 'statement_timeout'),
    (SELECT setting::integer FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'))
"""


def claim(digest: UUID, *, wait: int = 0) -> StoredResponse | None:
    """Begin the transaction of the ``atomic`` block that this is the first statement of, and take the key for it.

    Returns the stored response if the key has been used and is alive by the database's clock; ``None`` if the
    key is now held, until COMMIT or ROLLBACK. From then on, time-outs bound a transaction of our own.
    ``wait`` is for a second try in the same transaction: how many seconds to wait for another holder.

    Raises:
        RequestInProgress: another transaction holds the key (and still held it after ``wait``).
    """
    ours = _is_ours()
    timeouts = (_milliseconds(conf.statement_timeout), _milliseconds(conf.idle_timeout)) if ours else ()
    row: Any = execute(
        conf.database,
        CLAIM if ours else CLAIM_INSIDE,
        (digest, lock_id(digest), wait * 1000, *timeouts),
        begins=not wait and ours,
    )
    state, *stored = row
    if state == "running":
        raise RequestInProgress
    return _response(stored) if state == "stored" else None


# idempotency_save() is made by migration 0005. It refuses by an error, so that the COMMIT behind it is not executed if
# a live row is in the way. The two settings end with the transaction, so they also hold behind a pooler. Without them,
# a role could have PostgreSQL hide the warning below (client_min_messages), or answer before the row is on disk, here
# and on the standby (synchronous_commit).
SAVE = """
SELECT idempotency_save(
        %s, %s, %s, %s, %s, %s, %s::smallint, %s, %s, %s, %s, %s, %s::jsonb, %s::jsonb, %s
    ),
    set_config('client_min_messages', 'warning', true),
    set_config('synchronous_commit', CASE WHEN current_setting('synchronous_commit') IN ('off', 'local')
        THEN 'on' ELSE current_setting('synchronous_commit') END, true)
"""
# The SQLSTATE of that error.
REFUSED = "IK409"
# PostgreSQL answers a COMMIT whose wait for the standby was cancelled (pg_cancel_backend) with success, and a warning
# from this function of its source. The standby may not have the row: after a fail-over an acknowledged fund would be
# lost. So it is not acknowledged: the client's retry finds the row, or makes it on the new primary.
WAIT_FOR_STANDBY = "SyncRepWaitForLSN"


def save(
    digest: UUID,
    response: StoredResponse,
    *,
    operation: str,
    principal: str,
    token: str,
    ttl: timedelta | None = None,
    origin: dict[str, str] | None = None,
    parts: bytes = b"",
) -> None:
    """Store the answer of a claimed key, to live for ``ttl``, and commit. One round trip.

    ``origin`` and ``parts`` are for people: where the request came from, and the digests of its fields.

    Raises:
        AlreadyStored: a live row is there. Roll the transaction back.
        NotReplicated: the row is committed here; whether the standby has it is unknown.
    """
    headers = dict(response.headers)
    try:
        with warnings(conf.database) as warned:
            execute(
                conf.database,
                SAVE,
                (
                    digest,
                    conf.environment,
                    operation,
                    principal,
                    token,
                    response.fingerprint,
                    response.status,
                    headers.pop("Content-Type", ""),
                    headers.pop("Location", None),
                    headers.pop("ETag", None),
                    pack(response.body),
                    ttl or conf.ttl,
                    json.dumps(headers) if headers else None,
                    json.dumps(origin) if origin else None,
                    parts or None,
                ),
                commits=_is_ours(),
            )
    except DatabaseError as error:
        if getattr(error.__cause__, "sqlstate", None) != REFUSED:
            raise
        raise AlreadyStored from None
    if WAIT_FOR_STANDBY in warned:
        raise NotReplicated("the wait for the synchronous standby was cancelled")


FIND = """
SELECT fingerprint, status, content_type, location, etag, headers, body
FROM idempotency_store WHERE digest = %s AND expires_at > now()
"""


def find(digest: UUID) -> StoredResponse | None:
    """Return the live stored response of a key, if any, without taking the key."""
    row = read_one(conf.database, FIND, (digest,))
    return _response(row) if row else None


def _response(row: Any) -> StoredResponse:
    fingerprint, status, content_type, location, etag, more, body = row
    # Text where the driver leaves JSON to Django.
    headers = json.loads(more) if isinstance(more, str) else more or {}
    own = {"Content-Type": content_type, "Location": location, "ETag": etag}
    headers |= {name: value for name, value in own.items() if value is not None}
    return StoredResponse(fingerprint, status, headers, unpack(body))


PARTS = "SELECT parts FROM idempotency_store WHERE digest = %s"


def parts_of(digest: UUID) -> bytes:
    """Return the digests of the fields of the key's first request, if they are stored."""
    row = _execute(PARTS, (digest,)).fetchone()
    return bytes(row[0] or b"") if row else b""


RECORD_CONFLICT = """
UPDATE idempotency_store SET conflicts = conflicts + 1, last_conflict_at = now(), last_conflict = %s::jsonb
WHERE digest = %s
"""


def record_conflict(digest: UUID, *, differs: list[str], origin: dict[str, str]) -> None:
    """Count a conflict on the key, for the support engineer who has to explain the 409."""
    _execute(RECORD_CONFLICT, (json.dumps({"differs": differs, "origin": origin}), digest))


# Locked in the order of the digests, so that two processes that write at one time never block each other for good.
RECORD_REPLAYS = """
WITH counted AS (SELECT * FROM unnest(%s::uuid[], %s::integer[]) AS counted (digest, replays)),
locked AS MATERIALIZED (
    SELECT digest FROM idempotency_store WHERE digest IN (SELECT digest FROM counted) ORDER BY digest FOR UPDATE
)
UPDATE idempotency_store AS stored SET replays = stored.replays + counted.replays, last_replay_at = now()
FROM locked JOIN counted USING (digest) WHERE stored.digest = locked.digest
"""


def record_replays(counts: Mapping[UUID, int]) -> None:
    """Add the replays of many keys to their rows; a crash of the server may forget them."""
    with transaction.atomic(using=conf.database):
        _execute("SET LOCAL synchronous_commit TO off", ())
        _execute(RECORD_REPLAYS, (list(counts), list(counts.values())))


# pg_locks shows an advisory lock's 64-bit number as two halves; their sum is the signed lock_id again.
RUNNING = """
SELECT (lock.classid::bigint << 32) | lock.objid::bigint, min(activity.xact_start)
FROM pg_locks AS lock LEFT JOIN pg_stat_activity AS activity ON activity.pid = lock.pid
WHERE lock.locktype = 'advisory' AND lock.objsubid = 1 AND lock.granted
  AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
GROUP BY 1
"""


def running() -> dict[int, datetime | None]:
    """Return the :func:`~idempotency.keys.lock_id` of every key held now, with its start where that is visible."""
    return dict(_execute(RUNNING, ()).fetchall())


# SKIP LOCKED: two purges share the work, and a row that is just being replaced by a new use is left alone. The
# batch is chosen once, in a WITH: as a subquery, a nested loop may run it again and again and pass the limit.
# It begins where the last one ended: until VACUUM comes, the index still has all that was deleted, and with ten
# million of them a batch that begins at the start takes seven times as long.
PURGE_BATCH = """
WITH batch AS MATERIALIZED (
    SELECT digest FROM idempotency_store WHERE expires_at >= %s AND expires_at <= now()
    ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED
), deleted AS (
    DELETE FROM idempotency_store AS stored USING batch
    WHERE stored.digest = batch.digest AND stored.expires_at <= now()
    RETURNING stored.expires_at
)
SELECT count(*), max(expires_at) FROM deleted
"""
BEGINNING = datetime(1, 1, 1, tzinfo=UTC)


def purge_batch(limit: int, *, since: datetime = BEGINNING) -> tuple[int, datetime]:
    """Delete up to ``limit`` rows that expired at ``since`` or later, the oldest first, in one short transaction.

    Returns how many, and where the next batch begins.
    """
    deleted, latest = _execute(PURGE_BATCH, (since, limit)).fetchone()
    return deleted, latest or since


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


def clock() -> datetime:
    """Return the time of the database, which dates the keys."""
    now: datetime = _execute("SELECT clock_timestamp()", ()).fetchone()[0]
    return now


@contextmanager
def held_elsewhere(digest: UUID) -> Iterator[None]:
    """Hold a key in a session of its own, for tests."""
    session: Any = connections[conf.database].copy()
    try:
        with session.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", (lock_id(digest),))
            try:
                yield
            finally:
                # A session that is closed ends a moment later.
                cursor.execute("SELECT pg_advisory_unlock(%s)", (lock_id(digest),))
    finally:
        session.close()


LACKS_FUNCTIONS = """
SELECT to_regclass('idempotency_store') IS NOT NULL AND NOT EXISTS (
    SELECT FROM pg_proc WHERE proname = 'idempotency_claim' AND pg_function_is_visible(oid)
)
"""


def make_missing_functions(*definitions: str) -> None:
    """Make the functions of the protocol if there is the table alone: migrations are off in a test run."""
    if _execute(LACKS_FUNCTIONS, ()).fetchone()[0]:
        for definition in definitions:
            _execute(definition, ())
