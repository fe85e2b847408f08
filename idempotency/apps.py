from importlib import import_module
from typing import Any

from django.apps import AppConfig
from django.core.checks import register
from django.db import connections
from django.db.models.signals import post_migrate

from idempotency import checks, store
from idempotency.conf import conf


class IdempotencyConfig(AppConfig):
    name = "idempotency"
    verbose_name = "Idempotency"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        register(checks.check_python)
        register(checks.check_names)
        register(checks.check_types)
        register(checks.check_settings)
        register(checks.check_middleware)
        register(checks.check_database)
        register(checks.check_tenants)
        register(checks.check_marks)
        post_migrate.connect(make_missing_functions, sender=self)


def make_missing_functions(using: str, **_: Any) -> None:
    """Complete a table that no migration has made: pytest's ``--nomigrations``, ``MIGRATION_MODULES`` of tests."""
    if using == conf.database and connections[using].vendor == "postgresql":
        claim = import_module("idempotency.migrations.0003_headers").CLAIM
        save = import_module("idempotency.migrations.0005_origin").SAVE
        store.make_missing_functions(claim, save)
