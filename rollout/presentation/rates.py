"""Charts of the rates of a stage, each with its interval: migration success, clients with errors.

As those of :mod:`~rollout.presentation.charts`: shapes of an SVG without a viewBox, positions in percent of its box.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby, pairwise

from rollout.judge.policy import Policy
from rollout.presentation.charts import (
    APART,
    FEWEST,
    GAP,
    Segment,
    position,
    stepped,
    time_labels,
    typical_interval,
    utc,
)
from rollout.units import brief_ratio, clients, ratio, ratio_range

CELLS = 60  # in the width of a chart; there are two side by side
BOTTOMS = (0.9, 0.75, 0.5, 0.0)  # of the scale of success
TOPS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # of the scale of errors


@dataclass(frozen=True, slots=True)
class Estimate:
    """A rate of the stage up to a check, and the interval around it."""

    rate: float
    interval: tuple[float, float]
    clients: int

    @property
    def words(self) -> str:
        return f"{brief_ratio(self.rate)} of {clients(self.clients)} ({ratio_range(*self.interval)})"


@dataclass(frozen=True, slots=True)
class Sample:
    """The rates of a stage at one check; ``None`` where nobody was counted."""

    at: datetime
    stage: int
    success: Estimate | None
    errors: Estimate | None  # with the feature
    baseline: Estimate | None  # without it


@dataclass(frozen=True, slots=True)
class Band:
    """The interval at one check."""

    x: str
    width: str
    y: str
    height: str
    note: str


@dataclass(frozen=True, slots=True)
class Series:
    name: str
    style: str  # with, without
    bands: list[Band]
    line: list[Segment]
    latest: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A value on the axis of rates: the end of the scale, or a limit. Without a label where another is too close."""

    y: str
    label: str
    kind: str  # end, good, bad


@dataclass(frozen=True, slots=True)
class RateChart:
    title: str
    series: list[Series]
    marks: list[Mark]
    times: list[tuple[str, str, str]]  # position, label, anchor
    words: str
    interval: str
    limits: str
    rows: list[tuple[str, list[str]]]  # of the table: time, rate of each series


@dataclass(frozen=True, slots=True)
class _Plan:
    """A chart before it is drawn."""

    title: str
    series: list[tuple[str, str, Callable[[Sample], Estimate | None]]]  # name, style, its estimate
    low: float  # ends of the scale
    high: float
    marked: list[tuple[float, str]]  # limits and their kinds, the most important first
    interval: str
    limits: str


def draw_rates(
    samples: Sequence[Sample], *, start: datetime, end: datetime, policy: Policy
) -> list[RateChart]:
    """Draw the samples (oldest first) from ``start`` until ``end``; a metric with one sample or none has no chart."""
    return [
        _draw(plan, samples, start, end)
        for plan in (_success(samples, policy), _errors(samples, policy))
        if any(_is_drawn(samples, estimate) for _, _, estimate in plan.series)
    ]


def _is_drawn(samples: Sequence[Sample], estimate: Callable[[Sample], Estimate | None]) -> bool:
    return sum(estimate(sample) is not None for sample in samples) >= FEWEST


def _success(samples: Sequence[Sample], policy: Policy) -> _Plan:
    lowest = min((sample.success.rate for sample in samples if sample.success), default=1.0)
    good, bad = policy.migration_success_green, policy.migration_success_red
    return _Plan(
        "Migration success rate",
        [("with the feature", "with", lambda sample: sample.success)],
        low=next(bottom for bottom in BOTTOMS if bottom <= lowest),
        high=1.0,
        marked=[(bad, "bad"), (good, "good")],
        interval=f"{ratio(1 - policy.alpha)} interval",
        limits=f"green over {ratio(good)}, red under {ratio(bad)}",
    )


