"""The data of the charts on the operator's screen: the percentage, the judge's checks and their rates over time."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

from django.db.models import Case, Count, DecimalField, ExpressionWrapper, F, FloatField, Max, Value, When
from django.db.models.functions import Extract, Floor

from rollout.conf import conf
from rollout.judge.events import ErrorClass
from rollout.judge.policy import Policy
from rollout.judge.scoring import Signal
from rollout.models import Check, Rollout
from rollout.presentation import charts, marks, rates
from rollout.presentation.history import Line, history_of
from rollout.units import points

CHARTED_MAX = 500  # changes in the chart; more cannot be told apart
EPOCH_MAX = 10**11  # s; no time is later
# The score and the time of a check in one number, so that one aggregate finds the latest check with the highest score.
SCORE_THEN_TIME = ExpressionWrapper(
    F("score") * Value(Decimal(EPOCH_MAX)) + Extract("at", "epoch"),
    output_field=DecimalField(max_digits=30, decimal_places=6),
)
# Of the stored checks that stand for a stretch of time: these parts of their JSON.
STORED: dict[str, str] = {
    "limit": "decision__thresholds__score_red",
    "totals": "decision__carry__totals",
    "success": "decision__assessment__interval",
    "errors": "decision__assessment__error_interval",
    "baseline": "decision__assessment__baseline_error_interval",
    "threshold": "policy__error_threshold",
    "failed": "evidence__errors",
    **{error_class.value: f"policy__points_{error_class}" for error_class in ErrorClass},
}


def chart_context(rollout: Rollout, span: timedelta | None, *, now: datetime) -> dict[str, Any]:
    """Return the charts of the percentage, of the checks and of the rates, and a summary of each as text."""
    moments = _moments(rollout) or [
        charts.Moment(
            now, float(rollout.percentage), rollout.enabled, rollout.on_hold, rollout.emergency_stop
        )
    ]
    drawn = charts.draw(moments, now=now, since=now - span if span else None)
    checks, samples = chart_points(rollout, drawn.start, now)
    policy = conf.policy
    shown = marks.draw_marks(moments, start=drawn.start, end=now)
    many = sum(point.checks for point in checks)
    return {
        "chart": drawn,
        "chart_words": charts.summary(moments),
        "marks": shown,
        "mark_kinds": list({mark.kind: mark for mark in shown}.values()),
        "checks": charts.draw_checks(checks, threshold=policy.error_threshold, start=drawn.start, end=now)
        if many >= charts.FEWEST
        else None,
        "too_few_checks": 0 < many < charts.FEWEST,
        "score_lines": _labels(policy),
        "client_points": policy.points_client_max,
        "rates": rates.draw_rates(samples, start=drawn.start, end=now, policy=policy) if samples else [],
    }


def _moments(rollout: Rollout) -> list[charts.Moment]:
    """Return the states of a rollout, the oldest first, each with what changed as its note."""
    moments = [
        charts.Moment(
            at=record.history_date,
            percentage=float(record.percentage),
            enabled=record.enabled,
            on_hold=record.on_hold,
            emergency_stop=record.emergency_stop,
            who=Line.of(record, None).who,
        )
        for record in reversed(history_of(rollout)[:CHARTED_MAX])
    ]
    return [
        replace(after, note=marks.note(before, after))
        for before, after in pairwise([None, *moments])
        if after
    ]


def _labels(policy: Policy) -> dict[str, str]:
    """Return the lines of the score's chart by name, each with the points of an event."""
    return {
        name: label if name == charts.SCORE else f"{label} ({points(getattr(policy, f'points_{name}'))} each)"
        for name, label in charts.LINES.items()
    }


