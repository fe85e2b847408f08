from django.db import migrations


class Migration(migrations.Migration):
    safe_because = (
        "only a mark with stored_errors writes what the constraint refused, and no older version has one"
    )

    dependencies = [
        ("idempotency", "0003_headers"),
    ]

    operations = [
        migrations.RemoveConstraint("idempotencykey", "idempotency_store_success"),
    ]
