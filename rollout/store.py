"""All SQL of the judge and its telemetry that is not a plain ORM call: one function a statement.

Telemetry has an order of arrival, ``seq``. The judge reads it in windows: after the last sequence number of the
previous check, up to :func:`fence`. No clock decides, so a wrong one does no harm.
"""

import json
from collections import Counter
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
# A rehearsal is one long transaction. With the intake's lock it would block the judge, and the judge every intake.
REHEARSAL_FENCE = FENCE + 1


class Source(msgspec.Struct, frozen=True):
    """Origin of a batch of telemetry."""

    client: UUID | None = None
    session: UUID | None = None
    signer: UUID | None = None  # of the ticket
    network: str = ""  # of the sender, such as 192.0.2.0/24


NO_SOURCE = Source()


class Occurrence(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A telemetry event to be stored, from the source of its batch. Fields that have their defaults are not sent.

    200 are made at once, at a fifth of the cost of a frozen dataclass.
    """

    id: UUID | str  # a UUID, or its 32 digits, which are cheaper to make
    event: str
    category: str
    ok: bool
    flag: str | None = None
    variant: str | None = None
    at: datetime | None = None
    detail: str | None = None
    lost: int = 0
    age: int = 0  # s between the event and its sending, by the browser's clock


class Arrival(Occurrence, frozen=True, kw_only=True):
    """A telemetry event with a source of its own."""

    client: UUID
    session: UUID
    signer: UUID | None = None
    network: str = ""
    server: bool = False  # reported by the server itself


@dataclass(frozen=True, slots=True)
class EventGroup:
    """Events of a window that are alike, and their number."""

    voice: UUID  # who counts as one client
    client: UUID | None  # of trusted events
    session: UUID | None  # of trusted events
    trusted: bool
    server: bool
    flagged: bool  # it names this flag, not every one
    variant: str | None
    event: str
    category: str
    ok: bool
    count: int
    lost: int
    network: UUID | None = None  # of clients that are believed without a ticket


def _execute(sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Any:
    cursor = connection.cursor()
    cursor.execute(sql, parameters)
    return cursor


# The statement holds the shared lock until it commits. So once the exclusive lock is free, each sequence number given
# out so far belongs to a committed row or to none. (A CTE that the INSERT reads is evaluated before the first row, and
# so before the first nextval.)
ARRIVE = """
WITH fence AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared(%s)),
arrived AS (
    INSERT INTO rollout_telemetry
        (id, client, session, event, category, ok, flag, variant, at, detail, lost, age, signer, network, server)
    SELECT
        id, client, session, event, category, ok, flag, variant, at, detail, coalesce(lost, 0), coalesce(age, 0),
        signer, network, coalesce(server, false)
    FROM fence, json_populate_recordset(json_populate_record(NULL::rollout_telemetry, %s), %s)
    ON CONFLICT (id) DO NOTHING
    RETURNING lost
)
SELECT count(*) FILTER (WHERE lost = 0) FROM arrived
"""


def arrive(events: Sequence[Occurrence], source: Source = NO_SOURCE, *, fence: int = FENCE) -> int:
    """Store events in one statement, and return how many were new; reports of losses do not count.

    All events are one JSON parameter: 0.5 ms for 200 events; eleven arrays, escaped value by value, cost 5 ms. Their
    source is another, which halves the bytes. Parameters are sent apart from the statement, so with
    ``prepare_threshold`` in ``OPTIONS`` PostgreSQL plans it once a connection.
    """
    if not events:
        return 0
    cursor = _prepared(ARRIVE, (fence, as_json(source), as_json(events)))
    new: int = cursor.fetchone()[0]
    return new


def as_json(value: Source | Sequence[Occurrence]) -> str:
    return msgspec.json.encode(value).decode()


# The same as `evaluation.is_live` and `Rollout.is_judged`, of `rollout_rollout AS r`.
LIVE = "(r.enabled AND NOT r.emergency_stop AND r.percentage > 0)"
JUDGED = f"({LIVE} AND r.stage <> 'complete')"

# The statement asks itself which rollouts are judged, so no cache can be wrong about it. Its COMMIT does not wait for
# the disk: a crash of PostgreSQL loses a few reports. It does not wait for its lock either where an intake hangs.
REPORT = f"""
WITH settings AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true), set_config('lock_timeout', %s, true)
),
fence AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared(%s) FROM settings)
INSERT INTO rollout_telemetry
    (id, client, session, event, category, ok, flag, variant, detail, lost, signer, server)
