"""Operations on a rollout, one function each: for the admin's buttons, the shell and the judge.

Each change is one transaction: lock the row, validate, write, and leave a history record with who, why, before and
after. Only the emergency stop needs no valid state: neither a stale version nor another state can refuse it.
"""

import logging
from collections.abc import Callable
from copy import copy
from datetime import datetime
from decimal import Decimal
from difflib import SequenceMatcher
from functools import partial
from itertools import pairwise
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Now

from rollout import configuration, store
from rollout.blank import is_blank
from rollout.conf import conf
from rollout.models import Rollout, Stage, Watch
from rollout.units import percent

logger = logging.getLogger(__name__)

KNOWN_MAX = 8  # features that an error lists, those with the nearest names


class OperationError(Exception):
    """The change was refused; the message says why and what to do."""


class NoSuchRollout(OperationError):
    def __init__(self, feature: str) -> None:
        known = sorted(Rollout.objects.values_list("feature", flat=True), key=partial(_distance, feature))
        more = f" and {len(known) - KNOWN_MAX} more" if len(known) > KNOWN_MAX else ""
        super().__init__(
            f"There is no rollout '{feature}'. Known: {', '.join(known[:KNOWN_MAX]) or 'none'}{more}."
        )


def _distance(name: str, other: str) -> float:
    """Return how far two names are apart, from 0 (the same) to 1."""
    return 1 - SequenceMatcher(None, name.upper(), other).ratio()


class StaleEdit(OperationError):
    """Somebody else changed the rollout meanwhile: ``changes`` lists how."""

    def __init__(self, rollout: Rollout, changes: list[dict[str, Any]]) -> None:
        self.rollout = rollout
        self.changes = changes
        super().__init__(f"{rollout.feature} was changed meanwhile (it is now at version {rollout.version}).")


def create(
    feature: str,
    fields: dict[str, Any] | None = None,
    *,
    reason: str,
    actor: AbstractBaseUser | None = None,
) -> Rollout:
    """Create a rollout: it begins at 0 %.

    ``fields``: description, timeline, auto_rollback, track_migrations, hash_version (2), always, never.
    """
    rollout = Rollout()
    _assign(rollout, {"feature": feature, **(fields or {})})
    _sign(rollout, reason, actor)
    rollout.stage_started_at = rollout.updated_at
    with transaction.atomic():
        try:
            with transaction.atomic():
                rollout.save(force_insert=True)
        except IntegrityError:  # its name is the only value that another row can have
            raise OperationError(f"There is a rollout '{feature}' already: configure it.") from None
        transaction.on_commit(configuration.forget)
    return rollout


def set_percentage(
    feature: str,
    percentage: Decimal,
    *,
    reason: str,
    actor: AbstractBaseUser | None = None,
    version: int | None = None,
    at: datetime | None = None,
) -> Rollout:
    """Give the feature to ``percentage`` (0-100) of browsers. A new percentage starts a new stage."""

    def apply(rollout: Rollout) -> None:
        require_step(rollout, percentage)
        _move(rollout, percentage, at=at)

    return _change(feature, apply, reason=reason, actor=actor, version=version)


def require_step(rollout: Rollout, percentage: Decimal) -> None:
    """Raise :class:`OperationError` for a percentage that a rollout cannot have."""
    if not 0 <= percentage <= 100:
        raise OperationError(f"{percentage} is not a percentage: it must be between 0 and 100.")
    if percentage != round(percentage, 0 if rollout.hash_version == 1 else 2):
        step = "1" if rollout.hash_version == 1 else "0.01"
        raise OperationError(f"{percentage} is too fine: this rollout has steps of {step}.")


def promote(
    feature: str, *, reason: str, actor: AbstractBaseUser | None = None, version: int | None = None
) -> Rollout:
    """Raise the percentage to the next step: 10, 50, 100 by default."""

    def apply(rollout: Rollout) -> None:
        step = next((Decimal(step) for step in conf.policy.steps if step > rollout.percentage), None)
        if step is None:
            raise OperationError(f"{feature} is at {percent(rollout.percentage)}: there is no higher step.")
        if rollout.on_hold:
            raise OperationError(f"{feature} is on hold: resume it first.")
        if rollout.emergency_stop:
            raise OperationError(f"{feature} is stopped: release it first.")
        _move(rollout, step)

    return _change(feature, apply, reason=reason, actor=actor, version=version)


def hold(
    feature: str, *, reason: str, actor: AbstractBaseUser | None = None, version: int | None = None
) -> Rollout:
    """Keep the percentage: the judge does not promote until :func:`resume`."""
    return _change(
        feature, lambda r: setattr(r, "on_hold", True), reason=reason, actor=actor, version=version
    )