def chart_points(
    rollout: Rollout, start: datetime, end: datetime
) -> tuple[list[charts.Point], list[rates.Sample]]:
    """Return the checks from ``start`` to ``end``, grouped as finely as they can be drawn, and the rates of some.

    The groups are read from an index alone, months of them; then a check for each group, with its JSON.
    """
    width = (end - start).total_seconds() / charts.CELLS
    severity = Case(*(When(signal=signal, then=Value(place)) for place, signal in enumerate(Signal)))
    bucket = Floor(ExpressionWrapper(Extract("at", "epoch") / Value(width), output_field=FloatField()))
    groups = list(
        Check.objects.filter(rollout=rollout, at__range=(start, end))
        .annotate(bucket=bucket)
        .values("bucket", "percentage")
        .annotate(last=Max("at"), worst=Max(severity), top=Max(SCORE_THEN_TIME), checks=Count("*"))
        .order_by("last")
    )
    tops = {group["last"]: _score_and_time(group["top"]) for group in groups}
    stored = _stored(rollout, {*tops, *(at for _, at in tops.values())})
    drawn = [
        charts.Point(
            at=group["last"],
            signal=list(Signal)[group["worst"]],
            score=tops[group["last"]][0],
            percentage=float(group["percentage"]),
            checks=group["checks"],
            limit=_limit(stored.get(tops[group["last"]][1])),
            parts=_parts(stored.get(tops[group["last"]][1])),
        )
        for group in groups
    ]
    lasts = [stored[at] for at in tops if at in stored]
    return drawn, [_sample(check) for check in _thinned(lasts, (end - start).total_seconds() / rates.CELLS)]


def _score_and_time(number: Decimal) -> tuple[int, datetime]:
    """Return the two numbers of ``SCORE_THEN_TIME``."""
    score, epoch = divmod(number, EPOCH_MAX)
    return int(score), datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(epoch * 1_000_000))


def _stored(rollout: Rollout, times: Collection[datetime]) -> dict[datetime, dict[str, Any]]:
    """Return the parts of checks' JSON that the charts need, by the time of the check."""
    checks = Check.objects.filter(rollout=rollout, at__in=times).order_by("at")
    parts = {f"stored_{name}": F(path) for name, path in STORED.items()}
    return {check["at"]: dict(check) for check in checks.values("at", "stage", **parts)}


def _thinned(checks: Iterable[dict[str, Any]], width: float) -> list[dict[str, Any]]:
    """Return the last of the checks in each ``width`` seconds of a stage."""
    kept = {(check["stage"], int(check["at"].timestamp() / width)): check for check in checks}
    return list(kept.values())


def _limit(check: dict[str, Any] | None) -> float | None:
    """Return the score from which a check was red; checks of earlier versions have it in their policy."""
    return (check["stored_limit"] or check["stored_threshold"]) if check else None


def _parts(check: dict[str, Any] | None) -> dict[str, int]:
    """Return the points of a check by class of error."""
    if check is None:
        return {}
    failed = check["stored_failed"] or {}
    return {name: many * (check.get(f"stored_{name}") or 0) for name, many in failed.items()}


def _sample(check: dict[str, Any]) -> rates.Sample:
    totals = check["stored_totals"] or {}
    return rates.Sample(
        at=check["at"],
        stage=check["stage"],
        success=_success(totals, check["stored_success"]),
        errors=_share_of_clients(totals, "treatment", check["stored_errors"]),
        baseline=_share_of_clients(totals, "control", check["stored_baseline"]),
    )


def _success(totals: dict[str, int], interval: list[float] | None) -> rates.Estimate | None:
    if not interval:
        return None
    many = totals["succeeded"] + totals["failed"]
    return rates.Estimate(totals["succeeded"] / many, (interval[0], interval[1]), many)


def _share_of_clients(
    totals: dict[str, int], group: str, interval: list[float] | None
) -> rates.Estimate | None:
    """Return the share of clients with errors; one with an error and without a heartbeat counts too."""
    if not interval:
        return None
    errors = totals[f"{group}_errors"]
    many = max(totals[group], errors)
    return rates.Estimate(errors / many, (interval[0], interval[1]), many) if many else None
