"""What browsers are told, kept ready in the cache so that "nothing new" costs no SQL.

A change clears the cache when it commits. Should that fail, or lose a race with a reader that had read just
before, the entry is gone after ``ROLLOUT_CACHE_SECONDS`` by itself. Without a cache every read asks the database.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from django.core.cache import cache

from rollout.conf import conf
from rollout.evaluation import Config
from rollout.models import Rollout

KEY = "rollout.configuration"


@dataclass(frozen=True, slots=True)
class Configuration:
    """All rollouts, the body of ``GET /api/rollouts``, and its entity tag."""

    rollouts: tuple[Config, ...]
    body: bytes
    etag: str


def current() -> Configuration:
    """Return the configuration of all rollouts, from the cache where it can be."""
    cached: Configuration | None = cache.get(KEY)
    if cached is not None:
        return cached
    fresh = read()
    cache.add(KEY, fresh, timeout=conf.cache_seconds)
    return fresh


def read() -> Configuration:
    """Return the configuration as the database has it now."""
    rollouts = list(Rollout.objects.all())
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
            for rollout in rollouts
        ],
    }
    body = json.dumps(document, separators=(",", ":")).encode()
    etag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    return Configuration(tuple(rollout.config for rollout in rollouts), body, etag)


def forget() -> None:
    """Let the next reader ask the database."""
    cache.delete(KEY)
