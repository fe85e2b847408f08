from django.db import migrations, models
from django.db.models.functions import Now


class Migration(migrations.Migration):
    dependencies = [
        ("rollout", "0006_deployment"),
    ]

    operations = [
        # The watch first, as a check locks them: the other way round, a check and the migration could wait for each other.
        migrations.AddField(
            model_name="watch",
            name="began_at",
            field=models.DateTimeField(
                db_default=Now(),
                help_text="Begin of the stage by the database's clock: older events are not judged.",
            ),
        ),
        migrations.AddField(
            model_name="telemetryevent",
            name="age",
            field=models.IntegerField(
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
    ]
