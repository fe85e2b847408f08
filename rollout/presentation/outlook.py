"""Rollouts and their history in the words of operators."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

from django.db.models import QuerySet

from rollout.conf import conf
from rollout.models import Check, Rollout, Stage, Timeline
from rollout.presentation.wording import MISREAD
from rollout.units import duration, percent

JUDGE = "judge: "  # how the reasons begin that rollout.tick gives
MISSED = 3  # checks; then the judge is not just late
FIELDS = {
    "percentage": "percentage",
    "stage": "stage",  # follows the percentage: told only where it is more than that
    "enabled": "enabled",
    "emergency_stop": "emergency stop",
    "on_hold": "on hold",
    "timeline": "timeline",
    "auto_rollback": "auto-rollback",
    "track_migrations": "migration tracking",
    "description": "description",
}


def states(rollout: Rollout) -> list[tuple[str, str]]:
    """Return what is not as usual, the gravest first: a name for style sheets and one for people."""
    found = {
        ("stopped", "Stopped"): rollout.emergency_stop,
        ("disabled", "Disabled"): not rollout.enabled,
        ("hold", "On hold"): rollout.on_hold,
    }
    return [state for state, holds in found.items() if holds]


def next_step(percentage: Decimal) -> int | None:
    """Return the percentage that *promote* climbs to from ``percentage``, if there is one."""
    return next((step for step in conf.policy.steps if step > percentage), None)


def climbed(before: Decimal, after: Decimal) -> bool:
    return after == next_step(before)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What happens next, and when if nothing gets in the way. ``late``: the judge should have looked since."""

    sentences: list[str]
    due_at: datetime | None = None
    late: bool = False


def what_next(rollout: Rollout, check: Check | None, *, now: datetime) -> Outlook:
    """Say what happens next, and who has to do it. ``check`` is the latest of this stage, if there is one."""
    if not rollout.is_judged:
        return Outlook(_by_hand(rollout))
    if is_late(rollout, check, now=now):
        looked = f"{last_look(rollout, check):%Y-%m-%d %H:%M} UTC"
        return Outlook(
            [
                f"The judge has not looked since {looked}: is Celery beat running?",
                "Until it does, nothing climbs or rolls back by itself.",
            ],
            late=True,
        )
    if check is None:
        return Outlook([f"Not checked yet. The judge looks every {duration(conf.policy.check_interval)}."])
    try:
        return _foretold(rollout, check)
    except MISREAD:
        return Outlook(["Another version stored the last check. The next check tells what follows."])


def _foretold(rollout: Rollout, check: Check) -> Outlook:
    """Say what a check of this stage expects, unless the rollout was changed since."""
    if changed := _changed_since(rollout, check):
        return Outlook([f"{changed} The next check tells what follows."])
    due_at = check.decision["due_at"] and datetime.fromisoformat(check.decision["due_at"])
    return Outlook([check.decision["next"]], due_at if due_at and due_at > check.at else None)


def _by_hand(rollout: Rollout) -> list[str]:
    """Say what happens next to a rollout that is not judged: what somebody does."""
    if rollout.emergency_stop:
        return [
            "Everybody gets legacy until somebody releases it.",
            f"Release brings it back at {percent(rollout.percentage)}"
            + (", on hold." if rollout.on_hold else ".")
            + ("" if rollout.enabled else " It is disabled as well: nobody gets it until it is enabled."),
        ]
    if not rollout.enabled:
        return [
            f"Nobody gets the feature until it is enabled; then {percent(rollout.percentage)} of browsers get it."
        ]
    if rollout.stage == Stage.COMPLETE:
        return ["Complete: every browser gets the feature. Nothing is left to do."]
    step = next_step(rollout.percentage)
    if rollout.on_hold:
        return [
            f"Nobody gets the feature until somebody resumes it. After that, promote starts it at {step} %."
        ]
    return [f"Nobody gets the feature yet. Promote starts it at {step} %."]


def _changed_since(rollout: Rollout, check: Check) -> str:
    """Say what the check did not know: what it says about the future is out of date."""
    if rollout.on_hold != check.state["on_hold"]:
        return (
            f"It stays at {percent(rollout.percentage)} until somebody resumes it."
            if rollout.on_hold
            else "It is resumed."
        )
    if (rollout.timeline, rollout.auto_rollback) != (check.state["timeline"], check.state["auto_rollback"]):
        return "The configuration was changed."
    return ""


def not_judged(rollout: Rollout) -> str:
    """Say why the judge does not look at a rollout; empty if it does."""
    if rollout.is_judged:
        return ""
    if rollout.emergency_stop:
        return "it is stopped"
    if not rollout.enabled:
        return "it is disabled"
    return "it is complete" if rollout.percentage else "nobody gets the feature"


