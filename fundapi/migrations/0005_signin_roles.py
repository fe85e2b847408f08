from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import migrations

CODENAMES = ["view_accesslog", "view_accessfailurelog", "view_accessattempt", "delete_accessattempt"]


def let_administrators_see(apps, schema_editor):
    """Let administrators see who signed in, and let people in again. Nobody else: what was typed may be a password."""
    using = schema_editor.connection.alias
    # Permissions are made after the last migration; the groups need them now.
    create_permissions(installed.get_app_config("axes"), verbosity=0, using=using, apps=apps)
    found = apps.get_model("auth", "Permission").objects.using(using)
    permissions = found.filter(content_type__app_label="axes", codename__in=CODENAMES)
    for group in apps.get_model("auth", "Group").objects.using(using).filter(name="Administrator"):
        group.permissions.add(*permissions)


class Migration(migrations.Migration):
    safe_because = "It adds four rows to a table that nobody writes to meanwhile."

    dependencies = [
        ("fundapi", "0004_deployment_roles"),
        ("axes", "0010_accessattemptexpiration"),
    ]

    operations = [migrations.RunPython(let_administrators_see, migrations.RunPython.noop)]
