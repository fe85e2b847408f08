"""What browsers are told, kept ready in the cache so that "nothing new" costs no SQL.

A change clears the cache when it commits. Should that fail, or lose a race with a reader that had read just
before, the entry is gone after ``ROLLOUT_CACHE_SECONDS`` by itself. Without a cache every read asks the database.

The cache holds the answer's bytes and nothing else, so that two releases side by side can read each other's, under a
key that names the database they come from.
"""

import hashlib
import json
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

from django.core.cache import cache
from django.db import connection

from rollout.conf import conf
from rollout.evaluation import Config
from rollout.models import Rollout


@dataclass(frozen=True)
class Configuration:
    """All rollouts. ``body`` is the answer to ``GET /api/rollouts``; the rest follows from it."""

    body: bytes

    @cached_property
    def etag(self) -> str:
        return f'"{hashlib.blake2b(self.body, digest_size=12).hexdigest()}"'

    @cached_property
    def rollouts(self) -> tuple[Config, ...]:
        return tuple(
            Config(
                feature=rollout["feature"],
                enabled=rollout["enabled"],
                percentage=Decimal(rollout["percentage"]),
                emergency_stop=rollout["emergencyStop"],
                hash_version=rollout["hashVersion"],
            )
            for rollout in json.loads(self.body, parse_float=Decimal)["rollouts"]
        )

    @cached_property
    def _tracked(self) -> dict[str, bool]:
        return {
            rollout["feature"]: rollout["trackMigrations"] for rollout in json.loads(self.body)["rollouts"]
        }

    def tracks(self, feature: str | None) -> bool:
        """Tell whether migration events of a feature are kept; of none, whether those of any are."""
        return any(self._tracked.values()) if feature is None else self._tracked.get(feature, False)


def current() -> Configuration:
    """Return the configuration of all rollouts, from the cache where it can be."""
    cached: bytes | None = cache.get(_key())
    if cached is not None:
        return Configuration(cached)
    fresh = read()
    cache.add(_key(), fresh.body, timeout=conf.cache_seconds)
    return fresh


def read() -> Configuration:
    """Return the configuration as the database has it now."""
    document: dict[str, Any] = {
        "environment": conf.environment,
        "pollInterval": conf.poll_interval,
        "rollouts": [
            {
                "feature": rollout.feature,
                "enabled": rollout.enabled,
                "percentage": float(rollout.percentage),
                "emergencyStop": rollout.emergency_stop,
                "hashVersion": rollout.hash_version,
                "trackMigrations": rollout.track_migrations,
                "version": rollout.version,
            }
            for rollout in Rollout.objects.all()
        ],
    }
    return Configuration(json.dumps(document, separators=(",", ":")).encode())


def forget() -> None:
    """Let the next reader ask the database."""
    cache.delete(_key())


def _key() -> str:
    return f"rollout.configuration.{connection.settings_dict['NAME']}"
