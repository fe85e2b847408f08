"""The app's settings: one object, one lazy property a setting, read once; ``override_settings`` works.

Each is an ordinary Django setting named ``ROLLOUT_<PROPERTY>``. The policy alone reads 32 of them, in 0.2 ms.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver

from rollout.judge.policy import Policy


class Settings:
    @cached_property
    def environment(self) -> str:
        """Name of the environment for operators and browsers, such as ``prod``."""
        return getattr(settings, "ROLLOUT_ENVIRONMENT", "dev")

    @cached_property
    def confirm(self) -> bool:
        """True if operators must confirm each change: in production, by default."""
        return getattr(settings, "ROLLOUT_CONFIRM", str(self.environment).startswith("prod"))

    @cached_property
    def policy(self) -> Policy:
        """All thresholds of the judge: ``ROLLOUT_<FIELD>`` for each field of :class:`~rollout.judge.policy.Policy`."""
        names = {field.name: f"ROLLOUT_{field.name.upper()}" for field in fields(Policy)}
        return Policy(
            **{field: getattr(settings, name) for field, name in names.items() if hasattr(settings, name)}
        )

    @cached_property
    def variants_with(self) -> frozenset[str]:
        """Names of the variant with the feature in telemetry. Any other variant is the control group."""
        names = getattr(settings, "ROLLOUT_VARIANTS_WITH", ("on", "true", "treatment"))
        # A text would become its letters; left as it is, it has a wrong type.
        return names if isinstance(names, str) else frozenset(names)  # type: ignore[return-value]

    @cached_property
    def without(self) -> str:
        """Name of what browsers get that do not have a feature, for sentences: "Everybody gets …"."""
        return getattr(settings, "ROLLOUT_WITHOUT", "the previous version")

    @cached_property
    def live_label(self) -> str:
        """Name of the question whether any browser can get a feature; in JSON with ``_``, such as ``store_type``."""
        return getattr(settings, "ROLLOUT_LIVE_LABEL", "Live")

    @cached_property
    def live_words(self) -> Sequence[str]:
        """The two answers to it: the first while any browser can get the feature."""
        return getattr(settings, "ROLLOUT_LIVE_WORDS", ("yes", "no"))

    @property
    def live_key(self) -> str:
        return self.live_label.lower().replace(" ", "_")

    @cached_property
    def ticket_ttl(self) -> timedelta:
        """Time that a ticket of a signed-in user is accepted with telemetry; browsers renew theirs earlier."""
        return getattr(settings, "ROLLOUT_TICKET_TTL", timedelta(hours=1))

    @cached_property
    def event_retention(self) -> timedelta:
        """Retention of telemetry."""
        return getattr(settings, "ROLLOUT_EVENT_RETENTION", timedelta(days=7))

    @cached_property
    def check_retention(self) -> timedelta:
        """Retention of the judge's checks, each with its evidence."""
        return getattr(settings, "ROLLOUT_CHECK_RETENTION", timedelta(days=30))

    @cached_property
    def webhook_url(self) -> str:
        """URL of the webhook for alerts; "" for none. A secret: anyone who has it can send alerts in our name."""
        return getattr(settings, "ROLLOUT_WEBHOOK_URL", "")

    @cached_property
    def webhook_secret(self) -> str:
        """Key that signs the webhook: 24 to 64 bytes as base64, with or without the prefix ``whsec_``."""
        return getattr(settings, "ROLLOUT_WEBHOOK_SECRET", "")

    @cached_property
    def alert_emails(self) -> Sequence[str]:
        """Addresses that get alerts by e-mail."""
        return getattr(settings, "ROLLOUT_ALERT_EMAILS", ())

    @property
    def alert_channels(self) -> list[str]:
        """Names of the channels that are set up."""
        return [
            name for name, there in (("webhook", self.webhook_url), ("email", self.alert_emails)) if there
        ]

    @cached_property
    def celery_app(self) -> str:
        """Dotted path of the Celery app whose workers send alerts; "" for Celery's current one."""
        return getattr(settings, "ROLLOUT_CELERY_APP", "")

    @cached_property
    def admin_url(self) -> str:
        """Address of the site for links in alerts, such as ``https://funds.example.com``; "" for no links."""
        return getattr(settings, "ROLLOUT_ADMIN_URL", "")

    @cached_property
    def purge_batch_size(self) -> int:
        """Rows that one purge transaction deletes."""
        return getattr(settings, "ROLLOUT_PURGE_BATCH_SIZE", 5000)

    @cached_property
    def purge_pause(self) -> timedelta:
        """Rest between two purge batches, so that intake comes first."""
        return getattr(settings, "ROLLOUT_PURGE_PAUSE", timedelta(milliseconds=20))

    @cached_property
    def seed(self) -> Sequence[Mapping[str, Any]]:
        """Rollouts that the first migration creates; later the database alone counts."""
        return getattr(settings, "ROLLOUT_SEED", ())

    @cached_property
    def seed_variables(self) -> Sequence[Mapping[str, Any]]:
        """Environment variables of the seed that are set: ``variable``, ``feature``, ``field``, ``value`` of each."""
        return getattr(settings, "ROLLOUT_SEED_VARIABLES", ())

    @cached_property
    def poll_interval(self) -> int:
        """Seconds between two requests of a browser for the configuration."""
        return getattr(settings, "ROLLOUT_POLL_INTERVAL", 15)

    @cached_property
    def cache_seconds(self) -> int:
        """Seconds that the cache may serve the configuration if a change fails to clear it."""
        return getattr(settings, "ROLLOUT_CACHE_SECONDS", 5)

    @cached_property
    def raise_unknown(self) -> bool:
        """True if a flag without a rollout raises an error, for development. Else it is off, and logged once."""
        return getattr(settings, "ROLLOUT_RAISE_UNKNOWN", False)

    # --- The release commands ---

    @cached_property
    def project_directory(self) -> Path:
        """The git checkout that is released, with ``manage.py`` and ``.github``."""
        return Path(getattr(settings, "ROLLOUT_PROJECT_DIRECTORY", getattr(settings, "BASE_DIR", ".")))

    @cached_property
    def git_remote(self) -> str:
        """The remote that the checkout fetches from and pushes reverts to."""
        return getattr(settings, "ROLLOUT_GIT_REMOTE", "origin")

    @cached_property
    def auto_revert(self) -> bool:
        """True if Celery opens the revert of the latest deployment after the judge has rolled back."""
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
        """True if there is a token and a repository."""
        return bool(self.github_token and self.github_repository)

    @cached_property
    def github_api_url(self) -> str:
        """Base URL of the API; of GitHub Enterprise, ``https://github.example.com/api/v3``."""
        return getattr(settings, "ROLLOUT_GITHUB_API_URL", "https://api.github.com")

    @cached_property
    def github_retries(self) -> int:
        """Retries of a request, after 0, 1, 2, 4, ... seconds."""
        return getattr(settings, "ROLLOUT_GITHUB_RETRIES", 4)

    @cached_property
    def e2e_workflow(self) -> str:
        """File name of the GitHub Actions workflow with the end-to-end tests; it needs ``workflow_dispatch``."""
        return getattr(settings, "ROLLOUT_E2E_WORKFLOW", "ci.yml")

    @cached_property
    def github_poll(self) -> timedelta:
        """Time between two reads of the CI checks of a pull request."""
        return getattr(settings, "ROLLOUT_GITHUB_POLL", timedelta(seconds=15))

    @cached_property
    def site_url(self) -> str:
        """Address of the site, whose ``/health`` names the commit that runs; "" if nobody can ask it."""
        return getattr(settings, "ROLLOUT_SITE_URL", "")

    @cached_property
    def site_poll(self) -> timedelta:
        """Time between two reads of the site's commit."""
        return getattr(settings, "ROLLOUT_SITE_POLL", timedelta(seconds=2))

    @cached_property
    def checks_start(self) -> timedelta:
        """Time to wait for a first CI check to start; then there is none to wait for."""
        return getattr(settings, "ROLLOUT_CHECKS_START", timedelta(minutes=5))


