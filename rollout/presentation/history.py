"""The history of a rollout, in words: each change with what differed, when, who made it and why."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from django.db.models import F, OuterRef, QuerySet, Subquery

from rollout import people
from rollout.models import Rollout, Stage, Timeline
from rollout.units import percent

JUDGE = "judge: "  # prefix of the reasons that rollout.tick gives
THE_JUDGE = "the judge"
FIELDS = {
    "percentage": "percentage",
    "stage": "stage",
    "enabled": "enabled",
    "emergency_stop": "emergency stop",
    "on_hold": "on hold",
    "timeline": "timeline",
    "auto_rollback": "auto-rollback",
    "track_migrations": "migration tracking",
    "always": "always for",
    "never": "never for",
    "description": "description",
}


def field_text(field: str, value: Any) -> str:
    """Return a field's value as text."""
    match field:
        case "percentage":
            return percent(value)
        case "stage":
            return str(Stage(value).label).lower()
        case "timeline":
            return str(Timeline(value).label).partition(":")[0].lower()
        case "always" | "never":
            return people.written(value) or "nobody"
        case "description":
            return f"“{value}”" if value else "empty"
    return {True: "on", False: "off"}.get(value, str(value))


def is_shown(field: str, before: Any, after: Any) -> bool:
    """Return whether to show a change of a field. Of the stage only *complete*: the others follow the percentage."""
    return bool(before != after and (field != "stage" or Stage.COMPLETE in (before, after)))


@dataclass(frozen=True, slots=True)
class Difference:
    """A changed field: its label, and its value before and after, as text."""

    field: str
    before: str
    after: str

    @classmethod
    def between(cls, before: Any, after: Any) -> "list[Difference]":
        """Return the differences of two states of a rollout: rows, or records of its history."""
        return [
            cls(label, field_text(field, getattr(before, field)), field_text(field, getattr(after, field)))
            for field, label in FIELDS.items()
            if is_shown(field, getattr(before, field), getattr(after, field))
        ]

    def __str__(self) -> str:
        return f"{self.field} {self.before} → {self.after}"


@dataclass(frozen=True, slots=True)
class Line:
    """One change, as a line of the history."""

    version: int
    when: datetime
    who: str
    why: str
    differences: list[Difference]
    is_creation: bool
    percentage: str

    @property
    def is_by_judge(self) -> bool:
        return self.who == THE_JUDGE

    @classmethod
    def of(cls, record: Any, before: Any) -> "Line":
        why = record.history_change_reason or ""
        judge = record.history_user is None and why.startswith(JUDGE)
        return cls(
            version=record.version,
            when=record.history_date,
            who=str(record.history_user or (THE_JUDGE if judge else "the system")),
            why=why.removeprefix(JUDGE) if judge else why,
            differences=Difference.between(before, record) if before else [],
            is_creation=record.history_type == "+",
            percentage=percent(record.percentage),
        )


def with_differences(changes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the changes of :func:`rollout.operations.changes_since`, each with its differences as text."""
    return [
        {
            **change,
            "differences": [
                Difference(label, *(field_text(field, value) for value in change["fields"][field]))
                for field, label in FIELDS.items()
                if field in change["fields"] and is_shown(field, *change["fields"][field])
            ],
        }
        for change in changes
    ]


def history_of(rollout: Rollout) -> QuerySet[Any]:
    """Return the history of a rollout, newest first, with the users who made the changes."""
    newest_first: QuerySet[Any] = rollout.history.order_by("-version", "-history_id").select_related(
        "history_user"
    )
    return newest_first


def lines(newest_first: list[Any]) -> list[Line]:
    """Return a line for each record. The last has no differences: the record before it is not given."""
    return [Line.of(record, before) for record, before in pairwise([*newest_first, None])]


def latest_change_to(rollout: Rollout, **state: bool) -> Line | None:
    """Return the change that put a rollout into its present ``state``, such as ``on_hold=True``."""
    other = history_of(rollout).exclude(**state).first()
    first = history_of(rollout).filter(version__gt=other.version if other else 0, **state).last()
    return Line.of(first, None) if first else None


def rollbacks(rollouts: Iterable[Rollout]) -> dict[int, Line]:
    """Return the change that rolled back each rollout that is still at 0 %, by primary key, in one query."""
    above_0 = Rollout.history.filter(id=OuterRef("id"), percentage__gt=0).order_by("-version")
    changes = (
        Rollout.history.filter(id__in=[rollout.pk for rollout in rollouts], on_hold=True)
        .annotate(above_0=Subquery(above_0.values("version")[:1]))
        .filter(version=F("above_0") + 1)
        .select_related("history_user")
    )
    return {change.id: Line.of(change, None) for change in changes}
