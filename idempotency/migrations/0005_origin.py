from importlib import import_module

from django.db import migrations, models

from idempotency.migrations._postgresql import RunOnPostgreSQL

_before = import_module("idempotency.migrations.0003_headers")

# The new parameters are the last ones, with a default: the previous version calls it with those of 0003.
SAVE = """
CREATE FUNCTION idempotency_save(
    key_digest uuid, key_environment text, key_operation text, key_principal text, key_token text,
    request_fingerprint uuid, response_status smallint, response_content_type text, response_location text,
    response_etag text, response_body bytea, ttl interval, response_headers jsonb DEFAULT NULL,
    request_origin jsonb DEFAULT NULL, request_parts bytea DEFAULT NULL
)
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    INSERT INTO idempotency_store AS stored (
        digest, environment, operation, principal, token, fingerprint, status,
        content_type, location, etag, headers, body, origin, parts, created_at, expires_at
    )
    VALUES (
        key_digest, key_environment, key_operation, key_principal, key_token, request_fingerprint, response_status,
        response_content_type, response_location, response_etag, response_headers, response_body,
        request_origin, request_parts, now(), now() + ttl
    )
    ON CONFLICT (digest) DO UPDATE SET
        (fingerprint, status, content_type, location, etag, headers, body, origin, parts, created_at, expires_at) = (
            excluded.fingerprint, excluded.status, excluded.content_type, excluded.location, excluded.etag,
            excluded.headers, excluded.body, excluded.origin, excluded.parts, excluded.created_at, excluded.expires_at
        ),
        conflicts = 0,
        last_conflict_at = NULL,
        last_conflict = NULL,
        replays = 0,
        last_replay_at = NULL
    WHERE stored.expires_at <= now();
    IF NOT FOUND THEN
        RAISE EXCEPTION 'this idempotency key has a live answer' USING ERRCODE = 'IK409';
    END IF;
END
$$
"""
DROP_SAVE = """
DROP FUNCTION idempotency_save(
    uuid, text, text, text, text, uuid, smallint, text, text, text, bytea, interval, jsonb, jsonb, bytea
)
"""


class Migration(migrations.Migration):
    safe_because = "the function is replaced in a moment, and the version before calls it as it did"
    dependencies = [
        ("idempotency", "0004_stored_errors"),
    ]

    operations = [
        migrations.AddField(
            "idempotencykey",
            "last_conflict",
            models.JSONField(
                null=True,
                help_text="Names of the fields in which that request differed, and its origin; no values.",
            ),
        ),
        migrations.AddField(
            "idempotencykey",
            "replays",
            models.IntegerField(db_default=0, help_text="Retries that got the stored answer; seconds late."),
        ),
        migrations.AddField("idempotencykey", "last_replay_at", models.DateTimeField(null=True)),
        migrations.AddField(
            "idempotencykey",
            "origin",
            models.JSONField(null=True, help_text="Of the first request, as IDEMPOTENCY_ORIGIN tells it."),
        ),
        migrations.AddField(
            "idempotencykey",
            "parts",
            models.BinaryField(null=True, help_text="Digests of the first request's fields."),
        ),
        RunOnPostgreSQL([_before.DROP_SAVE, SAVE], [DROP_SAVE, _before.SAVE]),
    ]
