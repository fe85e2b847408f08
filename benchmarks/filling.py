"""Fill idempotency_store by SQL: by requests, millions of keys would take hours.

A row is what the product writes for a fund: a random digest, token and fingerprint, random bytes of the length that a
body of 350 bytes is packed to, and expiries in the order of creation. They go in through all of the table's indexes, so
these have grown as in production.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg import sql

from benchmarks.bodies import ANSWER
from benchmarks.rounds import Say
from benchmarks.stack import Stack
from idempotency.bodies import pack

BODY = len(ANSWER)  # bytes
PACKED = len(pack(ANSWER))  # bytes
USERS = 10_000  # principals, each with as many keys as the next
BATCH = 250_000  # rows of a transaction
SAY_EVERY = 4 * BATCH  # rows
BYTES_PER_KEY = 800  # of disk, at most: up to 670 with all indexes, and dead pages
BYTES_BESIDE = 4 * 2**30  # write-ahead log between two checkpoints, and the services themselves
HOUR = 3600.0  # s
DAY = 24 * HOUR

TABLES = ("idempotency_store",)
INSERT = """
INSERT INTO idempotency_store (
    digest, environment, operation, principal, token, fingerprint, status, content_type, location, body,
    created_at, expires_at
)
SELECT gen_random_uuid(), 'dev', 'fund-create', (1000 + n %% %(users)s)::text, gen_random_uuid()::text,
       gen_random_uuid(), 201, 'application/json', '/api/funds/' || n,
       substr(sha512((n || 'a')::bytea) || sha512((n || 'b')::bytea) || sha512((n || 'c')::bytea)
              || sha512((n || 'd')::bytea) || sha512((n || 'e')::bytea), 1, %(packed)s),
       expires - interval '1 day', expires
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n,
     LATERAL (SELECT now() + %(earliest)s * interval '1 second'
                     + n * (%(latest)s - %(earliest)s) / %(keys)s * interval '1 second') AS expiry (expires)
ORDER BY n
"""
# No data here has to survive a crash, and a page image after each checkpoint would double the bytes written.
FASTER = (
    "ALTER SYSTEM SET full_page_writes = off",
    "SELECT pg_reload_conf()",
    "SET synchronous_commit = off",
)
AS_BEFORE = (
    "ALTER SYSTEM RESET full_page_writes",
    "SELECT pg_reload_conf()",
    "CHECKPOINT",
)
INDEXES = """
SELECT index.relname, pg_get_indexdef(index.oid), pg_get_constraintdef(made.oid)
FROM pg_index JOIN pg_class AS index ON index.oid = indexrelid
     LEFT JOIN pg_constraint AS made ON made.conindid = index.oid AND made.contype = 'p'
WHERE indrelid = %s::regclass
"""
BUILDING = "SET maintenance_work_mem = '1GB'"
# How full pages are on which random values came in one by one. A build would leave them fuller.
GROWN = " WITH (fillfactor = 70)"


class TooLittleSpace(Exception):
    """The disk cannot hold so many keys."""


def check_space(keys: int) -> None:
    """Raise TooLittleSpace when the temporary directory's disk has not enough room."""
    directory = tempfile.gettempdir()
    needed, free = keys * BYTES_PER_KEY + BYTES_BESIDE, shutil.disk_usage(directory).free
    if free < needed:
        raise TooLittleSpace(
            f"{keys:,} keys need {needed / 2**30:.1f} GiB in {directory}, and {free / 2**30:.1f} GiB are free: "
            "give fewer --keys, or set TMPDIR to a directory on a larger disk"
        )


def fill_live(
    stack: Stack, keys: int, say: Say, *, insert: str = INSERT, tables: Sequence[str] = TABLES
) -> None:
    """Add keys that expire from in an hour to in a day: none of them within the run."""
    _fill(stack, keys, say, insert, tables, earliest=HOUR, latest=DAY)


def fill_expired(
    stack: Stack, keys: int, say: Say, *, insert: str = INSERT, tables: Sequence[str] = TABLES
) -> None:
    """Add keys that expired in the course of the last day."""
    _fill(stack, keys, say, insert, tables, earliest=-DAY, latest=0.0)


def _fill(
    stack: Stack, keys: int, say: Say, insert: str, tables: Sequence[str], *, earliest: float, latest: float
) -> None:
    same = {"keys": keys, "earliest": earliest, "latest": latest, "users": USERS, "packed": PACKED}
    with stack.superuser() as connection:
        for statement in FASTER:
            connection.execute(statement)
        for table in tables:
            connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        for first in range(1, keys + 1, BATCH):
            last = min(first + BATCH - 1, keys)
            connection.execute(insert, {**same, "first": first, "last": last})
            if last % SAY_EVERY == 0:
                say(f"  {last:,} of {keys:,} keys")
        for table in tables:
            connection.execute(f"VACUUM (ANALYZE) {table}")
            connection.execute(f"ALTER TABLE {table} RESET (autovacuum_enabled)")
        for statement in AS_BEFORE:
            connection.execute(statement)


@contextmanager
def without_indexes(connection: psycopg.Connection, tables: Sequence[str], say: Say) -> Iterator[None]:
    """Drop the indexes of tables, and build them at the end with pages as full as grown ones: for many keys."""
    building = []
    for table in tables:
        for name, index, primary in connection.execute(INDEXES, [table]).fetchall():
            drop = "ALTER TABLE {} DROP CONSTRAINT {}" if primary else "DROP INDEX {1}"
            connection.execute(sql.SQL(drop).format(sql.Identifier(table), sql.Identifier(name)))
            made = f"ALTER TABLE {table} ADD {primary}" if primary else index.replace(" ON ONLY ", " ON ")
            building.append(made if "expires_at" in made or "USING hash" in made else made + GROWN)
    yield
    connection.execute(BUILDING)
    for statement in building:
        say(f"  {statement}")
        connection.execute(statement)
