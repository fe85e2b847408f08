"""Charts of a rollout over time, as shapes of an SVG without a viewBox: positions are percent of its box.

The charts need no script, and their text keeps its size on a phone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby, pairwise
from math import ceil
from statistics import median

from django.template.loader import render_to_string

from rollout.judge.events import ErrorClass
from rollout.judge.scoring import Signal, worst
from rollout.units import percent
from rollout.units import points as points_text

SHORTEST = timedelta(minutes=10)  # of the time axis, also for a new rollout
LABELS = 4  # times on the axis; more do not fit a phone
CELLS = 120  # of the signal strip; narrower ones cannot be seen on a phone
GAP = 3  # intervals without a check: longer ones are gaps in the strip
HEADROOM = 4 / 3  # of the threshold, so that its line is below the top of the chart
BAR_MIN = 2  # percent: the height of a low score's bar that can still be seen
APART = 13  # percent of a chart's height: labels that are closer would overlap
TOUCHING = 0.01  # percent: stretches that are closer than this touch
FEWEST = 2  # points of a line
# The lines of the score's chart: the score, and the failed events that it weighs.
SCORE = "score"
LINES = {
    SCORE: "Score",
    ErrorClass.MIGRATION: "Migration failures",
    ErrorClass.VALIDATION: "Validation errors",
    ErrorClass.DEFAULT: "Other errors",
    ErrorClass.WARNING: "Console warnings",
}
SCORE_MAX = 4  # times the threshold; higher bars are cut, so that one bad minute does not flatten the others


@dataclass(frozen=True, slots=True)
class Moment:
    """The state of a rollout from ``at`` on, and who put it there. ``note`` is the tooltip."""

    at: datetime
    percentage: float
    enabled: bool
    on_hold: bool
    emergency_stop: bool
    who: str = ""
    note: str = ""

    @property
    def state(self) -> str:
        """Return the most important state: ``stopped``, ``disabled``, ``hold`` or ``open``."""
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
    start: datetime
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
            x=position(x(moment.at)),
            width=position(x(until.at) - x(moment.at)),
            end=position(x(until.at)),
            y=position(100 - moment.percentage),
            height=position(moment.percentage),
            next_y=position(100 - until.percentage),
            state=moment.state,
            note=moment.note,
        )
        for moment, until in pairwise([*seen, _ending(seen[-1], now)])
    ]
    return Chart(start, steps, time_labels(start, span), sorted({step.state for step in steps} - {"open"}))


def _visible(moments: Sequence[Moment], start: datetime) -> list[Moment]:
    before = [moment for moment in moments if moment.at <= start]
    return [*before[-1:], *(moment for moment in moments if moment.at > start)]


def _ending(last: Moment, now: datetime) -> Moment:
    return Moment(now, last.percentage, last.enabled, last.on_hold, last.emergency_stop)


def time_labels(start: datetime, span: float) -> list[tuple[str, str, str]]:
    shape = "%H:%M" if span < 86_400 else "%b %d %H:%M" if span < 10 * 86_400 else "%b %d"
    ticks = [(part / (LABELS - 1), part) for part in range(LABELS)]
    return [
        (
            position(share * 100),
            f"{start + timedelta(seconds=span * share):{shape}}",
            "start" if part == 0 else "end" if part == LABELS - 1 else "middle",
        )
        for share, part in ticks
    ]


def utc(at: datetime) -> str:
    """Return a time as text, with its zone: ``2026-08-11 12:00 UTC``."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def position(number: float) -> str:
    """Return a position or a length in an SVG, in percent."""
    return f"{number:.3f}%"


def summary(moments: Iterable[Moment]) -> str:
    """Return the chart of the percentage as text, for screen readers."""
    values = [percent(moment.percentage) for moment in moments]
    climbed = [value for before, value in pairwise(["", *values]) if value != before]
    if len(climbed) > 8:
        climbed = [climbed[0], "…", *climbed[-6:]]
    return f"Percentage over time: {', '.join(climbed)}"


# --- Checks over time -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Point:
    """A check, or a group of them: the latest time, the worst signal, the highest score.

    A point without a signal has only a percentage, such as that after a rollback.
    """

    at: datetime
    signal: str  # rollout.judge.scoring.Signal, or ""
    score: int
    percentage: float
    checks: int = 1
    limit: float | None = None  # from which the check with the highest score was red; None: the threshold
    parts: Mapping[str, int] | None = None  # its points by class of error


