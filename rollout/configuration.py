"""The configuration that browsers and flags read, kept in the cache so that a 304 costs no SQL.

A change clears the cache when it commits. If that fails, or a reader has just stored the old rows, the entry expires
after ``ROLLOUT_CACHE_SECONDS``. Without a cache every read asks the database.

One thread of a process asks at a time. The others take a copy of its last answer, at most ``COPY_SECONDS`` old, so that
a cache or a database that hangs or is slow holds one thread and not all. So under load a change reaches browsers that
much later at most; ``max-age`` comes on top.

The cache holds only the bytes of the answer, so that two releases side by side can read each other's entry. Its key
names the database. The people who always or never get a rollout have an entry of their own: the answer is public.

Tests override a rollout here, so that flags, ``GET /api/rollouts`` and OFREP of this process agree.
"""

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, TypeVar

from django.core.cache import cache
from django.db import DatabaseError, InterfaceError, connection

from rollout.conf import conf
from rollout.evaluation import Config
from rollout.models import Rollout
from rollout.people import GROUP

logger = logging.getLogger(__name__)

COPY_SECONDS = 2
# Of this process: when each was asked for, and the answer.
_copies: dict[str, tuple[float, Any]] = {}
_asking = threading.Lock()
# Of tests, the latest last: a mark of who did it, the rollout's name, its fields in the answer.
_overrides: list[tuple[object, str, dict[str, Any]]] = []


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
    def by_feature(self) -> dict[str, Config]:
        return {config.feature: config for config in self.rollouts}

    @cached_property
    def _tracked(self) -> dict[str, bool]:
        return {
            rollout["feature"]: rollout["trackMigrations"] for rollout in json.loads(self.body)["rollouts"]
        }

    def tracks(self, feature: str | None) -> bool:
        """Return whether migration events of a feature are kept; without a feature, whether those of any are."""
        return any(self._tracked.values()) if feature is None else self._tracked.get(feature, False)


@dataclass(frozen=True)
class Assignments:
    """The people who always or never get each rollout: ``body`` is JSON, ``{feature: [always, never]}``."""

    body: bytes

    @cached_property
    def by_feature(self) -> dict[str, tuple[frozenset[str], frozenset[str]]]:
        return {
            feature: (frozenset(always), frozenset(never))
            for feature, (always, never) in json.loads(self.body).items()
        }

    @cached_property
    def name_groups(self) -> bool:
        everybody = (who for lists in self.by_feature.values() for part in lists for who in part)
        return any(who.startswith(GROUP) for who in everybody)


Kept = TypeVar("Kept", Configuration, Assignments)


def current() -> Configuration:
    """Return the configuration of all rollouts, from the cache if it is there."""
    return _overridden(_kept(_key(), Configuration, read))


def assignments() -> Assignments:
    """Return who always or never gets a rollout, from the cache if it is there."""
    found = _kept(_key_of_assignments(), Assignments, read_assignments)
    if not _overrides:
        return found
    overridden = {feature for _, feature, _ in _overrides}
    kept = {name: lists for name, lists in json.loads(found.body).items() if name not in overridden}
    return Assignments(json.dumps(kept).encode())


def last_good() -> Configuration | None:
    """Return the configuration; while the database is away the last one of this process, ``None`` without one."""
    return _last_good(current, _key())


def last_good_assignments() -> Assignments:
    """Return who always or never gets a rollout; while the database is away as this process last read it."""
    return _last_good(assignments, _key_of_assignments()) or Assignments(b"{}")


def _last_good(ask: Callable[[], Kept], key: str) -> Kept | None:
    try:
        return ask()
    except (DatabaseError, InterfaceError):
        logger.exception("rollout_configuration_unreadable")
        copy: Kept | None = _copies.get(key, (0.0, None))[1]
        return copy


def _kept(key: str, kind: type[Kept], fresh: Callable[[], Kept]) -> Kept:
    """Return an answer from the cache, or from this process's copy while another thread asks."""
    now = time.monotonic()
    asked, copy = _copies.get(key, (0.0, None))
    if not _asking.acquire(blocking=False):
        return copy if copy is not None and now - asked < COPY_SECONDS else _ask(key, kind, fresh)
    try:
        found = _ask(key, kind, fresh)
        if copy is not None and copy.body == found.body:
            found = copy  # with what it has worked out already
        _copies[key] = (now, found)
        return found
    finally:
        _asking.release()


def _ask(key: str, kind: type[Kept], fresh: Callable[[], Kept]) -> Kept:
    cached: bytes | None = cache.get(key)
    if cached is not None:
        return kind(cached)
    found = fresh()
    cache.add(key, found.body, timeout=conf.cache_seconds)
    return found


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


def read_assignments() -> Assignments:
    """Return from the database who always or never gets a rollout."""
    rows = Rollout.objects.exclude(always="", never="").values_list("feature", "always", "never")
    document = {feature: [always.split(), never.split()] for feature, always, never in rows}
    return Assignments(json.dumps(document, separators=(",", ":")).encode())


def forget() -> None:
    """Clear the cache: the next reader asks the database."""
    for key in (_key(), _key_of_assignments()):
        _copies.pop(key, None)
        cache.delete(key)


def _key() -> str:
    return f"rollout.configuration.{connection.settings_dict['NAME']}"


def _key_of_assignments() -> str:
    return f"{_key()}.assignments"


# --- Tests --------------------------------------------------------------------------------------------------------


def override(mark: object, feature: str, fields: dict[str, Any]) -> None:
    """Change a rollout for all readers in this process, or add it, until :func:`end_override`."""
    _overrides.append((mark, feature, fields))


def end_override(mark: object) -> None:
    """End the override of this mark; those of others stay, in whatever order they end."""
    _overrides[:] = [entry for entry in _overrides if entry[0] is not mark]


def overrides_now() -> tuple[object, ...]:
    """Return what tells whether overrides have changed."""
    return tuple(mark for mark, _, _ in _overrides)


def _overridden(found: Configuration) -> Configuration:
    if not _overrides:
        return found
    document = json.loads(found.body)
    rollouts = {rollout["feature"]: rollout for rollout in document["rollouts"]}
    for _, feature, fields in _overrides:
        before = rollouts.get(feature, {"hashVersion": 2, "trackMigrations": False, "version": 1})
        rollouts[feature] = {**before, "feature": feature, **fields}
    return Configuration(json.dumps({**document, "rollouts": list(rollouts.values())}).encode())
