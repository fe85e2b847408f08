"""The app in a project of its own: PostgreSQL is asked for before anything is migrated, and the roles are there."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.test import override_settings

from rollout import checks
from rollout.checks import check_database
from rollout.models import Rollout
from tests.new_project import run_python

roles = importlib.import_module("rollout.migrations.0011_roles")


class Elsewhere:
    """A router that keeps rollouts in a database of their own."""

    def db_for_write(self, model: Any, **_: Any) -> str | None:
        return "replica" if model is Rollout else None


@pytest.fixture
def sqlite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[DatabaseWrapper]:
    """Another database of the project, in a file: Django never closes one in memory."""
    wrapper = DatabaseWrapper(
        {**connections["default"].settings_dict, "ENGINE": "", "NAME": str(tmp_path / "files")}, "files"
    )
    wrapper.settings_dict["OPTIONS"] = {}
    monkeypatch.setitem(connections.settings, "files", wrapper.settings_dict)
    connections["files"] = wrapper
    yield wrapper
    wrapper.close()
    del connections["files"]


@pytest.mark.parametrize("app", ["rollout", "idempotency"])
def test_a_project_on_sqlite_is_told_before_anything_is_migrated(tmp_path: Path, app: str) -> None:
    settings = f"""
INSTALLED_APPS += ["django.contrib.postgres", "rest_framework", "{app}"]
IDEMPOTENCY_ENVIRONMENT = "prod"
"""
    program = (
        "from django.core.management import execute_from_command_line as run; run(['manage.py', 'migrate'])"
    )
    ended = run_python(tmp_path, program, settings)
    assert ended.returncode == 1
    number = {"rollout": "rollout.E017", "idempotency": "idempotency.E008"}[app]
    assert f"({number}) The database 'default' is SQLite, not PostgreSQL" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not any(path.stat().st_size for path in tmp_path.glob("db.sqlite3"))


def test_rollouts_elsewhere_are_refused() -> None:
    with override_settings(DATABASE_ROUTERS=[f"{__name__}.Elsewhere"]):
        assert [error.id for error in check_database()] == ["rollout.E018"]


@pytest.mark.usefixtures("database")
def test_a_second_database_that_is_sqlite_gets_no_table(sqlite: DatabaseWrapper) -> None:
    call_command("migrate", "rollout", "0009", database="files", verbosity=0)
    tables = sqlite.introspection.table_names()
    assert "django_migrations" in tables
    assert [name for name in tables if name.startswith("rollout")] == []


def test_an_automatic_revert_needs_githubs_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda _name: None)
    with override_settings(
        ROLLOUT_AUTO_REVERT=True, ROLLOUT_GITHUB_TOKEN="t", ROLLOUT_GITHUB_REPOSITORY="our/shop"
    ):
        [warning] = checks.check_auto_revert()
    assert (warning.id, warning.hint) == ("rollout.W019", "pip install 'fundapi-rollout[release]'")


# --- Roles --------------------------------------------------------------------------------------------------------


@pytest.fixture
def rolled_back(database: None) -> Iterator[None]:
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def make() -> dict[str, set[str]]:
    """Run the migration, and return the groups that have a right to rollouts, each with its rights."""
    roles.make_roles(apps, SimpleNamespace(connection=connection))
    groups = Group.objects.filter(permissions__content_type__app_label="rollout").distinct()
    return {
        group.name: set(
            group.permissions.filter(content_type__app_label="rollout").values_list("codename", flat=True)
        )
        for group in groups
    }


@pytest.mark.usefixtures("rolled_back")
def test_a_new_project_gets_three_roles() -> None:
    Group.objects.all().delete()
    made = make()
    assert made.keys() == {"Rollout viewer", "Rollout operator", "Rollout administrator"}
    assert made["Rollout viewer"] == {code for code in made["Rollout viewer"] if code.startswith("view_")}
    assert made["Rollout operator"] - made["Rollout viewer"] == {"operate_rollout", "stop_rollout"}
    assert made["Rollout administrator"] - made["Rollout operator"] == {
        "add_rollout",
        "change_rollout",
        "delete_rollout",
    }
    models = {model._meta.model_name for model in apps.get_app_config("rollout").get_models()}
    written_only = {"watch", "stagemember"}  # without a page
    assert made["Rollout viewer"] == {f"view_{name}" for name in models - written_only}


@pytest.mark.usefixtures("rolled_back")
def test_roles_of_the_project_stay_the_only_ones() -> None:
    """Also where somebody has deleted one of them."""
    Group.objects.filter(name="Viewer").delete()
    assert make().keys() == {"Operator", "Administrator"}


@pytest.mark.usefixtures("rolled_back")
def test_a_group_of_the_same_name_as_fundapis_gets_no_right() -> None:
    """In another project, an "Operator" may be anybody."""
    Group.objects.all().delete()
    theirs = Group.objects.create(name="Operator")
    theirs.permissions.add(Permission.objects.get(codename="view_user"))
    assert "Operator" not in make()