def resume(
    feature: str, *, reason: str, actor: AbstractBaseUser | None = None, version: int | None = None
) -> Rollout:
    """End a hold."""
    return _change(
        feature, lambda r: setattr(r, "on_hold", False), reason=reason, actor=actor, version=version
    )


def roll_back(
    feature: str,
    *,
    reason: str,
    actor: AbstractBaseUser | None = None,
    version: int | None = None,
    at: datetime | None = None,
    logged: bool = True,
) -> Rollout:
    """Take the feature back: 0 %, and on hold, so that only a person starts it again.

    ``logged=False``: the caller logs it. The judge does so, with the incident.
    """

    def apply(rollout: Rollout) -> None:
        _move(rollout, Decimal(0), at=at)
        rollout.on_hold = True

    return _change(feature, apply, reason=reason, actor=actor, version=version, logged=logged)


def stop(feature: str, *, reason: str, actor: AbstractBaseUser | None = None) -> Rollout:
    """Stop in an emergency: no browser gets the feature, at once. Needs no version and no particular state."""

    def apply(rollout: Rollout) -> None:
        rollout.emergency_stop = True
        rollout.on_hold = True

    return _change(feature, apply, reason="emergency stop" if is_blank(reason) else reason, actor=actor)


def release(
    feature: str, *, reason: str, actor: AbstractBaseUser | None = None, version: int | None = None
) -> Rollout:
    """End an emergency stop. The percentage is as before; the hold stays until :func:`resume`."""

    def apply(rollout: Rollout) -> None:
        if not rollout.emergency_stop:
            raise OperationError(f"{feature} is not stopped.")
        rollout.emergency_stop = False
        _reopen(rollout)
        _begin_stage(rollout)

    return _change(feature, apply, reason=reason, actor=actor, version=version)


def complete(
    feature: str,
    *,
    reason: str,
    actor: AbstractBaseUser | None = None,
    version: int | None = None,
    at: datetime | None = None,
) -> Rollout:
    """End the rollout: no more checks, migrations no longer tracked (runbook, "Phase 6: Stabilization")."""

    def apply(rollout: Rollout) -> None:
        if rollout.percentage < 100 or not rollout.enabled or rollout.emergency_stop:
            raise OperationError(
                f"{feature} is not on for everybody: only a rollout at 100 % can be completed."
            )
        if rollout.stage == Stage.COMPLETE:
            raise OperationError(f"{feature} is complete already.")
        rollout.stage = Stage.COMPLETE
        rollout.track_migrations = False
        _begin_stage(rollout, at=at)

    return _change(feature, apply, reason=reason, actor=actor, version=version)


def configure(
    feature: str,
    fields: dict[str, Any],
    *,
    reason: str,
    actor: AbstractBaseUser | None = None,
    version: int | None = None,
) -> Rollout:
    """Change settings: enabled, timeline, auto_rollback, track_migrations, description, always, never.

    The last two are as the database keeps them: :func:`rollout.people.read` makes that of names.
    """

    def apply(rollout: Rollout) -> None:
        begins = fields.get("enabled", rollout.enabled) and not rollout.enabled
        tracked = rollout.track_migrations
        if begins:
            _reopen(rollout)
        # A form sends every field: only a change of this one says that a person wants it.
        kept = {"track_migrations"} if fields.get("track_migrations") == tracked else set()
        _assign(rollout, {name: value for name, value in fields.items() if name not in kept})
        if begins:
            _begin_stage(rollout)

    return _change(feature, apply, reason=reason, actor=actor, version=version)


def _assign(rollout: Rollout, fields: dict[str, Any]) -> None:
    """Set fields, and refuse values that the model does not take."""
    for name, value in fields.items():
        setattr(rollout, name, value)
    others = {field.name for field in Rollout._meta.concrete_fields} - set(fields)
    try:
        rollout.clean_fields(exclude=others)
    except ValidationError as error:
        name, messages = next(iter(error.message_dict.items()))
        why = _choices(name) or " ".join(messages)
        raise OperationError(f"{fields[name]!r} cannot be the {name.replace('_', ' ')}: {why}") from None


def _choices(name: str) -> str:
    choices = getattr(Rollout._meta.get_field(name), "choices", None) or []
    return f"choose {', '.join(str(choice) for choice, _ in choices)}." if choices else ""


