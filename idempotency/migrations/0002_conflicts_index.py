from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("idempotency", "0001_initial")]

    operations = [
        migrations.AddIndex(
            model_name="idempotencykey",
            index=models.Index(
                condition=models.Q(("conflicts__gt", 0)),
                fields=["expires_at"],
                name="idempotency_store_conflicts",
            ),
        ),
    ]