SELECT gen_random_uuid(), %s, %s, %s, %s, %s, r.feature, named.value, %s, 0, %s, true
FROM fence, json_each_text(%s) AS named JOIN rollout_rollout AS r ON r.feature = named.key
WHERE {JUDGED}
"""  # noqa: S608 - it joins constants
REPORT_WAIT = timedelta(milliseconds=100)  # the judge holds the lock for an instant


def report(
    *, variants: Mapping[str, str], signer: UUID, event: str, category: str, ok: bool, detail: str
) -> int:
    """Store an event of the server itself for each feature that is judged, and return how many.

    Args:
        variants: of each feature that the request names; others are ignored.
    """
    wait = f"{REPORT_WAIT / timedelta(milliseconds=1):.0f}ms"
    who = str(signer)
    named = json.dumps(dict(variants))
    parameters = (wait, FENCE, who, who, event, category, ok, detail or None, who, named)
    stored: int = _prepared(REPORT, parameters).rowcount
    return stored


def _prepared(sql: str, parameters: Sequence[Any]) -> Any:
    """Execute a statement with its parameters sent apart, so that PostgreSQL plans it once a connection."""
    usable = connection.cursor().connection  # Django checks and replaces it once a request
    cursor = CursorWrapper(Cursor(usable), connection)
    cursor.execute(sql, parameters)
    return cursor


def fence() -> tuple[int, datetime]:
    """Return a sequence number up to which all telemetry has arrived, and the time of the database.

    Waits for intakes that are running, milliseconds each. Call it outside any transaction.
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
    """Let this transaction see the database as it is now. Call it first in the transaction.

    A rehearsal then reads no telemetry that arrives meanwhile.
    """
    _execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


# Unsigned events have their network's voice, and of their names only those that the judge knows: however much a network
# makes up, it adds a few rows.
WINDOW = """
SELECT voice, client, session, trusted, server, flagged, variant, event, category, ok, count(*), max(lost), network,
    unjudged
FROM (
    SELECT
        CASE WHEN trusted THEN coalesce(signer, client) ELSE md5(network)::uuid END AS voice,
        CASE WHEN trusted THEN client END AS client,
        CASE WHEN trusted THEN session END AS session,
        trusted, server, flag IS NOT NULL AS flagged,
        CASE WHEN trusted OR variant IS NULL OR variant = ANY(%(variants)s) THEN variant ELSE 'other' END AS variant,
        CASE WHEN trusted OR event = ANY(%(names)s) THEN event ELSE 'other' END AS event,
        CASE WHEN trusted OR category = ANY(%(categories)s) THEN category ELSE '' END AS category,
        ok, lost,
        CASE WHEN trusted AND signer IS NULL THEN md5('clients of ' || network)::uuid END AS network,
        CASE
            WHEN age > %(age_max)s THEN 'stale'
            WHEN arrived_at - make_interval(secs => age) < %(began_at)s THEN 'before_stage'
            WHEN NOT trusted AND %(unsigned)s = 'none' THEN 'unsigned'
        END AS unjudged
    FROM (
        SELECT *, signer IS NOT NULL OR %(unsigned)s = 'full' AS trusted FROM rollout_telemetry
        WHERE seq > %(after)s AND seq <= %(upto)s AND (flag = %(feature)s OR flag IS NULL)
    ) AS arrived
) AS events
GROUP BY voice, client, session, trusted, server, flagged, variant, event, category, ok, network, unjudged
"""


@dataclass(frozen=True, slots=True)
class Known:
    """Texts that the judge tells apart; in unsigned telemetry, all others are one."""

    variants: Sequence[str]
    names: Sequence[str]
    categories: Sequence[str]


def window(
    feature: str,
    *,
    after: int,
    upto: int,
    began_at: datetime,
    age_max: timedelta,
    unsigned: str,
    known: Known,
) -> tuple[list[EventGroup], Counter[str]]:
    """Return the telemetry of a feature after one sequence number and up to another.

    The second value is the number of events that are not judged, by reason: ``stale``, ``before_stage``, ``unsigned``.

    Args:
        began_at: begin of the stage; events that happened earlier are not judged.
        age_max: events that were older when they were sent are not judged.
        unsigned: whose voice events without a ticket have: ``full``, ``network`` or ``none``.
    """
    parameters = {
        "feature": feature,
        "after": after,
        "upto": upto,
        "began_at": began_at,
        "age_max": age_max.total_seconds(),
        "unsigned": unsigned,
        "variants": list(known.variants),
        "names": list(known.names),
        "categories": list(known.categories),
    }
    groups: list[EventGroup] = []
    unjudged: Counter[str] = Counter()
    for *columns, reason in _execute(WINDOW, parameters):
        group = EventGroup(*columns)
        if reason is None:
            groups.append(group)
        else:
            unjudged[reason] += group.count
    return groups, unjudged


