from django.db import migrations, models

import rollout.people

ALWAYS = "People who get the feature at any percentage, unless they opt out."
NEVER = "People who do not get the feature, at no percentage."


def words(help_text: str) -> models.TextField:
    return models.TextField(
        blank=True, db_default="", default="", help_text=help_text, validators=[rollout.people.validate]
    )


class Migration(migrations.Migration):
    dependencies = [
        ("rollout", "0009_purged_checks"),
    ]

    operations = [
        migrations.AddField(model_name="historicalrollout", name="always", field=words(ALWAYS)),
        migrations.AddField(model_name="historicalrollout", name="never", field=words(NEVER)),
        migrations.AddField(model_name="rollout", name="always", field=words(ALWAYS)),
        migrations.AddField(model_name="rollout", name="never", field=words(NEVER)),
    ]
