"""All SQL of the judge and its telemetry that is not a plain ORM call: one function a statement.

Telemetry has an order of arrival, ``seq``. The judge reads it in windows: after the sequence number that the previous
check ended with, up to :func:`fence`. No clock is asked, so none can lie.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from psycopg import Cursor

FENCE = 0x726F6C6C6F757400  # "rollout\0": key of the advisory lock between intake and judge
# A rehearsal is one long transaction. Were it to hold the intake's lock, the judge would wait for its end, and every
# intake behind the judge.
REHEARSAL_FENCE = FENCE + 1


class Arrival(msgspec.Struct, frozen=True):
    """A telemetry event on its way into the table; made 200 at a time, at a third of what a frozen dataclass costs."""

    id: UUID | str  # a UUID, or its 32 digits: cheaper, where there is no UUID yet
    client: UUID
    session: UUID
    event: str
    category: str
    ok: bool
    flag: str | None
    variant: str | None
    at: datetime | None
    detail: str | None
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """Events of a window that are alike."""

    client: UUID
    session: UUID
    event: str
    category: str
    ok: bool
    variant: str | None
    count: int
    lost: int


def _execute(sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Any:
    cursor = connection.cursor()
    cursor.execute(sql, parameters)
    return cursor


# The shared lock is held until the statement has committed. So whoever gets the exclusive one knows that every
# sequence number given out so far belongs to a row that is there, or never will be. (A CTE that the INSERT reads is
# evaluated before the first row is made, and with it before the first nextval.)
ARRIVE = """
WITH fence AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared(%s)),
arrived AS (
    INSERT INTO rollout_telemetry
        (id, client, session, event, category, ok, flag, variant, at, detail, lost)
    SELECT a.* FROM fence, json_to_recordset(%s) AS a (
        id uuid, client uuid, session uuid, event text, category text, ok boolean, flag text, variant text,
        at timestamptz, detail text, lost integer
    )
    ON CONFLICT (id) DO NOTHING
    RETURNING lost
)
SELECT count(*) FILTER (WHERE lost = 0) FROM arrived
"""


def arrive(events: Sequence[Arrival], *, fence: int = FENCE) -> int:
    """Store events in one statement, and return how many were new; reports of losses do not count.

    All of them are one parameter: eleven arrays, escaped value by value, cost 5 ms for 200 events, and this 0.5. It
    travels beside the statement, so with ``prepare_threshold`` in ``OPTIONS`` PostgreSQL plans it once a connection.
    """
    if not events:
        return 0
    usable = connection.cursor().connection  # checked, and replaced if it is lost: once a request
    cursor = CursorWrapper(Cursor(usable), connection)
    cursor.execute(ARRIVE, (fence, msgspec.json.encode(events).decode()))
    new: int = cursor.fetchone()[0]
    return new


def fence() -> tuple[int, datetime]:
    """Return a sequence number up to which all telemetry has arrived, and the time of the database.

    Waits for intakes that are under way, milliseconds each; to be called outside any transaction.
    """
    with transaction.atomic(durable=True):
        _execute("SELECT pg_advisory_xact_lock(%s)", (FENCE,))
        return last_seq(), _execute("SELECT clock_timestamp()").fetchone()[0]


def last_seq() -> int:
    """Return the latest sequence number given out; its row may not be there yet."""
    seq: int = _execute(
        "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM rollout_telemetry_seq"
    ).fetchone()[0]
    return seq


def isolate() -> None:
    """Let this transaction see the database as it is now, to its end; to be called first in it.

    So no telemetry that arrives meanwhile gets into a rehearsal.
    """
    _execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


WINDOW = """
SELECT client, session, event, category, ok, variant, count(*), max(lost)
FROM rollout_telemetry
WHERE seq > %s AND seq <= %s AND (flag = %s OR flag IS NULL)
GROUP BY client, session, event, category, ok, variant
"""


def window(feature: str, *, after: int, upto: int) -> list[Row]:
    """Return what arrived for a feature after one sequence number and up to another."""
    return [Row(*row) for row in _execute(WINDOW, (after, upto, feature))]


# Serialised by the lock on the rollout's row, which the caller holds: nobody writes between `known` and `written`.
# LIMIT makes it a look-up by the primary key for each of them: where a stage has only just begun, the planner takes
# it for empty, and would read all of its members every minute.
REMEMBER = """
WITH changed AS (
    SELECT who, before, before | now AS after
    FROM (
        SELECT seen.who, coalesce(known.flags, 0::smallint) AS before, seen.flags AS now
        FROM unnest(%(who)s::uuid[], %(flags)s::smallint[]) AS seen (who, flags) LEFT JOIN LATERAL (
            SELECT m.flags FROM rollout_stage_member AS m
            WHERE m.rollout_id = %(rollout)s AND m.stage = %(stage)s AND m.who = seen.who
            LIMIT 1
        ) AS known ON true
    ) AS both_flags
    WHERE now & ~before <> 0
),
written AS (
    INSERT INTO rollout_stage_member AS m (rollout_id, stage, who, flags)
    SELECT %(rollout)s, %(stage)s, who, after FROM changed
    ON CONFLICT (rollout_id, stage, who) DO UPDATE SET flags = excluded.flags
)
SELECT before, after, count(*) FROM changed GROUP BY before, after
"""


def remember(rollout: int, stage: int, flags: Mapping[UUID, int]) -> list[tuple[int, int, int]]:
    """Add what each client and session did to what it had done in the stage.

    Returns ``(flags before, flags after, how many)`` for those who did something for the first time.
    """
    if not flags:
        return []
    parameters = {"who": list(flags), "flags": list(flags.values()), "rollout": rollout, "stage": stage}
    rows: list[tuple[int, int, int]] = _execute(REMEMBER, parameters).fetchall()
    return rows


STANDINGS = """
SELECT r.feature, r.percentage, r.enabled AND NOT r.emergency_stop AND r.percentage > 0, r.emergency_stop,
       w.checked_at, w.carry, (SELECT score FROM rollout_check WHERE rollout_id = r.id ORDER BY id DESC LIMIT 1)
