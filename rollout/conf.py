"""The app's settings: one object, one lazy property a setting, read once; ``override_settings`` works.

Each is an ordinary Django setting named ``ROLLOUT_<PROPERTY>``. The policy alone reads 32 of them, in 0.2 ms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver

from rollout.judge.policy import Policy


class Settings:
    @cached_property
    def environment(self) -> str:
        """Shown to operators and browsers, such as ``prod``."""
        return getattr(settings, "ROLLOUT_ENVIRONMENT", "dev")

    @cached_property
    def confirm(self) -> bool:
        """Whether operators must confirm what they do: on in production."""
        return getattr(settings, "ROLLOUT_CONFIRM", self.environment.startswith("prod"))

    @cached_property
    def policy(self) -> Policy:
        """Every threshold of the judge: ``ROLLOUT_<FIELD>`` for each field of :class:`~rollout.judge.policy.Policy`."""
        names = {field.name: f"ROLLOUT_{field.name.upper()}" for field in fields(Policy)}
        return Policy(
            **{field: getattr(settings, name) for field, name in names.items() if hasattr(settings, name)}
        )

    @cached_property
    def variants_with(self) -> frozenset[str]:
        """What browsers that have the feature call it in telemetry. Any other variant is the control group."""
        return frozenset(
            getattr(settings, "ROLLOUT_VARIANTS_WITH", ("fund-store", "on", "true", "treatment"))
        )

    @cached_property
    def event_retention(self) -> timedelta:
        """How long telemetry is kept."""
        return getattr(settings, "ROLLOUT_EVENT_RETENTION", timedelta(days=7))

    @cached_property
    def check_retention(self) -> timedelta:
        """How long the judge's checks are kept, each with its evidence."""
        return getattr(settings, "ROLLOUT_CHECK_RETENTION", timedelta(days=30))

    @cached_property
    def webhook_url(self) -> str:
        """Where alerts are POSTed to; "" for nowhere. A secret: whoever has it can speak in our name."""
        return getattr(settings, "ROLLOUT_WEBHOOK_URL", "")

    @cached_property
    def webhook_secret(self) -> str:
        """What they are signed with: 24 to 64 bytes as base64, ``whsec_`` before it or not."""
        return getattr(settings, "ROLLOUT_WEBHOOK_SECRET", "")

    @cached_property
    def alert_emails(self) -> Sequence[str]:
        """Who gets alerts by e-mail."""
        return getattr(settings, "ROLLOUT_ALERT_EMAILS", ())

    @cached_property
    def celery_app(self) -> str:
        """Dotted path of the Celery app whose workers send alerts; "" for Celery's current one."""
        return getattr(settings, "ROLLOUT_CELERY_APP", "")

    @cached_property
    def admin_url(self) -> str:
        """Where the site is, for links in alerts, such as ``https://funds.example.com``; "" for no links."""
        return getattr(settings, "ROLLOUT_ADMIN_URL", "")

    @cached_property
    def purge_batch_size(self) -> int:
        """Rows one purge transaction deletes."""
        return getattr(settings, "ROLLOUT_PURGE_BATCH_SIZE", 5000)

    @cached_property
    def purge_pause(self) -> timedelta:
        """Rest between two purge batches, so that intake comes first."""
        return getattr(settings, "ROLLOUT_PURGE_PAUSE", timedelta(milliseconds=20))

    @cached_property
    def seed(self) -> Sequence[Mapping[str, Any]]:
        """Rollouts that the first migration makes; afterwards the admin is the truth."""
        return getattr(settings, "ROLLOUT_SEED", ())

    @cached_property
    def poll_interval(self) -> int:
        """How often browsers ask for the configuration, in seconds."""
        return getattr(settings, "ROLLOUT_POLL_INTERVAL", 15)

    @cached_property
    def cache_seconds(self) -> int:
        """How long the configuration may be served from the cache, should a change fail to clear it."""
        return getattr(settings, "ROLLOUT_CACHE_SECONDS", 5)

    # --- The release commands ---

    @cached_property
    def project_directory(self) -> Path:
        """The git checkout that is released: where ``manage.py`` and ``.github`` are."""
        return Path(getattr(settings, "ROLLOUT_PROJECT_DIRECTORY", getattr(settings, "BASE_DIR", ".")))

    @cached_property
    def git_remote(self) -> str:
        """Where the checkout fetches from, and pushes reverts to."""
        return getattr(settings, "ROLLOUT_GIT_REMOTE", "origin")

    @cached_property
    def auto_revert(self) -> bool:
        """Whether Celery opens the revert of the latest deployment when the judge has rolled back."""
        return getattr(settings, "ROLLOUT_AUTO_REVERT", False)

    @cached_property
    def github_token(self) -> str:
        return getattr(settings, "ROLLOUT_GITHUB_TOKEN", "")

    @cached_property
    def github_repository(self) -> str:
        """``owner/name``."""
        return getattr(settings, "ROLLOUT_GITHUB_REPOSITORY", "")

    @cached_property
    def github_configured(self) -> bool:
        """Whether GitHub can be asked at all."""
        return bool(self.github_token and self.github_repository)

    @cached_property
    def github_api_url(self) -> str:
        """GitHub Enterprise has its own: ``https://github.example.com/api/v3``."""
        return getattr(settings, "ROLLOUT_GITHUB_API_URL", "https://api.github.com")

    @cached_property
    def github_retries(self) -> int:
        """How often a request is tried again, after 0, 1, 2, 4, ... seconds."""
        return getattr(settings, "ROLLOUT_GITHUB_RETRIES", 4)

    @cached_property
    def e2e_workflow(self) -> str:
        """The workflow of GitHub Actions with the end-to-end tests: a file name; it needs ``workflow_dispatch``."""
        return getattr(settings, "ROLLOUT_E2E_WORKFLOW", "ci.yml")

    @cached_property
    def github_poll(self) -> timedelta:
        """How often the checks of a pull request are looked at."""
        return getattr(settings, "ROLLOUT_GITHUB_POLL", timedelta(seconds=15))

    @cached_property
    def checks_start(self) -> timedelta:
        """How long no check need have started, before nobody expects one any more."""
        return getattr(settings, "ROLLOUT_CHECKS_START", timedelta(minutes=5))


conf = Settings()


@receiver(setting_changed)
def _forget(**_: Any) -> None:
    vars(conf).clear()