@dataclass(frozen=True, slots=True)
class Cell:
    """One check, or several neighbours with their worst signal and highest score."""

    x: str
    width: str
    signal: str
    y: str  # of the bar of the score
    height: str
    note: str
    row: list[str]  # of the table: time, signal, percentage, limit, points of each of LINES


@dataclass(frozen=True, slots=True)
class Line:
    """The points of one of LINES over time."""

    name: str
    label: str
    segments: "list[Segment]"


@dataclass(frozen=True, slots=True)
class Level:
    """A stretch of time with one percentage."""

    x: str
    width: str
    end: str
    y: str
    height: str
    next_y: str  # empty for the last
    label: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a line that moves in steps."""

    x: str
    end: str
    y: str
    next_y: str  # empty where the line ends


@dataclass(frozen=True, slots=True)
class CheckChart:
    cells: list[Cell]
    levels: list[Level]
    times: list[tuple[str, str, str]]  # position, label, anchor
    signals: list[str]  # that occur, the best first
    limits: list[Segment]  # of the score
    limit: str  # the latest
    limit_y: str
    limits_between: str  # the lowest and the highest, where they differ
    top: str  # of the scale of scores; empty where the label of the limit is
    zero: str  # the same
    words: str
    lines: list[Line]  # none where no check has its points by class


def draw_checks(
    points: Sequence[Point], *, threshold: int, start: datetime | None = None, end: datetime | None = None
) -> CheckChart:
    """Draw checks (oldest first, at least one point) from ``start`` until ``end``, else from the first to the last."""
    interval = typical_interval([point.at for point in points])
    last = end or points[-1].at
    first = min(start or points[0].at - interval, last - SHORTEST)
    span = (last - first).total_seconds()
    seen = [point for point in points if first <= point.at <= last]
    highest = max((point.score for point in seen), default=0)
    limits = [_limit(point, threshold) for point in seen if point.signal] or [float(threshold)]
    drawn = list(LINES) if any(point.parts is not None for point in seen) else []
    highest = max([highest, *(_part(point, name) for point in seen for name in drawn)])
    scale = min(max(highest, max(limits) * HEADROOM), max(limits) * SCORE_MAX)

    def x(at: datetime) -> float:
        return min(max((at - first).total_seconds() / span * 100, 0), 100)

    cells, lines, tops = [], [], []
    for begins, group in _cells([point for point in seen if point.signal], interval, (last - first) / CELLS):
        signal = worst(Signal(point.signal) for point in group)
        top = max(group, key=lambda point: point.score)
        left, right = x(begins), x(group[-1].at)
        height = max(min(top.score / scale, 1) * 100, BAR_MIN if top.score else 0)
        cells.append(
            Cell(
                x=position(left),
                width=position(right - left),
                signal=signal.value,
                y=position(100 - height),
                height=position(height),
                note=_note(group, signal, top, threshold),
                row=_row(group, signal, top, threshold),
            )
        )
        tops.append((left, right, top))
        lines.append((left, right, 100 - _limit(top, threshold) / scale * 100))
    limit_y = 100 - limits[-1] / scale * 100
    highest_label = f"{scale:,.0f}" + ("+" if highest > scale else "")
    return CheckChart(
        cells=cells,
        levels=list(_levels(points, points[0].at - interval, last, x)),
        times=time_labels(first, span),
        signals=[signal.value for signal in Signal if any(cell.signal == signal for cell in cells)],
        limits=stepped(lines or [(0, 100, 100 - threshold / scale * 100)]),
        limit=f"{ceil(limits[-1]):,}",
        limit_y=position(limit_y),
        limits_between=between(limits),
        top=highest_label if limit_y >= APART else "",
        zero="0" if 100 - limit_y >= APART else "",
        words=summary_of_checks(seen),
        lines=[
            Line(
                name,
                LINES[name],
                stepped(
                    [(left, right, 100 - min(_part(top, name) / scale, 1) * 100) for left, right, top in tops]
                ),
            )
            for name in drawn
        ],
    )


def _part(point: Point, name: str) -> int:
    return point.score if name == SCORE else (point.parts or {}).get(name, 0)


def _limit(point: Point, threshold: int) -> float:
    return threshold if point.limit is None else point.limit


def between(limits: Sequence[float]) -> str:
    """Return the lowest and the highest limit as text: ``15 to 750``, or the only one."""
    low, high = ceil(min(limits)), ceil(max(limits))
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def stepped(lines: Sequence[tuple[float, float, float]]) -> list[Segment]:
    """Return a line through level stretches (left, right, y), joined where they touch."""
    joined: list[tuple[float, float, float]] = []
    for left, right, y in lines:
        if joined and joined[-1][2] == y and left - joined[-1][1] < TOUCHING:
            joined[-1] = joined[-1][0], right, y
        else:
            joined.append((left, right, y))
    return [
        Segment(
            x=position(left),
            end=position(right),
            y=position(y),
            next_y=position(after[2]) if after and after[0] - right < TOUCHING else "",
        )
        for (left, right, y), after in zip(joined, [*joined, None][1:], strict=True)
    ]


def chart_svg(points: Sequence[Point], *, threshold: int, title: str) -> str:
    """Return an SVG file of checks (oldest first, at least one), with a light and a dark scheme."""
    return render_to_string(
        "rollout/checks.svg", {"checks": draw_checks(points, threshold=threshold), "title": title}
    )


def summary_of_checks(points: Sequence[Point]) -> str:
    """Return a chart of checks as text: ``24 checks: worst signal red, highest score 50``."""
    judged = [point for point in points if point.signal]
    if not judged:
        return "No checks in this time"
    total = sum(point.checks for point in judged)
    many = "1 check" if total == 1 else f"{total:,} checks"
    signal = worst(Signal(point.signal) for point in judged)
    return f"{many}: worst signal {signal.label}, highest score {max(point.score for point in judged)}"


def typical_interval(times: Sequence[datetime]) -> timedelta:
    """Return the median time from check to check."""
    gaps = [later - earlier for earlier, later in pairwise(times) if later > earlier]
    return timedelta(seconds=median(gap.total_seconds() for gap in gaps)) if gaps else timedelta(minutes=1)


def _cells(
    points: Sequence[Point], interval: timedelta, width: timedelta
) -> Iterator[tuple[datetime, list[Point]]]:
    """Group checks that are too close to draw apart. Each group begins where the one before ends."""
    before: datetime | None = None
    for _, neighbours in groupby(points, key=lambda point: int(point.at.timestamp() / width.total_seconds())):
        group = list(neighbours)
        away = before is None or group[0].at - before > GAP * interval
        yield group[0].at - interval if away or before is None else before, group
        before = group[-1].at


def _levels(
    points: Sequence[Point], first: datetime, last: datetime, x: Callable[[datetime], float]
) -> Iterator[Level]:
    """Yield a level for each stretch of points with one percentage. It ends where the next begins."""
    stretches = [next(stretch) for _, stretch in groupby(points, key=lambda point: point.percentage)]
    begins = [first, *(point.at for point in stretches[1:])]
    for (here, there), begin in zip(pairwise([*stretches, None]), begins, strict=True):
        if here is None:
            break
        left, right = x(begin), x(there.at if there else last)
        yield Level(
            x=position(left),
            width=position(right - left),
            end=position(right),
            y=position(100 - here.percentage),
            height=position(here.percentage),
            next_y=position(100 - there.percentage) if there else "",
            label=percent(here.percentage),
        )


def _note(group: Sequence[Point], signal: Signal, top: Point, threshold: int) -> str:
    score = f"score {points_text(top.score)} (red from {ceil(_limit(top, threshold)):,})"
    parts = "".join(
        f"; {label.lower()} {points_text(many)}"
        for name, label in LINES.items()
        if name != SCORE and (many := _part(top, name))
    )
    if len(group) == 1:
        return f"{_time(group)}: {signal.label}, {score}, at {percent(group[0].percentage)}{parts}"
    return f"{_time(group)}, {len(group)} checks: worst {signal.label}, highest {score}{parts}"


def _time(group: Sequence[Point]) -> str:
    if utc(group[0].at) == utc(group[-1].at):
        return utc(group[0].at)
    return f"{group[0].at:%Y-%m-%d %H:%M} to {group[-1].at:%H:%M} UTC"


def _row(group: Sequence[Point], signal: Signal, top: Point, threshold: int) -> list[str]:
    """Return a line of the table: time, signal, percentage, limit, points of each of LINES."""
    limit = f"{ceil(_limit(top, threshold)):,}"
    return [
        _time(group).removesuffix(" UTC"),
        signal.label,
        percent(group[-1].percentage),
        limit,
        *(f"{_part(top, name):,}" for name in LINES),
    ]
