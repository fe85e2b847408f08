from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import migrations

GROUPS = ["Viewer", "Operator", "Administrator"]


def let_see(apps, schema_editor):
    """Let each role see what was deployed. A group that somebody has deleted stays deleted."""
    using = schema_editor.connection.alias
    # Permissions are made after the last migration; the groups need them now.
    create_permissions(installed.get_app_config("rollout"), verbosity=0, using=using, apps=apps)
    found = apps.get_model("auth", "Permission").objects.using(using)
    view = found.get(content_type__app_label="rollout", codename="view_deployment")
    for group in apps.get_model("auth", "Group").objects.using(using).filter(name__in=GROUPS):
        group.permissions.add(view)


class Migration(migrations.Migration):
    dependencies = [
        ("fundapi", "0003_judge_roles"),
        ("rollout", "0006_deployment"),
    ]

    operations = [migrations.RunPython(let_see, migrations.RunPython.noop)]
