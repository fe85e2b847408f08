from decimal import Decimal

from django.db import migrations
from django.utils import timezone

from rollout.conf import conf
from rollout.models import Stage


def seed(apps, schema_editor):
    """Make the rollouts that the environment names, each with the first record of its history."""
    connection = schema_editor.connection
    if connection.vendor != "postgresql":  # another database of the project, without the tables
        return
    Rollout = apps.get_model("rollout", "Rollout")
    HistoricalRollout = apps.get_model("rollout", "HistoricalRollout")
    for fields in conf.seed:
        percentage = Decimal(fields["percentage"])
        if not 0 <= percentage <= 100:
            raise ValueError(f"{fields['feature']}_ROLLOUT is {percentage}: it must be between 0 and 100.")
        rollout = Rollout.objects.using(connection.alias).create(
            **{**fields, "percentage": percentage, "stage": Stage.of(percentage)}
        )
        HistoricalRollout.objects.using(connection.alias).create(
            **{field.attname: getattr(rollout, field.attname) for field in Rollout._meta.concrete_fields},
            history_date=timezone.now(),
            history_type="+",
            history_change_reason="from the environment, at the first migration",
        )


class Migration(migrations.Migration):
    dependencies = [("rollout", "0001_initial")]

    operations = [migrations.RunPython(seed, migrations.RunPython.noop)]
