from django.db import migrations

from idempotency.migrations._postgresql import RunOnPostgreSQL

# A function, so that PostgreSQL plans the INSERT once a connection and not with every request.
# The WHERE of the conflict branch is the last fence: an expired row is replaced, a live one never is.
SAVE = """
CREATE FUNCTION idempotency_save(
    key_digest uuid, key_environment text, key_operation text, key_principal text, key_token text,
    request_fingerprint uuid, response_status smallint, response_content_type text, response_location text,
    response_etag text, response_body bytea, ttl interval
)
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    INSERT INTO idempotency_store AS stored (
        digest, environment, operation, principal, token,
        fingerprint, status, content_type, location, etag, body, created_at, expires_at
    )
    VALUES (
        key_digest, key_environment, key_operation, key_principal, key_token,
        request_fingerprint, response_status, response_content_type, response_location, response_etag, response_body,
        now(), now() + ttl
    )
    ON CONFLICT (digest) DO UPDATE SET
        (fingerprint, status, content_type, location, etag, body, created_at, expires_at) = (
            excluded.fingerprint, excluded.status, excluded.content_type, excluded.location, excluded.etag,
            excluded.body, excluded.created_at, excluded.expires_at
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
DROP = """
DROP FUNCTION idempotency_save(uuid, text, text, text, text, uuid, smallint, text, text, text, bytea, interval)
"""


class Migration(migrations.Migration):
    dependencies = [
        ("idempotency", "0001_initial"),
    ]

    operations = [RunOnPostgreSQL(SAVE, DROP)]
