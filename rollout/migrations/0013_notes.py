from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("rollout", "0012_words"),
    ]

    operations = [
        migrations.AddField(
            "incident",
            "notes",
            models.JSONField(null=True, help_text="What people wrote about it: at, by, text."),
        ),
    ]
