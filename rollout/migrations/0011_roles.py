from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import migrations

SEEN = ("rollout", "historicalrollout", "check", "incident", "alert", "telemetryevent", "deployment")
VIEW = [f"view_{model}" for model in SEEN]
OPERATE = ["operate_rollout", "stop_rollout"]
ADMINISTER = ["add_rollout", "change_rollout", "delete_rollout"]
ROLES = {
    "Rollout viewer": VIEW,
    "Rollout operator": [*VIEW, *OPERATE],
    "Rollout administrator": [*VIEW, *OPERATE, *ADMINISTER],
}


def make_roles(apps, schema_editor):
    """Make the three groups, unless the project has given a group some right to rollouts already."""
    if schema_editor.connection.vendor != "postgresql":  # another database of the project, without the tables
        return
    using = schema_editor.connection.alias
    # Permissions are made after the last migration; the groups need them now.
    create_permissions(installed.get_app_config("rollout"), verbosity=0, using=using, apps=apps)
    groups = apps.get_model("auth", "Group").objects.using(using)
    if groups.filter(permissions__content_type__app_label="rollout").exists():
        return
    found = (
        apps.get_model("auth", "Permission").objects.using(using).filter(content_type__app_label="rollout")
    )
    for name, codenames in ROLES.items():
        group, _ = groups.get_or_create(name=name)
        group.permissions.add(*found.filter(codename__in=codenames))


class Migration(migrations.Migration):
    safe_because = "It adds a few rows to tables that nobody writes to meanwhile."

    dependencies = [
        ("rollout", "0010_people"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [migrations.RunPython(make_roles, migrations.RunPython.noop)]
