"""Two ways to store keys: the product's one table, and two tables of which the large one is partitioned by expiry.

The second one is not in the product. Here it takes the place of the first in a database of its own, and the product
does not notice: `idempotency_store` becomes a view, so that `idempotency_claim()` and every look-up read both tables,
and `idempotency_save()` writes both.
"""

from dataclasses import dataclass

import psycopg

from benchmarks.filling import INSERT
from benchmarks.stack import Stack
from idempotency.store import PURGE_BATCH


@dataclass(frozen=True)
class Layout:
    """The tables of keys, and the statements that fill and purge them.

    ``indexed``: the tables that have the indexes, of which a partitioned one holds no keys itself. ``drop`` removes the
    large part of all expired keys at once; ``batch`` deletes a batch of the rest, row by row.
    """

    name: str
    tables: tuple[str, ...]
    indexed: tuple[str, ...]
    insert: str
    batch: str
    drop: str = ""
    made_by: str = ""

    def make(self, stack: Stack) -> None:
        """Turn the product's table into this."""
        with psycopg.connect(stack.database_url, autocommit=True) as connection:
            if self.made_by:
                connection.execute(self.made_by)


MAKE_TWO = """
ALTER TABLE idempotency_store RENAME TO idempotency_one;
CREATE TABLE idempotency_fence (digest uuid PRIMARY KEY, expires_at timestamptz NOT NULL);
CREATE INDEX ON idempotency_fence (expires_at);
CREATE TABLE idempotency_answer (LIKE idempotency_one INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
    PARTITION BY RANGE (expires_at);
CREATE INDEX ON idempotency_answer (digest);
CREATE INDEX ON idempotency_answer USING hash (token);
CREATE INDEX ON idempotency_answer (principal);
CREATE INDEX ON idempotency_answer (expires_at) WHERE conflicts > 0;
DO $$
BEGIN
    EXECUTE format('CREATE TABLE idempotency_expired PARTITION OF idempotency_answer
        FOR VALUES FROM (MINVALUE) TO (%1$L)', now());
    EXECUTE format('CREATE TABLE idempotency_live PARTITION OF idempotency_answer
        FOR VALUES FROM (%1$L) TO (%2$L)', now(), now() + interval '1 day');
    EXECUTE format('CREATE TABLE idempotency_next PARTITION OF idempotency_answer
        FOR VALUES FROM (%1$L) TO (MAXVALUE)', now() + interval '1 day');
END $$;
CREATE VIEW idempotency_store AS
    SELECT answer.* FROM idempotency_fence JOIN idempotency_answer AS answer USING (digest, expires_at);

-- For the counts of replays, which are written seconds later.
CREATE FUNCTION idempotency_count() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE idempotency_answer SET replays = new.replays, last_replay_at = new.last_replay_at
    WHERE digest = old.digest AND expires_at = old.expires_at;
    RETURN new;
END $$;
CREATE TRIGGER idempotency_count INSTEAD OF UPDATE ON idempotency_store
    FOR EACH ROW EXECUTE FUNCTION idempotency_count();

CREATE OR REPLACE FUNCTION idempotency_save(
    key_digest uuid, key_environment text, key_operation text, key_principal text, key_token text,
    request_fingerprint uuid, response_status smallint, response_content_type text, response_location text,
    response_etag text, response_body bytea, ttl interval, response_headers jsonb DEFAULT NULL,
    request_origin jsonb DEFAULT NULL, request_parts bytea DEFAULT NULL
)
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    INSERT INTO idempotency_fence AS fence (digest, expires_at) VALUES (key_digest, now() + ttl)
    ON CONFLICT (digest) DO UPDATE SET expires_at = excluded.expires_at WHERE fence.expires_at <= now();
    IF NOT FOUND THEN
        RAISE EXCEPTION 'this idempotency key has a live answer' USING ERRCODE = 'IK409';
    END IF;
    INSERT INTO idempotency_answer (
        digest, environment, operation, principal, token, fingerprint, status,
        content_type, location, etag, headers, body, origin, parts, created_at, expires_at
    )
    VALUES (
        key_digest, key_environment, key_operation, key_principal, key_token, request_fingerprint, response_status,
        response_content_type, response_location, response_etag, response_headers, response_body,
        request_origin, request_parts, now(), now() + ttl
    );
END $$
"""
ONE = Layout(
    "one table",
    tables=("idempotency_store",),
    indexed=("idempotency_store",),
    insert=INSERT,
    batch=PURGE_BATCH,
)
TWO = Layout(
    "two tables",
    tables=("idempotency_fence", "idempotency_expired", "idempotency_live", "idempotency_next"),
    indexed=("idempotency_fence", "idempotency_answer"),
    insert=f"""
WITH made AS ({INSERT.replace("idempotency_store", "idempotency_answer")} RETURNING digest, expires_at)
INSERT INTO idempotency_fence (digest, expires_at) SELECT digest, expires_at FROM made
""",
    batch=PURGE_BATCH.replace("idempotency_store", "idempotency_fence"),
    drop="DROP TABLE idempotency_expired",
    made_by=MAKE_TWO,
)
