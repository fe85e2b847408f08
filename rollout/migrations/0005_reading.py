from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("rollout", "0004_alert_due"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="check",
            index=models.Index(
                fields=["rollout", "at"],
                include=["signal", "score", "percentage"],
                name="rollout_check_charted",
            ),
        ),
        migrations.AddIndex(
            model_name="telemetryevent",
            index=models.Index(fields=["client", "seq"], name="rollout_telemetry_client"),
        ),
    ]
