from django.db import migrations

from rollout.migrations._postgresql import RunOnPostgreSQL

# Django deletes by itself what refers to a deleted row; the purge deletes by SQL, so the database has to know.
FORGET_DELETED_CHECKS = """
DO $$
DECLARE
    fk name := (
        SELECT conname FROM pg_constraint
        WHERE contype = 'f' AND conrelid = 'rollout_incident'::regclass AND confrelid = 'rollout_check'::regclass
    );
BEGIN
    EXECUTE format(
        'ALTER TABLE rollout_incident DROP CONSTRAINT %I, ADD CONSTRAINT %I FOREIGN KEY (check_made_id) '
        'REFERENCES rollout_check (id) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED', fk, fk
    );
END
$$
"""


class Migration(migrations.Migration):
    safe_because = "incidents are few, so their foreign key is checked in a moment"

    dependencies = [
        ("rollout", "0008_alert_skipped"),
    ]

    operations = [
        RunOnPostgreSQL(FORGET_DELETED_CHECKS, RunOnPostgreSQL.noop),
    ]
