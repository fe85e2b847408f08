from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import migrations

GROUPS = ["Viewer", "Operator", "Administrator"]
VIEWS = ["view_check", "view_incident", "view_telemetryevent", "view_alert"]


def let_see(apps, schema_editor):
    """Let each role see what the judge saw. A group that somebody has deleted stays deleted."""
    using = schema_editor.connection.alias
    # Permissions are made after the last migration; the groups need them now.
    create_permissions(installed.get_app_config("rollout"), verbosity=0, using=using, apps=apps)
    found = apps.get_model("auth", "Permission").objects.using(using)
    views = found.filter(content_type__app_label="rollout", codename__in=VIEWS)
    for group in apps.get_model("auth", "Group").objects.using(using).filter(name__in=GROUPS):
        group.permissions.add(*views)


class Migration(migrations.Migration):
    dependencies = [
        ("fundapi", "0002_roles"),
        ("rollout", "0003_judge"),
    ]

    operations = [migrations.RunPython(let_see, migrations.RunPython.noop)]
