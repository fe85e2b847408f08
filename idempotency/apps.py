from django.apps import AppConfig
from django.core.checks import register

from idempotency import checks


class IdempotencyConfig(AppConfig):
    name = "idempotency"
    verbose_name = "Idempotency"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        register(checks.check_python)
        register(checks.check_types)
        register(checks.check_settings)
        register(checks.check_middleware)
        register(checks.check_database)
        register(checks.check_marks)
