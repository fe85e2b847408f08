from importlib import import_module

from django.db import migrations, models

from idempotency.migrations._postgresql import RunOnPostgreSQL

_claim = import_module("idempotency.migrations.0001_initial")
_save = import_module("idempotency.migrations.0002_save")

# Both return and take what 0001 and 0002 do, and besides: the status, and the headers that have no column.
CLAIM = """
CREATE FUNCTION idempotency_claim(
    key_digest uuid, lock_id bigint, wait_ms integer, statement_timeout_ms integer, idle_timeout_ms integer,
    OUT state text, OUT fingerprint uuid, OUT status smallint, OUT content_type text, OUT location text,
    OUT etag text, OUT headers jsonb, OUT body bytea
)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    lock_timeout_before text;
BEGIN
    -- A replay needs no lock, so replays of one key never meet.
    SELECT 'stored', s.fingerprint, s.status, s.content_type, s.location, s.etag, s.headers, s.body
      INTO state, fingerprint, status, content_type, location, etag, headers, body
      FROM idempotency_store AS s WHERE s.digest = key_digest AND s.expires_at > now();
    IF FOUND THEN
        RETURN;
    END IF;

    IF NOT pg_try_advisory_xact_lock(lock_id) THEN
        state := 'running';
        IF wait_ms = 0 THEN
            RETURN;
        END IF;
        lock_timeout_before := current_setting('lock_timeout');
        BEGIN
            PERFORM set_config('lock_timeout', wait_ms::text, true);
            PERFORM pg_advisory_xact_lock(lock_id);
        EXCEPTION WHEN lock_not_available THEN
            RETURN;
        END;
        PERFORM set_config('lock_timeout', lock_timeout_before, true);
    END IF;

    -- Look again: each statement of this function has a new snapshot, and sees what the holder has stored.
    SELECT 'stored', s.fingerprint, s.status, s.content_type, s.location, s.etag, s.headers, s.body
      INTO state, fingerprint, status, content_type, location, etag, headers, body
      FROM idempotency_store AS s WHERE s.digest = key_digest AND s.expires_at > now();
    IF FOUND THEN
        RETURN;
    END IF;

    -- The key is ours until COMMIT or ROLLBACK. These end with the transaction, so they also hold behind a
    -- pooler that hands the connection to somebody else.
    PERFORM set_config('statement_timeout', statement_timeout_ms::text, true),
            set_config('idle_in_transaction_session_timeout', idle_timeout_ms::text, true);
    state := 'claimed';
END
$$
"""
# The new parameter is the last one, with a default: the previous version calls it with those of 0002.
SAVE = """
CREATE FUNCTION idempotency_save(
    key_digest uuid, key_environment text, key_operation text, key_principal text, key_token text,
    request_fingerprint uuid, response_status smallint, response_content_type text, response_location text,
    response_etag text, response_body bytea, ttl interval, response_headers jsonb DEFAULT NULL
)
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    INSERT INTO idempotency_store AS stored (
        digest, environment, operation, principal, token,
        fingerprint, status, content_type, location, etag, headers, body, created_at, expires_at
    )
    VALUES (
        key_digest, key_environment, key_operation, key_principal, key_token,
        request_fingerprint, response_status, response_content_type, response_location, response_etag,
        response_headers, response_body, now(), now() + ttl
    )
    ON CONFLICT (digest) DO UPDATE SET
        (fingerprint, status, content_type, location, etag, headers, body, created_at, expires_at) = (
            excluded.fingerprint, excluded.status, excluded.content_type, excluded.location, excluded.etag,
            excluded.headers, excluded.body, excluded.created_at, excluded.expires_at
        ),
        conflicts = 0,
        last_conflict_at = NULL
    WHERE stored.expires_at <= now();
    IF NOT FOUND THEN
        RAISE EXCEPTION 'this idempotency key has a live answer' USING ERRCODE = 'IK409';
    END IF;
END
$$
"""
DROP_SAVE = """
DROP FUNCTION idempotency_save(uuid, text, text, text, text, uuid, smallint, text, text, text, bytea, interval, jsonb)
"""


class Migration(migrations.Migration):
    safe_because = (
        "both functions are replaced in a moment, and the version before finds in them all that it uses"
    )
    dependencies = [
        ("idempotency", "0002_save"),
    ]

    operations = [
        migrations.AddField(
            "idempotencykey",
            "headers",
            models.JSONField(null=True, help_text="Further headers that a replay carries."),
        ),
        RunOnPostgreSQL([_claim.DROP, CLAIM], [_claim.DROP, _claim.CLAIM]),
        RunOnPostgreSQL([_save.DROP, SAVE], [DROP_SAVE, _save.SAVE]),
    ]
