from importlib import import_module
from typing import Any

from django.apps import AppConfig
from django.core.checks import Tags, register
from django.db import connections, router
from django.db.migrations.loader import MigrationLoader
from django.db.models.signals import post_migrate, pre_migrate

from rollout import checks


class RolloutConfig(AppConfig):
    name = "rollout"
    verbose_name = "Rollouts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        register(checks.check_types)
        register(checks.check_names)
        register(checks.check_policy)
        register(checks.check_database)
        register(checks.check_bounds)
        register(checks.check_tickets)
        register(checks.check_networks, deploy=True)
        register(checks.check_webhook)
        register(checks.check_addresses)
        register(checks.check_forms)
        register(checks.check_email)
        register(checks.check_auto_revert)
        register(checks.check_words)
        register(checks.check_middleware)
        register(checks.check_seed_entries)
        register(checks.check_seeds, Tags.database)
        pre_migrate.connect(make_sequence, sender=self)
        post_migrate.connect(make_foreign_key, sender=self)


def make_sequence(using: str, **_: Any) -> None:
    """Make what the default of a column asks for, before a table without migrations gets it."""
    if _is_without_migrations(using):
        connections[using].cursor().execute(import_module("rollout.migrations.0003_judge").SEQUENCE)


def make_foreign_key(using: str, **_: Any) -> None:
    """Complete tables that no migration has made: the purge deletes checks by SQL, past Django."""
    if _is_without_migrations(using) and "rollout_incident" in connections[using].introspection.table_names():
        latest = import_module("rollout.migrations.0009_purged_checks")
        connections[using].cursor().execute(latest.FORGET_DELETED_CHECKS)


def _is_without_migrations(using: str) -> bool:
    """Return whether the app's tables come from its models: pytest's ``--nomigrations``, ``MIGRATION_MODULES``."""
    return (
        connections[using].vendor == "postgresql"
        and router.allow_migrate(using, "rollout")
        and MigrationLoader.migrations_module("rollout")[0] is None
    )