def _errors(samples: Sequence[Sample], policy: Policy) -> _Plan:
    estimates = [each for sample in samples for each in (sample.errors, sample.baseline) if each]
    highest = max((each.rate for each in estimates), default=0.0)
    good = policy.error_rate_good
    return _Plan(
        "Clients with errors",
        [
            ("without it", "without", lambda sample: sample.baseline),
            ("with the feature", "with", lambda sample: sample.errors),
        ],
        low=0.0,
        high=next(top for top in TOPS if top >= min(max(highest * 1.1, good * 1.1), 1)),
        marked=[(good, "good")],
        interval=f"{ratio(1 - policy.alpha)} interval",
        limits=f"healthy up to {ratio(good)}",
    )


def _draw(plan: _Plan, samples: Sequence[Sample], start: datetime, end: datetime) -> RateChart:
    span = (end - start).total_seconds()
    interval = typical_interval([sample.at for sample in samples])

    def x(at: datetime) -> float:
        return min(max((at - start).total_seconds() / span * 100, 0), 100)

    def y(rate: float) -> float:
        return 100 - min(max((rate - plan.low) / (plan.high - plan.low), 0), 1) * 100

    series = []
    drawn = [each for each in plan.series if _is_drawn(samples, each[2])]
    for name, style, estimate in drawn:
        stages = [list(_cells(stage, estimate, interval)) for stage in _by_stage(samples)]
        cells = [cell for stage in stages for cell in stage]
        series.append(
            Series(
                name=name,
                style=style,
                bands=[_band(cell, name, plan.limits, x, y) for cell in cells],
                line=[
                    part
                    for stage in stages
                    for part in stepped([(x(begin), x(at), y(seen.rate)) for begin, at, seen in stage])
                ],
                latest=cells[-1][2].words,
            )
        )
    return RateChart(
        title=plan.title,
        series=series,
        marks=list(_marks(plan, y)),
        times=time_labels(start, span),
        words=f"{plan.title}: " + "; ".join(f"{each.name} {each.latest}" for each in series),
        interval=plan.interval,
        limits=plan.limits,
        rows=[
            (f"{sample.at:%Y-%m-%d %H:%M}", [_said(estimate(sample)) for _, _, estimate in drawn])
            for sample in samples
            if any(estimate(sample) for _, _, estimate in drawn)
        ],
    )


def _said(estimate: Estimate | None) -> str:
    return estimate.words if estimate else "no data"


def _by_stage(samples: Sequence[Sample]) -> list[list[Sample]]:
    return [list(stage) for _, stage in groupby(samples, key=lambda sample: sample.stage)]


def _cells(
    samples: Sequence[Sample], estimate: Callable[[Sample], Estimate | None], interval: timedelta
) -> Iterator[tuple[datetime, datetime, Estimate]]:
    """Yield begin, end and estimate of each sample of a stage. It begins where the one before ends, but after a gap."""
    for before, sample in pairwise([None, *samples]):
        seen = estimate(sample) if sample else None
        if sample is None or seen is None:
            continue
        away = before is None or sample.at - before.at > GAP * interval
        yield sample.at - interval if away or before is None else before.at, sample.at, seen


def _band(
    cell: tuple[datetime, datetime, Estimate],
    name: str,
    limits: str,
    x: Callable[[datetime], float],
    y: Callable[[float], float],
) -> Band:
    begin, at, seen = cell
    low, high = seen.interval
    return Band(
        x=position(x(begin)),
        width=position(x(at) - x(begin)),
        y=position(y(high)),
        height=position(y(low) - y(high)),
        note=f"{utc(at)}: {name} {seen.words}; {limits}",
    )


def _marks(plan: _Plan, y: Callable[[float], float]) -> Iterator[Mark]:
    """Yield limits and ends of the scale, each with a label if there is room for it."""
    labelled: list[float] = []
    for rate, kind in [*plan.marked, (plan.low, "end"), (plan.high, "end")]:
        if not plan.low <= rate <= plan.high:
            continue
        height = y(rate)
        room = all(abs(height - other) >= APART for other in labelled)
        labelled += [height] * room
        yield Mark(position(height), ratio(rate) if room else "", kind)
