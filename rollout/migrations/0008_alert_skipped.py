from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("rollout", "0007_voices"),
    ]

    operations = [
        migrations.AddField(
            model_name="alert",
            name="skipped",
            field=models.BooleanField(
                db_default=False, help_text="Not sent, because its channel was not set up when it was due."
            ),
        ),
    ]
