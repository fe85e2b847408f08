"""A rollout's percentage over time, as shapes of an SVG without a viewBox: positions are percent of its box.

Pure. The page needs no script for it, and its text keeps its size on a phone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

SHORTEST = timedelta(minutes=10)  # a rollout made a second ago still gets an axis
LABELS = 4  # times on the axis; more do not fit a phone


@dataclass(frozen=True, slots=True)
class Moment:
    """What held from ``at`` on. ``note`` says what happened, for whoever points at it."""

    at: datetime
    percentage: float
    enabled: bool
    on_hold: bool
    emergency_stop: bool
    note: str = ""

    @property
    def state(self) -> str:
        """Return the one thing that matters most: ``stopped``, ``disabled``, ``hold`` or ``open``."""
        if self.emergency_stop:
            return "stopped"
        if not self.enabled:
            return "disabled"
        return "hold" if self.on_hold else "open"


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch of time with one percentage and one state."""

    x: str
    width: str
    end: str
    y: str
    height: str
    next_y: str
    state: str
    note: str

    @property
    def reaches_browsers(self) -> bool:
        return self.state in {"open", "hold"}


@dataclass(frozen=True, slots=True)
class Chart:
    steps: list[Step]
    times: list[tuple[str, str, str]]  # position, label, anchor
    states: list[str]


def draw(moments: Sequence[Moment], *, now: datetime, since: datetime | None = None) -> Chart:
    """Draw ``moments`` (oldest first, at least one) from ``since``, or from the first, until ``now``."""
    start = min(max(since, moments[0].at) if since else moments[0].at, now - SHORTEST)
    span = (now - start).total_seconds()
    seen = _visible(moments, start)

    def x(at: datetime) -> float:
        return min(max((at - start).total_seconds() / span * 100, 0), 100)

    steps = [
        Step(
            x=_percent(x(moment.at)),
            width=_percent(x(until.at) - x(moment.at)),
            end=_percent(x(until.at)),
            y=_percent(100 - moment.percentage),
            height=_percent(moment.percentage),
            next_y=_percent(100 - until.percentage),
            state=moment.state,
            note=moment.note,
        )
        for moment, until in pairwise([*seen, _ending(seen[-1], now)])
    ]
    return Chart(steps, _times(start, span), sorted({step.state for step in steps} - {"open"}))


def _visible(moments: Sequence[Moment], start: datetime) -> list[Moment]:
    before = [moment for moment in moments if moment.at <= start]
    return [*before[-1:], *(moment for moment in moments if moment.at > start)]


def _ending(last: Moment, now: datetime) -> Moment:
    return Moment(now, last.percentage, last.enabled, last.on_hold, last.emergency_stop)


def _times(start: datetime, span: float) -> list[tuple[str, str, str]]:
    shape = "%H:%M" if span < 86_400 else "%b %d %H:%M" if span < 10 * 86_400 else "%b %d"
    ticks = [(part / (LABELS - 1), part) for part in range(LABELS)]
    return [
        (
            _percent(share * 100),
            f"{start + timedelta(seconds=span * share):{shape}}",
            "start" if part == 0 else "end" if part == LABELS - 1 else "middle",
        )
        for share, part in ticks
    ]


def _percent(number: float) -> str:
    return f"{number:.3f}%"


def summary(moments: Iterable[Moment]) -> str:
    """Say in words what the chart shows, for who cannot see it."""
    values = [f"{moment.percentage:g} %" for moment in moments]
    climbed = [value for before, value in pairwise(["", *values]) if value != before]
    if len(climbed) > 8:
        climbed = [climbed[0], "…", *climbed[-6:]]
    return f"Percentage over time: {', '.join(climbed)}"
