"""The app's settings: one object, one lazy property a setting, so that ``override_settings`` works.

Each is an ordinary Django setting named ``ROLLOUT_<PROPERTY>``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings


class Settings:
    @property
    def environment(self) -> str:
        """Shown to operators and browsers, such as ``prod``."""
        return getattr(settings, "ROLLOUT_ENVIRONMENT", "dev")

    @property
    def confirm(self) -> bool:
        """Whether operators must confirm what they do: on in production."""
        return getattr(settings, "ROLLOUT_CONFIRM", self.environment.startswith("prod"))

    @property
    def steps(self) -> Sequence[int]:
        """The percentages that *promote* climbs. Runbook: 10, 50, 100."""
        return getattr(settings, "ROLLOUT_STEPS", (10, 50, 100))

    @property
    def seed(self) -> Sequence[Mapping[str, Any]]:
        """Rollouts that the first migration makes; afterwards the admin is the truth."""
        return getattr(settings, "ROLLOUT_SEED", ())

    @property
    def poll_interval(self) -> int:
        """How often browsers ask for the configuration, in seconds."""
        return getattr(settings, "ROLLOUT_POLL_INTERVAL", 15)

    @property
    def cache_seconds(self) -> int:
        """How long the configuration may be served from the cache, should a change fail to clear it."""
        return getattr(settings, "ROLLOUT_CACHE_SECONDS", 5)


conf = Settings()
