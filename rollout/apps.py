from django.apps import AppConfig
from django.core.checks import Tags, register

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
        register(checks.check_email)
        register(checks.check_auto_revert)
        register(checks.check_words)
        register(checks.check_middleware)
        register(checks.check_seeds, Tags.database)
