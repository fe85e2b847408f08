"""The data of the charts on the operator's screen: the percentage and the judge's checks over time."""

from datetime import datetime, timedelta
from typing import Any

from django.db.models import Case, Count, ExpressionWrapper, FloatField, Max, Value, When
from django.db.models.functions import Extract, Floor

from rollout.conf import conf
from rollout.judge.scoring import Signal
from rollout.models import Check, Rollout
from rollout.presentation import charts
from rollout.units import percent

CHARTED_MAX = 500  # changes in the chart; more cannot be told apart


def chart_context(rollout: Rollout, span: timedelta | None, *, now: datetime) -> dict[str, Any]:
    """Return the charts of the percentage and of the checks, and a summary of each as text."""
    moments = [
        charts.Moment(
            at=line.history_date,
            percentage=float(line.percentage),
            enabled=line.enabled,
            on_hold=line.on_hold,
            emergency_stop=line.emergency_stop,
            note=f"{line.history_date:%Y-%m-%d %H:%M} UTC: {percent(line.percentage)}",
        )
        for line in reversed(rollout.history.order_by("-version", "-history_id")[:CHARTED_MAX])
    ]
    moments = moments or [
        charts.Moment(
            now, float(rollout.percentage), rollout.enabled, rollout.on_hold, rollout.emergency_stop
        )
    ]
    drawn = charts.draw(moments, now=now, since=now - span if span else None)
    points = chart_points(rollout, drawn.start, now)
    threshold = conf.policy.error_threshold
    return {
        "chart": drawn,
        "chart_words": charts.summary(moments),
        "checks": charts.draw_checks(points, threshold=threshold, start=drawn.start, end=now)
        if points
        else None,
    }


def chart_points(rollout: Rollout, start: datetime, end: datetime) -> list[charts.Point]:
    """Return the checks from ``start`` to ``end``, grouped as finely as they can be drawn."""
    width = (end - start).total_seconds() / charts.CELLS
    severity = Case(*(When(signal=signal, then=Value(place)) for place, signal in enumerate(Signal)))
    bucket = Floor(ExpressionWrapper(Extract("at", "epoch") / Value(width), output_field=FloatField()))
    rows = (
        Check.objects.filter(rollout=rollout, at__range=(start, end))
        .annotate(bucket=bucket)
        .values("bucket", "percentage")
        .annotate(last=Max("at"), worst=Max(severity), highest=Max("score"), checks=Count("*"))
        .order_by("last")
    )
    return [
        charts.Point(
            row["last"], list(Signal)[row["worst"]], row["highest"], float(row["percentage"]), row["checks"]
        )
        for row in rows
    ]
