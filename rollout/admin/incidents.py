"""Incidents: the list, and the page of one as a timeline of checks, alerts and changes."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Q, QuerySet
from django.forms import Script
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.http import urlencode

from rollout.admin.alerts import delivery, kind_name
from rollout.admin.periods import period
from rollout.admin.postmortem import NoteForm, add_note, markdown, notes_of
from rollout.admin.records import ReadOnlyRolloutAdmin, moment, page
from rollout.admin.telemetry import telemetry_of
from rollout.models import Alert, Check, Deployment, Incident
from rollout.presentation.history import Line, history_of, lines
from rollout.presentation.wording import ANOTHER_VERSION, read, sentence
from rollout.units import duration, percent

MAY_NOTE = "rollout.operate_rollout"
DEPLOYED_BEFORE_MAX = timedelta(days=7)  # an older deployment is rarely the cause
TIMELINE_MAX = 200  # lines of each kind on the page of an incident


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of an incident's timeline."""

    at: datetime
    kind: str  # check, alert, change, note
    title: str
    texts: list[str] = field(default_factory=list)
    signal: str = ""
    link: str = ""


class OutcomeFilter(admin.SimpleListFilter):
    title = "outcome"
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("rolled-back", "Rolled back"), ("advised", "Not rolled back")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Incident]) -> QuerySet[Incident]:
        outcome = self.value()
        return queryset.filter(rolled_back=outcome == "rolled-back") if outcome else queryset


class IncidentAdmin(ReadOnlyRolloutAdmin):
    class Media:
        js = [Script("rollout/admin/copy.js", type="module")]

    list_display = ["when", "feature", "share", "outcome", "why"]
    nothing = "No incident so far: no rollout had three red checks in a row."
    list_filter = [*period("tripped_at"), OutcomeFilter, "rollout"]
    ordering = ["-tripped_at"]

    @admin.display(description="time (UTC)")
    def when(self, incident: Incident) -> str:
        return moment(incident.tripped_at)

    @admin.display(description="percentage")
    def share(self, incident: Incident) -> str:
        return percent(incident.percentage)

    @admin.display(description="outcome")
    def outcome(self, incident: Incident) -> str:
        return "rolled back" if incident.rolled_back else "not rolled back: auto-rollback was off"

    @admin.display(description="reason")
    def why(self, incident: Incident) -> str:
        return format_html('<span class="rollout-why">{}</span>', sentence(incident.reason))

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
        return self.incident_page(request, incident, form=NoteForm())

    def incident_page(self, request: HttpRequest, incident: Incident, *, form: NoteForm) -> TemplateResponse:
        reading = read(incident.check_made) if incident.check_made else None
        why = reading.why if reading else [incident.reason]
        entries, facts = timeline(incident), list(facts_of(incident))
        title = f"{incident.rollout.feature}: {self.outcome(incident)}"
        return page(
            self,
            request,
            incident,
            title=f"Incident of {incident.rollout.feature}",
            original=f"{incident.rollout.feature}, {incident.tripped_at:%Y-%m-%d %H:%M} UTC",
            rollout=incident.rollout,
            outcome=self.outcome(incident),
            facts=facts,
            why=why,
            links=links_of(incident, request.user),
            deployment=deployment_before(incident)
            if request.user.has_perm("rollout.view_deployment")
            else None,
            notes=notes_of(incident),
            form=form if request.user.has_perm(MAY_NOTE) else None,
            entries=entries,
            markdown=markdown(title, facts, why, entries),
        )

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.note)
        return [path("<int:pk>/note/", view, name="rollout_incident_note"), *super().get_urls()]

    def note(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Add a note to an incident."""
        if not (self.has_view_permission(request) and request.user.has_perm(MAY_NOTE)):
            raise PermissionDenied
        incident = get_object_or_404(Incident.objects.select_related("rollout", "check_made"), pk=pk)
        form = NoteForm(request.POST if request.method == "POST" else None)
        if not form.is_bound:  # such as the redirect after signing in again
            self.message_user(request, "No note was added: write it on this page.", messages.WARNING)
        if form.is_valid():
            try:
                add_note(incident, by=request.user.get_username(), text=form.cleaned_data["text"])
                return redirect(f"{self.admin_site.name}:rollout_incident_change", incident.pk)
            except ValidationError as error:
                form.add_error("text", error)
        return self.incident_page(request, incident, form=form)


def facts_of(incident: Incident) -> Iterator[tuple[str, str]]:
    yield "First red check", f"{incident.began_at:%Y-%m-%d %H:%M} UTC"
    yield "Breaker tripped", f"{incident.tripped_at:%Y-%m-%d %H:%M} UTC"
    yield "Red for", duration(incident.tripped_at - incident.began_at)
    yield "Percentage", percent(incident.percentage)


def links_of(incident: Incident, user: Any) -> list[tuple[str, str]]:
    """Return the pages that an incident leads to, of those that the user may see."""
    alerts = reverse("admin:rollout_alert_changelist")
    links = [
        ("rollout", "Rollout", reverse("admin:rollout_rollout_change", args=[incident.rollout_id])),
        ("alert", "Alerts", f"{alerts}?{urlencode({'rollout__id__exact': incident.rollout_id})}"),
    ]
    if check := incident.check_made:
        links += [
            ("check", "Last red check", reverse("admin:rollout_check_change", args=[check.pk])),
            ("telemetryevent", "Its telemetry", telemetry_of(check)),
        ]
    return [(label, address) for model, label, address in links if user.has_perm(f"rollout.view_{model}")]


def deployment_before(incident: Incident) -> Deployment | None:
    """Return the latest deployment before the breaker tripped, if one is less than a week older."""
    week = (incident.tripped_at - DEPLOYED_BEFORE_MAX, incident.tripped_at)
    return Deployment.objects.filter(deployed_at__range=week).order_by("-deployed_at").first()


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
    entries = [
        *map(_checked, checks),
        *map(_alerted, alerts),
        *map(_changed, lines_of(changes)),
        *(
            Entry(note["at"], "note", f"Note by {note['by']}", note["text"].splitlines())
            for note in notes_of(incident)
        ),
    ]
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
