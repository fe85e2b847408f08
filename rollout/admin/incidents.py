"""Incidents: the list, and the page of one as a timeline of checks, alerts and changes."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from rollout.admin.alerts import delivery, kind_name
from rollout.admin.periods import period
from rollout.admin.records import ReadOnlyRolloutAdmin, moment, page
from rollout.models import Alert, Check, Incident
from rollout.presentation.history import Line, history_of, lines
from rollout.presentation.wording import ANOTHER_VERSION, read
from rollout.units import duration, percent

TIMELINE_MAX = 200  # lines of each kind on the page of an incident


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of an incident's timeline."""

    at: datetime
    kind: str  # check, alert, change
    title: str
    texts: list[str] = field(default_factory=list)
    signal: str = ""
    link: str = ""


class IncidentAdmin(ReadOnlyRolloutAdmin):
    list_display = ["when", "feature", "share", "outcome", "reason"]
    nothing = "No incident so far: no rollout had three red checks in a row."
    list_filter = [*period("tripped_at"), "rolled_back", "rollout"]
    ordering = ["-tripped_at"]

    @admin.display(description="at (UTC)")
    def when(self, incident: Incident) -> str:
        return moment(incident.tripped_at)

    @admin.display(description="percentage")
    def share(self, incident: Incident) -> str:
        return percent(incident.percentage)

    @admin.display(description="outcome")
    def outcome(self, incident: Incident) -> str:
        return "rolled back" if incident.rolled_back else "only advised: auto-rollback was off"

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        incident: Incident | None = self.readable(request, object_id)
        if incident is None:
            return super().change_view(request, object_id, form_url, extra_context)  # it refuses
        return page(
            self,
            request,
            incident,
            title=f"Incident of {incident.rollout.feature}",
            original=f"{incident.rollout.feature}, {incident.tripped_at:%Y-%m-%d %H:%M}",
            rollout=incident.rollout,
            percentage=percent(incident.percentage),
            outcome=self.outcome(incident),
            lasted=duration(incident.tripped_at - incident.began_at),
            check=incident.check_made,
            reading=read(incident.check_made) if incident.check_made else None,
            entries=timeline(incident),
        )


def timeline(incident: Incident) -> list[Entry]:
    """Return what happened from the first red check on, up to the next incident: checks, alerts, changes."""
    rollout = incident.rollout
    later = (
        Incident.objects.filter(rollout=rollout, began_at__gt=incident.began_at).order_by("began_at").first()
    )
    until = Q(created_at__lt=later.began_at) if later else Q()
    checks = Check.objects.filter(
        rollout=rollout, stage=incident.stage, at__range=(incident.began_at, incident.tripped_at)
    ).order_by("-id")[:TIMELINE_MAX]
    alerts = Alert.objects.filter(
        until, rollout=rollout, created_at__gte=incident.began_at, kind__in=["red", "tripped", "rolled_back"]
    ).order_by("id")[:TIMELINE_MAX]
    changes = history_of(rollout).filter(history_date__gte=incident.began_at)
    if later:
        changes = changes.filter(history_date__lt=later.began_at)
    entries = [*map(_checked, checks), *map(_alerted, alerts), *map(_changed, lines_of(changes))]
    return sorted(entries, key=lambda entry: entry.at)


def lines_of(changes: QuerySet[Any]) -> list[Line]:
    """Return the oldest changes as lines, each with what it changed."""
    oldest = list(changes.reverse()[:TIMELINE_MAX])
    if not oldest:
        return []
    before = oldest[0].instance.history.filter(version__lt=oldest[0].version).order_by("-version").first()
    shown = lines([*reversed(oldest), *([before] if before else [])])
    return shown[: len(oldest)]


def _checked(check: Check) -> Entry:
    reading = read(check)
    return Entry(
        at=check.at,
        kind="check",
        title=f"Check: score {check.score}" + (f". {reading.action}" if reading and reading.action else ""),
        texts=reading.why if reading else [ANOTHER_VERSION],
        signal=check.signal,
        link=reverse("admin:rollout_check_change", args=[check.pk]),
    )


def _alerted(alert: Alert) -> Entry:
    return Entry(
        at=alert.created_at,
        kind="alert",
        title=f"Alert by {alert.get_channel_display()}: {kind_name(alert)}",
        texts=[delivery(alert)],
        link=reverse("admin:rollout_alert_change", args=[alert.pk]),
    )


def _changed(line: Line) -> Entry:
    nothing = f"created at {line.percentage}" if line.is_creation else "nothing changed"
    what = ", ".join(map(str, line.differences)) or nothing
    return Entry(
        at=line.when, kind="change", title=f"{line.who}: {what}", texts=[line.why] if line.why else []
    )