FROM rollout_rollout AS r LEFT JOIN rollout_watch AS w ON w.rollout_id = r.id
ORDER BY r.feature
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a rollout stands, for metrics."""

    feature: str
    percentage: Decimal
    live: bool
    emergency_stop: bool
    checked_at: datetime | None  # of this stage
    carry: dict[str, Any]  # rollout.judge.state.Carry
    score: int | None  # of the latest check


def standings() -> list[Standing]:
    """Return where every rollout stands."""
    return [
        Standing(feature, percentage, live, stopped, checked_at, json.loads(carry or "{}"), score)
        for feature, percentage, live, stopped, checked_at, carry, score in _execute(STANDINGS)
    ]


# Two that claim at once: the second waits for the first, looks again, and finds that it is not due.
CLAIM_ALERT = """
UPDATE rollout_alert SET attempts = attempts + 1, due_at = clock_timestamp() + %s
WHERE id = %s AND sent_at IS NULL AND due_at <= clock_timestamp()
    AND attempts < %s AND created_at > clock_timestamp() - %s
RETURNING channel, attempts, payload
"""
ALERT_FAILED = """
UPDATE rollout_alert SET error = %s, due_at = clock_timestamp() + %s
WHERE id = %s AND sent_at IS NULL AND attempts = %s
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """An alert that is ours to send."""

    channel: str
    attempt: int  # 1 is the first
    payload: dict[str, Any]  # rollout.alerts.messages.Message


def claim_alert(alert_id: int, *, lease: timedelta, attempts_max: int, age_max: timedelta) -> Claim | None:
    """Take an alert to send it, for as long as the lease. ``None``: it is sent, not due, given up, or taken."""
    row = _execute(CLAIM_ALERT, (lease, alert_id, attempts_max, age_max)).fetchone()
    return Claim(row[0], row[1], json.loads(row[2])) if row else None


def alert_failed(alert_id: int, *, attempt: int, error: str, pause: timedelta) -> None:
    """Give an alert back until its next attempt, unless a later one has it already."""
    _execute(ALERT_FAILED, (error, pause, alert_id, attempt))


# Oldest first by order of arrival, which has an index: of millions, only a batch is looked at. SKIP LOCKED: two purges
# share the work.
PURGE_EVENTS = """
DELETE FROM rollout_telemetry WHERE id IN (
    SELECT id FROM (
        SELECT id, arrived_at FROM rollout_telemetry ORDER BY seq LIMIT %(batch)s FOR UPDATE SKIP LOCKED
    ) AS oldest WHERE arrived_at < %(before)s
)
"""
PURGE_CHECKS = """
DELETE FROM rollout_check WHERE id IN (
    SELECT id FROM rollout_check WHERE at < %(before)s AND settled ORDER BY id LIMIT %(batch)s FOR UPDATE SKIP LOCKED
)
"""
PURGE_ALERTS = """
DELETE FROM rollout_alert WHERE id IN (
    SELECT id FROM rollout_alert WHERE created_at < %(before)s ORDER BY id LIMIT %(batch)s FOR UPDATE SKIP LOCKED
)
"""
# A stage that is over is not looked at again.
PURGE_MEMBERS = """
DELETE FROM rollout_stage_member WHERE (rollout_id, stage, who) IN (
    SELECT m.rollout_id, m.stage, m.who FROM rollout_stage_member AS m JOIN rollout_watch AS w USING (rollout_id)
    WHERE m.stage < w.stage LIMIT %(batch)s
)
"""


def purge(sql: str, *, batch: int, before: datetime) -> int:
    """Run one batch of a purge of what is older than `before`, and return how many rows it deleted."""
    deleted: int = _execute(sql, {"batch": batch, "before": before}).rowcount
    return deleted


def clock() -> datetime:
    """Return the time by which the judge dates its checks: the database's."""
    now: datetime = _execute("SELECT clock_timestamp()").fetchone()[0]
    return now
