from django.db import migrations, models
from django.db.models.functions import Now

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
        ("rollout", "0006_deployment"),
    ]

    operations = [
        migrations.AddField(
            model_name="telemetryevent",
            name="age",
            field=models.PositiveIntegerField(
                db_default=0,
                help_text="Seconds between the event and its sending, by the browser's clock.",
            ),
        ),
        migrations.AddField(
            model_name="telemetryevent",
            name="signer",
            field=models.UUIDField(help_text="Digest of the user whose ticket came with it.", null=True),
        ),
        migrations.AddField(
            model_name="telemetryevent",
            name="network",
            field=models.CharField(
                db_default="",
                help_text="Sender's network: an IPv4 /24 or an IPv6 /48.",
                max_length=43,
            ),
        ),
        migrations.AddField(
            model_name="telemetryevent",
            name="server",
            field=models.BooleanField(db_default=False, help_text="Reported by the server itself."),
        ),
        migrations.AddField(
            model_name="watch",
            name="began_at",
            field=models.DateTimeField(
                db_default=Now(),
                help_text="Begin of the stage by the database's clock: older events are not judged.",
            ),
        ),
        migrations.RunSQL(FORGET_DELETED_CHECKS, migrations.RunSQL.noop),
    ]
