"""Migrations that `manage.py check --deploy` refuses, because they would break a running deployment."""

from typing import Any

import pytest
from django.contrib.postgres import operations as postgres
from django.db import migrations, models
from django.db.migrations.state import ProjectState
from django.db.models.functions import Now, Random

from fundapi import checks

THING = migrations.CreateModel(
    "Thing", [("id", models.BigAutoField(primary_key=True)), ("name", models.TextField())]
)
INDEX = models.Index(fields=["name"], name="thing_name")
POSITIVE = models.CheckConstraint(condition=models.Q(id__gt=0), name="thing_positive")


def add(field: models.Field) -> migrations.AddField:
    return migrations.AddField("thing", "added", field)


def found(*operations: Any, **attributes: Any) -> list[str]:
    migration = migrations.Migration("0002_next", "shop")
    vars(migration).update({"operations": list(operations), **attributes})
    before = ProjectState()
    THING.state_forwards("shop", before)
    return list(checks.problems(migration, before))


@pytest.mark.parametrize(
    "operation",
    [
        add(models.TextField(null=True)),
        add(models.TextField(db_default="")),
        add(models.DateTimeField(db_default=Now())),
        add(models.ManyToManyField("auth.User")),
        migrations.AlterField("thing", "name", models.TextField(help_text="Only words.")),
        migrations.RemoveConstraint("thing", "thing_positive"),
        postgres.AddConstraintNotValid("thing", POSITIVE),
        postgres.ValidateConstraint("thing", "thing_positive"),
        migrations.RunSQL("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
        migrations.RunSQL("CREATE INDEX CONCURRENTLY i ON shop_thing (name)"),
        migrations.RunPython(migrations.RunPython.noop),
        migrations.SeparateDatabaseAndState(state_operations=[migrations.RemoveField("thing", "name")]),
    ],
    ids=lambda operation: type(operation).__name__,
)
def test_what_nobody_feels_passes(operation: Any) -> None:
    before = [migrations.AddConstraint("thing", POSITIVE)] if "Constraint" in type(operation).__name__ else []
    assert found(*before, operation)[len(before) :] == []


@pytest.mark.parametrize(
    ("operation", "says"),
    [
        (migrations.AddIndex("thing", INDEX), "AddIndexConcurrently"),
        (postgres.AddIndexConcurrently("thing", INDEX), "atomic = False"),
        (add(models.TextField()), "does not fill"),
        (add(models.TextField(default="")), "does not fill"),
        (add(models.FloatField(db_default=Random())), "computed for every row"),
        (add(models.TextField(null=True, unique=True)), "with an index"),
        (add(models.TextField(null=True, db_index=True)), "with an index"),
        (add(models.ForeignKey("auth.User", models.CASCADE, null=True)), "with an index"),
        (add(models.PositiveIntegerField(db_default=0)), "every row"),
        (migrations.AlterField("thing", "name", models.CharField(max_length=9)), "rewrite the table"),
        (migrations.AddConstraint("thing", POSITIVE), "AddConstraintNotValid"),
        (
            migrations.AddConstraint("thing", models.UniqueConstraint(fields=["name"], name="u")),
            "concurrently first",
        ),
        (migrations.RemoveField("thing", "name"), "still reads"),
        (migrations.DeleteModel("Thing"), "still reads"),
        (migrations.RenameField("thing", "name", "title"), "renames"),
        (migrations.RenameModel("Thing", "Item"), "renames"),
        (migrations.AlterModelTable("thing", "items"), "renames"),
        (migrations.RunSQL("create index i on shop_thing (name)"), "lock"),
        (migrations.RunSQL("ALTER TABLE shop_thing ADD x int"), "lock"),
        (migrations.SeparateDatabaseAndState([migrations.RemoveField("thing", "name")]), "still reads"),
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)
def test_what_a_running_deployment_would_feel_is_refused(operation: Any, says: str) -> None:
    (problem,) = found(operation)
    assert says in problem


def test_an_index_may_be_built_concurrently() -> None:
    assert found(postgres.AddIndexConcurrently("thing", INDEX), atomic=False) == []


def test_a_table_that_is_new_may_be_shaped_at_will() -> None:
    new = migrations.CreateModel(
        "New", [("id", models.BigAutoField(primary_key=True)), ("name", models.TextField())]
    )
    index = models.Index(fields=["name"], name="new_name")
    assert found(new, migrations.AddIndex("new", index), migrations.RemoveField("new", "name")) == []


def test_those_of_the_project_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.check_migrations() == []
    monkeypatch.setitem(checks.SETTLED, "rollout", "0004_alert_due")
    refused = checks.check_migrations()
    assert {error.id for error in refused} == {"fundapi.E001"}
    assert [error.msg.split()[0] for error in refused] == ["rollout.0005_reading"] * 2


def test_a_migration_may_say_why_it_is_safe_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import import_module

    monkeypatch.setitem(checks.SETTLED, "rollout", "0004_alert_due")
    reading = import_module("rollout.migrations.0005_reading").Migration
    monkeypatch.setattr(reading, checks.REASON, "the table is small", raising=False)
    assert checks.check_migrations() == []
