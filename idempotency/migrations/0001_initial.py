import django.contrib.postgres.indexes
import django.db.models.functions.datetime
from django.db import migrations, models

from idempotency.migrations._postgresql import RunOnPostgreSQL

# One round trip decides what a request with a key may do. LANGUAGE plpgsql VOLATILE under READ COMMITTED: each
# statement inside takes a new snapshot. That is what makes the second look-up see a row whose transaction ended
# between the first look-up and the lock. Joined into one statement the two would share a snapshot, and a key
# could take effect twice.
CLAIM = """
CREATE FUNCTION idempotency_claim(
    key_digest uuid, lock_id bigint, wait_ms integer, statement_timeout_ms integer, idle_timeout_ms integer,
    OUT state text, OUT fingerprint uuid, OUT content_type text, OUT location text, OUT etag text, OUT body bytea
)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    lock_timeout_before text;
BEGIN
    -- A replay needs no lock, so replays of one key never meet.
    SELECT 'stored', s.fingerprint, s.content_type, s.location, s.etag, s.body
      INTO state, fingerprint, content_type, location, etag, body
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

    SELECT 'stored', s.fingerprint, s.content_type, s.location, s.etag, s.body
      INTO state, fingerprint, content_type, location, etag, body
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
DROP = "DROP FUNCTION idempotency_claim(uuid, bigint, integer, integer, integer)"


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="IdempotencyKey",
            fields=[
                (
                    "digest",
                    models.UUIDField(
                        editable=False,
                        help_text="Of environment, operation, principal and token.",
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("environment", models.CharField(max_length=255)),
                ("operation", models.CharField(max_length=255)),
                (
                    "principal",
                    models.CharField(help_text="Id of the user who sent the request.", max_length=255),
                ),
                (
                    "token",
                    models.CharField(help_text="As the client sent it.", max_length=255, verbose_name="key"),
                ),
                ("fingerprint", models.UUIDField(help_text="Of the request's method, path, query and body.")),
                ("status", models.PositiveSmallIntegerField(help_text="HTTP status of the first answer.")),
                ("content_type", models.TextField()),
                ("location", models.TextField(null=True)),
                ("etag", models.TextField(null=True)),
                ("body", models.BinaryField(help_text="The response, byte for byte.")),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("expires_at", models.DateTimeField()),
                (
                    "conflicts",
                    models.PositiveIntegerField(
                        db_default=0,
                        help_text="How often the key came back with another request, and was answered 409.",
                    ),
                ),
                ("last_conflict_at", models.DateTimeField(null=True)),
            ],
            options={
                "verbose_name": "idempotency key",
                "db_table": "idempotency_store",
                "ordering": ["-expires_at"],
                "required_db_vendor": "postgresql",
                "indexes": [
                    models.Index(fields=["expires_at"], name="idempotency_store_expires"),
                    django.contrib.postgres.indexes.HashIndex(
                        fields=["token"], name="idempotency_store_token"
                    ),
                    models.Index(fields=["principal"], name="idempotency_store_principal"),
                    models.Index(
                        condition=models.Q(("conflicts__gt", 0)),
                        fields=["expires_at"],
                        name="idempotency_store_conflicts",
                    ),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("expires_at__gt", models.F("created_at"))),
                        name="idempotency_store_lives",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("status__gte", 200), ("status__lt", 400)),
                        name="idempotency_store_success",
                    ),
                ],
            },
        ),
        RunOnPostgreSQL(CLAIM, DROP),
    ]