def _sign(rollout: Rollout, reason: str, actor: AbstractBaseUser | None) -> None:
    """Date the next save, and write who and why into its history record."""
    if is_blank(reason):
        raise OperationError("Give a reason: whoever reads the history at night needs it.")
    # Times beside those of checks and incidents, which are the database's. simple-history reads these private names.
    rollout.updated_at = rollout._history_date = store.clock()  # type: ignore[attr-defined]  # noqa: SLF001
    rollout._history_user = actor  # type: ignore[attr-defined]  # noqa: SLF001 - simple-history's own way
    rollout._change_reason = reason.strip()  # type: ignore[attr-defined]  # noqa: SLF001


def _move(rollout: Rollout, percentage: Decimal, *, at: datetime | None = None) -> None:
    if percentage != rollout.percentage:
        rollout.percentage = percentage
        _reopen(rollout)
        _begin_stage(rollout, at=at)


def _reopen(rollout: Rollout) -> None:
    """End a completion: the new stage is judged, and its migrations are tracked if they were before."""
    rollout.stage = Stage.of(rollout.percentage)
    if not rollout.track_migrations:
        rollout.track_migrations = _untracked_by_completion(rollout)


def _untracked_by_completion(rollout: Rollout) -> bool:
    """Return whether the completion switched tracking off, and not a person: what migrates nothing stays untracked."""
    records = rollout.history.order_by("-version", "-history_id")
    tracked = records.filter(track_migrations=True).first()
    if tracked is None or tracked.stage == Stage.COMPLETE:
        return False
    untracked = records.filter(version__gt=tracked.version).last()
    return untracked is not None and untracked.stage == Stage.COMPLETE


def _begin_stage(rollout: Rollout, *, at: datetime | None = None) -> None:
    """Begin a stage: the judge forgets the telemetry before it."""
    rollout.stage_started_at = at or store.clock()
    fresh: dict[str, Any] = {
        "watermark": store.last_seq(),
        "checked_at": None,
        "carry": {},
        "began_at": Now(),
    }
    if not Watch.objects.filter(rollout=rollout).update(stage=F("stage") + 1, **fresh):
        Watch.objects.create(rollout=rollout, **fresh)


def _change(
    feature: str,
    apply: Callable[[Rollout], None],
    *,
    reason: str,
    actor: AbstractBaseUser | None,
    version: int | None = None,
    logged: bool = True,
) -> Rollout:
    with transaction.atomic():
        rollout = Rollout.objects.select_for_update().filter(feature=feature).first()
        if rollout is None:
            raise NoSuchRollout(feature)
        if version is not None and rollout.version != version:
            raise StaleEdit(rollout, changes_since(rollout, version))
        before = copy(rollout)
        _sign(rollout, reason, actor)
        apply(rollout)
        rollout.version += 1
        rollout.save()
        transaction.on_commit(configuration.forget)
        if logged:
            transaction.on_commit(partial(_log_way_back, before, rollout, reason.strip(), actor))
    return rollout


def _log_way_back(before: Rollout, now: Rollout, reason: str, actor: AbstractBaseUser | None) -> None:
    """Log a change that takes the feature away from everybody."""
    if now.emergency_stop and not before.emergency_stop:
        event = "rollout_stopped"
    elif before.percentage and not now.percentage:
        event = "rollout_rolled_back"
    elif before.enabled and not now.enabled:
        event = "rollout_disabled"
    else:
        return
    log_way_back(
        event,
        now.feature,
        before.percentage,
        now.percentage,
        reason=reason,
        user_id=actor.pk if actor else None,
    )


def log_way_back(
    event: str,
    feature: str,
    before: Decimal,
    after: Decimal,
    *,
    reason: str,
    user_id: int | None = None,
    incident: int | None = None,
) -> None:
    """Log a way back to legacy; ``incident`` is that of a rollback by the judge."""
    logger.warning(
        event,
        extra={
            "feature": feature,
            "from": float(before),
            "to": float(after),
            "incident": incident,
            "user_id": user_id,
            "reason": reason,
        },
    )


def changes_since(rollout: Rollout, version: int) -> list[dict[str, Any]]:
    """Return the changes after ``version``, oldest first: who, when, why, and each field before and after."""
    records = list(
        rollout.history.filter(version__gte=version).select_related("history_user").order_by("version")
    )
    return [
        {
            "version": new.version,
            "who": str(new.history_user) if new.history_user else "the system",
            "when": new.history_date,
            "why": new.history_change_reason,
            "fields": {
                change.field: (change.old, change.new)
                for change in new.diff_against(old, excluded_fields=["version", "updated_at"]).changes
            },
        }
        for old, new in pairwise(records)
    ]
