import django.core.validators
from django.db import migrations, models


def feature(**options: bool) -> models.CharField:
    pattern = django.core.validators.RegexValidator(
        r"^[A-Z][A-Z0-9_]*\Z", "Upper case letters, digits and _, such as NEW_CHECKOUT."
    )
    return models.CharField(max_length=100, validators=[pattern], **options)


class Migration(migrations.Migration):
    """Texts only: the database keeps none of them."""

    dependencies = [
        ("rollout", "0011_roles"),
    ]

    operations = [
        migrations.AlterField("historicalrollout", "feature", feature(db_index=True)),
        migrations.AlterField("rollout", "feature", feature(unique=True)),
        *(
            migrations.AlterField(
                model,
                "emergency_stop",
                models.BooleanField(default=False, help_text="No browser gets the feature, at once."),
            )
            for model in ("historicalrollout", "rollout")
        ),
    ]