def last_look(rollout: Rollout, check: Check | None) -> datetime:
    """Return when the judge last looked at this stage, or when it could first have done so."""
    return max(check.at if check else rollout.stage_started_at, rollout.stage_started_at)


def is_late(rollout: Rollout, check: Check | None, *, now: datetime) -> bool:
    """Tell whether the judge has missed more than three checks. ``check`` is the latest of this stage."""
    if not rollout.is_judged:
        return False
    return now - last_look(rollout, check) > MISSED * conf.policy.check_interval


def outcome(name: str, rollout: Rollout) -> str:
    """Say what a button has done."""
    feature = rollout.feature
    said = {
        "hold": f"{feature} is on hold at {percent(rollout.percentage)}: nothing climbs until it is resumed.",
        "resume": f"{feature} is no longer on hold, at {percent(rollout.percentage)}.",
        "roll-back": f"{feature} is rolled back to 0 % and on hold: browsers go back to legacy.",
        "release": f"{feature} is released, at {percent(rollout.percentage)}"
        + (", on hold." if rollout.on_hold else "."),
        "complete": f"{feature} is complete: on for everybody, no longer judged, and migrations are not tracked.",
        "configure": f"The configuration of {feature} is changed.",
    }.get(name, f"{feature} is at {percent(rollout.percentage)}.")
    if rollout.emergency_stop:
        return f"{said} It is still stopped: everybody gets legacy."
    if not rollout.enabled:
        return f"{said} It is disabled: nobody gets it."
    return said if name in {"hold", "resume", "complete"} else f"{said} {poll()}"


def poll() -> str:
    return f"Open pages follow when they next ask, which they do every {conf.poll_interval} s."


def worded(field: str, value: Any) -> str:
    """Return a field's value as people say it."""
    match field:
        case "percentage":
            return percent(value)
        case "stage":
            return str(Stage(value).label).lower()
        case "timeline":
            return str(Timeline(value).label).partition(":")[0].lower()
        case "description":
            return f"“{value}”" if value else "empty"
    return {True: "on", False: "off"}.get(value, str(value))


def telling(field: str, before: Any, after: Any) -> bool:
    """Tell whether a change of a field is worth a line. The stage follows the percentage, but for the last."""
    return bool(before != after and (field != "stage" or Stage.COMPLETE in (before, after)))


@dataclass(frozen=True, slots=True)
class Difference:
    """A field, before and after, in words."""

    field: str
    before: str
    after: str

    @classmethod
    def between(cls, before: Any, after: Any) -> "list[Difference]":
        """Compare two states of a rollout, be they rows or records of its history."""
        return [
            cls(label, worded(field, getattr(before, field)), worded(field, getattr(after, field)))
            for field, label in FIELDS.items()
            if telling(field, getattr(before, field), getattr(after, field))
        ]

    def __str__(self) -> str:
        return f"{self.field} {self.before} → {self.after}"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the history."""

    version: int
    when: datetime
    who: str
    why: str
    differences: list[Difference]
    made: bool
    at: str

    @classmethod
    def of(cls, record: Any, before: Any) -> "Line":
        why = record.history_change_reason or ""
        judge = record.history_user is None and why.startswith(JUDGE)
        return cls(
            version=record.version,
            when=record.history_date,
            who=str(record.history_user or ("the judge" if judge else "the system")),
            why=why.removeprefix(JUDGE) if judge else why,
            differences=Difference.between(before, record) if before else [],
            made=record.history_type == "+",
            at=percent(record.percentage),
        )


def told(changes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put what changed meanwhile into words."""
    return [
        {
            **change,
            "differences": [
                Difference(label, *(worded(field, value) for value in change["fields"][field]))
                for field, label in FIELDS.items()
                if field in change["fields"] and telling(field, *change["fields"][field])
            ],
        }
        for change in changes
    ]


def records(rollout: Rollout) -> QuerySet[Any]:
    """Return the history of a rollout, newest first."""
    found: QuerySet[Any] = rollout.history.order_by("-version", "-history_id").select_related("history_user")
    return found


def lines(newest_first: list[Any]) -> list[Line]:
    """Return a line for each record; the last one's changes are unknown if it has a predecessor not given here."""
    return [Line.of(record, before) for record, before in pairwise([*newest_first, None])]


def since(rollout: Rollout, **state: bool) -> Line | None:
    """Return the change by which ``rollout`` came into ``state``."""
    other = records(rollout).exclude(**state).first()
    first = records(rollout).filter(version__gt=other.version if other else 0, **state).last()
    return Line.of(first, None) if first else None
