from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import migrations

APPS = ["fundapi", "idempotency", "rollout", "knox", "auth"]

VIEWER = {
    "fundapi": ["view_fund"],
    "idempotency": ["view_idempotencykey"],
    "rollout": ["view_rollout", "view_historicalrollout"],
}
OPERATOR = {"rollout": ["operate_rollout", "stop_rollout"]}
ADMINISTRATOR = {
    "fundapi": ["add_fund", "change_fund", "delete_fund"],
    "rollout": ["add_rollout", "change_rollout", "delete_rollout"],
    "knox": [f"{verb}_authtoken" for verb in ("add", "change", "delete", "view")],
    "auth": [
        f"{verb}_{model}" for model in ("user", "group") for verb in ("add", "change", "delete", "view")
    ],
}
ROLES = {
    "Viewer": [VIEWER],
    "Operator": [VIEWER, OPERATOR],
    "Administrator": [VIEWER, OPERATOR, ADMINISTRATOR],
}


def make_roles(apps, schema_editor):
    """Make the three groups. One that is there already keeps what it has and gets what it lacks."""
    using = schema_editor.connection.alias
    for label in APPS:  # permissions are made after the last migration; the groups need them now
        create_permissions(installed.get_app_config(label), verbosity=0, using=using, apps=apps)
    Group = apps.get_model("auth", "Group")
    Permission = apps.get_model("auth", "Permission")
    for name, parts in ROLES.items():
        group, _ = Group.objects.using(using).get_or_create(name=name)
        for part in parts:
            for label, codenames in part.items():
                found = Permission.objects.using(using).filter(
                    content_type__app_label=label, codename__in=codenames
                )
                if missing := set(codenames) - {permission.codename for permission in found}:
                    raise LookupError(f"{label} has no permission {', '.join(sorted(missing))}.")
                group.permissions.add(*found)


class Migration(migrations.Migration):
    dependencies = [
        ("fundapi", "0001_initial"),
        ("idempotency", "0001_initial"),
        ("rollout", "0001_initial"),
        ("knox", "0009_extend_authtoken_field"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    # These groups, and not those that the app makes for a project that has none.
    run_before = [("rollout", "0011_roles")]

    operations = [migrations.RunPython(make_roles, migrations.RunPython.noop)]