# The number of a network's clients is the flags of a member of its own, so it is found by the primary key.
OVER_CAP = """
WITH new AS (
    SELECT seen.who, seen.network, row_number() OVER (PARTITION BY seen.network ORDER BY seen.who) AS place
    FROM unnest(%(who)s::uuid[], %(networks)s::uuid[]) AS seen (who, network) LEFT JOIN LATERAL (
        SELECT true AS is_member FROM rollout_stage_member AS m
        WHERE m.rollout_id = %(rollout)s AND m.stage = %(stage)s AND m.who = seen.who
        LIMIT 1
    ) AS known ON true
    WHERE is_member IS NULL
),
counted AS (
    SELECT n.network, n.many, coalesce(known.flags, 0) AS before
    FROM (SELECT network, count(*) AS many FROM new GROUP BY network) AS n LEFT JOIN LATERAL (
        SELECT m.flags FROM rollout_stage_member AS m
        WHERE m.rollout_id = %(rollout)s AND m.stage = %(stage)s AND m.who = n.network
        LIMIT 1
    ) AS known ON true
),
written AS (
    INSERT INTO rollout_stage_member AS m (rollout_id, stage, who, flags)
    SELECT %(rollout)s, %(stage)s, network, least(before + many, %(most)s) FROM counted
    ON CONFLICT (rollout_id, stage, who) DO UPDATE SET flags = excluded.flags
)
SELECT who FROM new JOIN counted USING (network) WHERE before + place > %(most)s
"""


def over_cap(rollout: int, stage: int, clients: Mapping[UUID, UUID], *, most: int) -> set[UUID]:
    """Count the new clients of each network in a stage, and return those beyond its first so many.

    Call it before :func:`remember`, which makes them known.

    Args:
        clients: each with its network, as :class:`EventGroup` has it.
    """
    if not clients:
        return set()
    parameters = {
        "who": list(clients),
        "networks": list(clients.values()),
        "rollout": rollout,
        "stage": stage,
        "most": most,
    }
    return {who for (who,) in _execute(OVER_CAP, parameters)}


# The caller's lock on the rollout's row serialises it: nobody writes between `known` and `written`. LIMIT makes each
# look-up use the primary key: at the start of a stage the planner believes it to be empty, and would read all of its
# members every minute.
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
    """Add the behaviour flags of clients and sessions to those of the stage.

    Returns ``(flags before, flags after, how many)`` for those with new flags.
    """
    if not flags:
        return []
    parameters = {"who": list(flags), "flags": list(flags.values()), "rollout": rollout, "stage": stage}
    rows: list[tuple[int, int, int]] = _execute(REMEMBER, parameters).fetchall()
    return rows


STANDINGS = f"""
SELECT r.feature, r.percentage, {LIVE}, r.emergency_stop,
       CASE WHEN {JUDGED} THEN r.stage_started_at END,
       w.checked_at, w.carry, (SELECT score FROM rollout_check WHERE rollout_id = r.id ORDER BY id DESC LIMIT 1)
FROM rollout_rollout AS r LEFT JOIN rollout_watch AS w ON w.rollout_id = r.id
ORDER BY r.feature
"""  # noqa: S608 - it joins constants


@dataclass(frozen=True, slots=True)
class Standing:
    """State of a rollout, for metrics."""

    feature: str
    percentage: Decimal
    live: bool
    emergency_stop: bool
    judged_from: datetime | None  # start of the stage; None: it is not judged
    checked_at: datetime | None  # of this stage
    carry: dict[str, Any]  # rollout.judge.state.Carry
    score: int | None  # of the latest check


def standings() -> list[Standing]:
    """Return the state of every rollout."""
    return [
        Standing(
            feature, percentage, live, stopped, judged_from, checked_at, json.loads(carry or "{}"), score
        )
        for feature, percentage, live, stopped, judged_from, checked_at, carry, score in _execute(STANDINGS)
    ]


UNCHECKED = f"""
SELECT max(clock_timestamp() - coalesce(w.checked_at, r.stage_started_at))
FROM rollout_rollout AS r LEFT JOIN rollout_watch AS w ON w.rollout_id = r.id
WHERE {JUDGED}
"""  # noqa: S608 - it joins constants


def longest_unchecked() -> timedelta | None:
    """Return the longest time since the latest check, or the start of the stage, of all rollouts that are judged.

    ``None``: no rollout is judged.
    """
    longest: timedelta | None = _execute(UNCHECKED).fetchone()[0]
    return longest


