from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import migrations

PERMISSIONS = {
    "axes": ["view_accesslog", "view_accessfailurelog", "view_accessattempt", "delete_accessattempt"],
    "otp_totp": ["view_totpdevice", "delete_totpdevice"],
}


def let_administrators_see(apps, schema_editor):
    """Let administrators see who signed in, and let people in again. Nobody else: what was typed may be a password."""
    using = schema_editor.connection.alias
    groups = apps.get_model("auth", "Group").objects.using(using).filter(name="Administrator")
    found = apps.get_model("auth", "Permission").objects.using(using)
    for label, codenames in PERMISSIONS.items():
        # Permissions are made after the last migration; the group needs them now.
        create_permissions(installed.get_app_config(label), verbosity=0, using=using, apps=apps)
        for group in groups:
            group.permissions.add(*found.filter(content_type__app_label=label, codename__in=codenames))


class Migration(migrations.Migration):
    safe_because = "It adds six rows to a table that nobody writes to meanwhile."

    dependencies = [
        ("fundapi", "0004_deployment_roles"),
        ("axes", "0010_accessattemptexpiration"),
        ("otp_totp", "0003_add_timestamps"),
    ]

    operations = [migrations.RunPython(let_administrators_see, migrations.RunPython.noop)]
