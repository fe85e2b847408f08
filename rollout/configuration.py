"""The configuration that browsers read, kept in the cache so that a 304 costs no SQL.

A change clears the cache when it commits. If that fails, or a reader has just stored the old rows, the entry expires
after ``ROLLOUT_CACHE_SECONDS``. Without a cache every read asks the database.

One thread of a process asks at a time. The others take a copy of its last answer, at most ``COPY_SECONDS`` old, so that
a cache or a database that hangs or is slow holds one thread and not all. So under load a change reaches browsers that
much later at most; ``max-age`` comes on top.

The cache holds only the bytes of the answer, so that two releases side by side can read each other's entry. Its key
names the database.
"""

import hashlib
import json
import threading
import time
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

from django.core.cache import cache
from django.db import connection

from rollout.conf import conf
from rollout.evaluation import Config
from rollout.models import Rollout

COPY_SECONDS = 2
# Of this process: when each was asked for, and the answer.
_copies: dict[str, tuple[float, "Configuration"]] = {}
_asking = threading.Lock()


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
        """Return whether migration events of a feature are kept; without a feature, whether those of any are."""
        return any(self._tracked.values()) if feature is None else self._tracked.get(feature, False)


def current() -> Configuration:
    """Return the configuration of all rollouts, from the cache if it is there."""
    key, now = _key(), time.monotonic()
    asked, copy = _copies.get(key, (0.0, None))
    if not _asking.acquire(blocking=False):
        return copy if copy is not None and now - asked < COPY_SECONDS else _ask(key)
    try:
        found = _ask(key)
        if copy is not None and copy.body == found.body:
            found = copy  # with what it has worked out already
        _copies[key] = (now, found)
        return found
    finally:
        _asking.release()


def _ask(key: str) -> Configuration:
    cached: bytes | None = cache.get(key)
    if cached is not None:
        return Configuration(cached)
    fresh = read()
    cache.add(key, fresh.body, timeout=conf.cache_seconds)
    return fresh


def read() -> Configuration:
    """Return the configuration from the database."""
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
    """Clear the cache: the next reader asks the database."""
    _copies.pop(_key(), None)
    cache.delete(_key())


def _key() -> str:
    return f"rollout.configuration.{connection.settings_dict['NAME']}"