# Of two claims at once, the second waits for the first, reads the row again, and finds that it is not due.
CLAIM_ALERT = """
UPDATE rollout_alert SET attempts = attempts + 1, due_at = clock_timestamp() + %s
WHERE id = %s AND sent_at IS NULL AND due_at <= clock_timestamp()
    AND attempts < %s AND created_at > clock_timestamp() - %s AND NOT skipped
RETURNING channel, attempts, clock_timestamp(), payload
"""
ALERT_FAILED = """
UPDATE rollout_alert SET error = %s, due_at = clock_timestamp() + %s
WHERE id = %s AND sent_at IS NULL AND attempts = %s
"""
# An earlier version beside this one does not know `skipped`: for it, the alert falls due when it is too old to be sent.
ALERT_SKIPPED = """
UPDATE rollout_alert SET skipped = true, error = '', attempts = attempts - 1, due_at = created_at + %s
WHERE id = %s AND sent_at IS NULL AND attempts = %s
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """An alert that this process may send."""

    channel: str
    attempt: int  # 1 is the first
    at: datetime  # by the database's clock
    payload: dict[str, Any]  # rollout.alerts.messages.Message


def claim_alert(alert_id: int, *, lease: timedelta, attempts_max: int, age_max: timedelta) -> Claim | None:
    """Claim an alert for the time of the lease. ``None``: it is sent, not due, given up, or claimed already."""
    row = _execute(CLAIM_ALERT, (lease, alert_id, attempts_max, age_max)).fetchone()
    return Claim(row[0], row[1], row[2], json.loads(row[3])) if row else None


def alert_failed(alert_id: int, *, attempt: int, error: str, pause: timedelta) -> None:
    """Release an alert until its next attempt, unless a later attempt has claimed it."""
    _execute(ALERT_FAILED, (error, pause, alert_id, attempt))


def alert_skipped(alert_id: int, *, attempt: int, age_max: timedelta) -> None:
    """Mark a claimed alert as not to be sent, because its channel is not set up."""
    _execute(ALERT_SKIPPED, (age_max, alert_id, attempt))


# Oldest first by order of arrival, which has an index: it reads a batch and not millions. SKIP LOCKED: two purges share
# the work. A batch begins where the last one ended: until VACUUM comes, the index still has all that was deleted.
PURGE_EVENTS = """
DELETE FROM rollout_telemetry WHERE id IN (
    SELECT id FROM (
        SELECT id, arrived_at FROM rollout_telemetry WHERE seq >= %(since)s
        ORDER BY seq LIMIT %(batch)s FOR UPDATE SKIP LOCKED
    ) AS oldest WHERE arrived_at < %(before)s
) RETURNING seq
"""
PURGE_CHECKS = """
DELETE FROM rollout_check WHERE id IN (
    SELECT id FROM rollout_check WHERE id >= %(since)s AND at < %(before)s AND settled
    ORDER BY id LIMIT %(batch)s FOR UPDATE SKIP LOCKED
) RETURNING id
"""
PURGE_ALERTS = """
DELETE FROM rollout_alert WHERE id IN (
    SELECT id FROM rollout_alert WHERE id >= %(since)s AND created_at < %(before)s
    ORDER BY id LIMIT %(batch)s FOR UPDATE SKIP LOCKED
) RETURNING id
"""
# The judge never reads a finished stage again.
PURGE_MEMBERS = """
DELETE FROM rollout_stage_member WHERE (rollout_id, stage, who) IN (
    SELECT m.rollout_id, m.stage, m.who FROM rollout_stage_member AS m JOIN rollout_watch AS w USING (rollout_id)
    WHERE m.stage < w.stage LIMIT %(batch)s
) RETURNING 0
"""


def purge(sql: str, *, batch: int, before: datetime, since: int = 0) -> tuple[int, int]:
    """Delete one batch of rows at ``since`` or behind it that are older than ``before``.

    Returns how many, and where the next batch begins.
    """
    places = [place for (place,) in _execute(sql, {"batch": batch, "before": before, "since": since})]
    return len(places), max(places, default=since)


def clock() -> datetime:
    """Return the time of the database, which dates the checks."""
    now: datetime = _execute("SELECT clock_timestamp()").fetchone()[0]
    return now


def limit_lock_wait(longest: str) -> None:
    """Give up a lock of this transaction after a while, also where the project's connections wait for ever."""
    _execute(
        "SELECT set_config('lock_timeout', %s, true) WHERE current_setting('lock_timeout') = '0'", [longest]
    )


def is_read_only() -> bool:
    """Return whether the database takes no writes: a standby, or set to read-only."""
    setting: str = _execute("SELECT current_setting('transaction_read_only')").fetchone()[0]
    return setting == "on"
