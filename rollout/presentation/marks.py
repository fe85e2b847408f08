"""Marks on the time axis of the charts: when somebody promoted, rolled back, stopped or released a rollout."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from rollout.presentation.charts import Moment, position, utc
from rollout.units import percent

SYMBOLS = {"promotion": "▲", "rollback": "▼", "stop": "■", "release": "□"}


@dataclass(frozen=True, slots=True)
class Mark:
    x: str
    kind: str  # of SYMBOLS
    symbol: str
    note: str


def draw_marks(moments: Sequence[Moment], *, start: datetime, end: datetime) -> list[Mark]:
    """Return a mark for each change from ``start`` to ``end``."""
    span = (end - start).total_seconds()
    return [
        Mark(
            x=position((after.at - start).total_seconds() / span * 100),
            kind=kind,
            symbol=SYMBOLS[kind],
            note=note(before, after),
        )
        for before, after in pairwise(moments)
        if start <= after.at <= end and (kind := _kind(before, after))
    ]


def note(before: Moment | None, after: Moment) -> str:
    """Return when, what and who, as text: ``2026-08-11 12:00 UTC: promoted from 10 % to 50 %, by maria``."""
    who = f", by {after.who}" if after.who else ""
    return f"{utc(after.at)}: {_words(before, after)}{who}"


def _kind(before: Moment, after: Moment) -> str:
    """Return the kind of a change; empty for one that has no mark."""
    if before.emergency_stop != after.emergency_stop:
        return "stop" if after.emergency_stop else "release"
    if before.percentage == after.percentage:
        return ""
    return "promotion" if after.percentage > before.percentage else "rollback"


def _words(before: Moment | None, after: Moment) -> str:
    if before is None or not (kind := _kind(before, after)):
        return percent(after.percentage)
    if kind == "stop":
        return f"emergency stop, at {percent(after.percentage)}"
    if kind == "release":
        return f"emergency stop released, at {percent(after.percentage)}"
    verb = "promoted" if kind == "promotion" else "lowered" if after.percentage else "rolled back"
    return f"{verb} from {percent(before.percentage)} to {percent(after.percentage)}"