conf = Settings()


def unknown_names() -> Iterator[str]:
    """Yield the names of settings that look like the app's, and are none."""
    names = {name for name, setting in vars(Settings).items() if isinstance(setting, cached_property)}
    known = {f"ROLLOUT_{name.upper()}" for name in names | {field.name for field in fields(Policy)}}
    yield from (name for name in dir(settings) if name.startswith("ROLLOUT_") and name not in known)


def wrong_types() -> Iterator[str]:
    """Yield a sentence for each setting whose value has another type than its property."""
    for name, setting in vars(Settings).items():
        if isinstance(setting, cached_property):
            kind = get_type_hints(setting.func)["return"]
            try:
                value = getattr(conf, name)
            except (TypeError, ValueError):  # what the property makes of it, such as a path, cannot be made
                value = None
            if not _is_a(value, kind):
                what = kind.__name__ if isinstance(kind, type) else kind
                yield f"ROLLOUT_{name.upper()} has a wrong type, and should be of type {what}."


def _is_a(value: Any, kind: Any) -> bool:
    if get_origin(kind) is not None:
        is_text = isinstance(value, str | bytes)
        return (
            isinstance(value, get_origin(kind))
            and not is_text
            and all(_is_a(part, get_args(kind)[0]) for part in value)
        )
    if kind in (int, float):
        return type(value) in (int, kind)
    return isinstance(value, kind)


@receiver(setting_changed)
def _forget(**_: Any) -> None:
    vars(conf).clear()
