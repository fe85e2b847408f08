"""What the judge saw, decided and told, for reading: checks, incidents, alerts, telemetry. Nothing is changed here."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.timesince import timesince

from rollout import store
from rollout.api.telemetry import as_uuid
from rollout.models import Alert, Check, Incident, Rollout, TelemetryEvent
from rollout.presentation.outlook import Line, lines, records, share
from rollout.presentation.wording import ANOTHER_VERSION, DONE, read

COUNT_MAX = 1000  # rows that a list counts; nobody turns to page 11, and counting millions takes seconds
HORIZON = 500_000  # latest events that are searched by name or flag, which have no index; half a second
TIMELINE_MAX = 200  # lines of each kind on the page of an incident
BRIEF = 80  # characters in a list
EVENTS = (
    *("heartbeat", "migration_succeeded", "migration_failed", "validation_error", "console_warning"),
    *(
        "console_error",
        "kill_switch_used",
        "fund_create_attempt",
        "fund_create_success",
        "fund_create_failure",
    ),
    *("fund_create_conflict", "error", "telemetry_dropped"),
)


class CappedPaginator(Paginator):
    """Counts to 1,000 and no further."""

    @cached_property
    def count(self) -> int:
        rows: QuerySet[Any] = self.object_list.order_by()  # type: ignore[attr-defined]
        return rows[:COUNT_MAX].count()


class Record(admin.ModelAdmin):
    """A list and a page that show what was recorded."""

    paginator = CappedPaginator
    show_full_result_count = False
    actions = None
    sortable_by = ()

    class Media:
        css = {"all": ["rollout/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def readable(self, request: HttpRequest, object_id: str) -> Any:
        """Return the record to show a page of; ``None`` where Django's own view has to refuse."""
        record = self.get_object(request, object_id)
        if request.method in {"GET", "HEAD"} and record and self.has_view_permission(request, record):
            return record
        return None


class RolloutRecord(Record):
    """A record of one rollout, named beside it."""

    list_select_related = ["rollout"]

    @admin.display(description="rollout")
    def feature(self, record: Check | Incident | Alert) -> str:
        return record.rollout.feature


def page(owner: admin.ModelAdmin, request: HttpRequest, shown: Model, **extra: Any) -> TemplateResponse:
    """Return the page of one record, by the template of its model's name."""
    request.current_app = owner.admin_site.name
    opts = owner.opts
    context: dict[str, Any] = {
        **owner.admin_site.each_context(request),
        "opts": opts,
        "original": shown,
        "media": owner.media,
        str(opts.model_name): shown,
        **extra,
    }
    return TemplateResponse(request, f"admin/rollout/{opts.model_name}/page.html", context)


def signal_badge(signal: str) -> str:
    return render_to_string("admin/rollout/rollout/signal.html", {"signal": signal})


def moment(at: datetime) -> str:
    return format_html('<span class="rollout-when">{}</span>', f"{at:%Y-%m-%d %H:%M:%S}")


def brief(text: str) -> str:
    """Return as much of a text as a list has room for."""
    return text if len(text) <= BRIEF else text[: BRIEF - 1] + "…"


def pretty(document: Any) -> str:
    """Return JSON for people, as text."""
    return format_html("<pre>{}</pre>", json.dumps(document, indent=2, ensure_ascii=False))


# --- Checks -------------------------------------------------------------------------------------------------------


class CheckAdmin(RolloutRecord):
    list_display = ["when", "feature", "signal_badge", "score", "share", "done", "why"]
    list_filter = ["signal", "rollout"]
    ordering = ["-id"]

    @admin.display(description="at (UTC)")
    def when(self, check: Check) -> str:
        return moment(check.at)

    @admin.display(description="signal")
    def signal_badge(self, check: Check) -> str:
        return signal_badge(check.signal)

    @admin.display(description="percentage")
    def share(self, check: Check) -> str:
        return share(check)

    @admin.display(description="done")
    def done(self, check: Check) -> str:
        return DONE.get(check.action, "")

    @admin.display(description="why")
    def why(self, check: Check) -> str:
        reading = read(check)
        if reading is None:
            return f"{ANOTHER_VERSION} Open it to see what it stored."
        why = reading.why
        more = f" And {len(why) - 1} more." if len(why) > 1 else ""
        text = why[0] + more if why else "Nothing speaks against it."
        return format_html('<span class="rollout-why">{}</span>', text)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        check: Check | None = self.readable(request, object_id)
        if check is None:
            return super().change_view(request, object_id, form_url, extra_context)  # which refuses
        reading = read(check)
        if reading is None:
            return super().change_view(request, object_id, form_url, extra_context)  # as it is
        others = Check.objects.filter(rollout=check.rollout_id)
        return page(
            self,
            request,
            check,
            title=f"Check of {check.rollout.feature}",
            rollout=check.rollout,
            reading=reading,
            share=share(check),
            earlier=others.filter(id__lt=check.pk).order_by("-id").values_list("pk", flat=True).first(),
            later=others.filter(id__gt=check.pk).order_by("id").values_list("pk", flat=True).first(),
            policy=list(named(check.policy)),
            documents={
                "Decision": pretty(check.decision),
                "Evidence": pretty(check.evidence),
                "State before the check": pretty(check.state),
            },
        )


def named(policy: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each value of a policy with its name, as people write them."""
    for name, value in policy.items():
        text = value.removeprefix("PT").removesuffix("S") if isinstance(value, str) else value
        if isinstance(value, str) and value.startswith("PT"):
            text = f"{timedelta(seconds=float(text))} h"
        elif isinstance(value, list):
            text = ", ".join(map(str, value))
        yield name.replace("_", " ").capitalize(), str(text)


# --- Incidents ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of an incident's timeline."""

    at: datetime
    kind: str  # check, alert, change
    title: str
    texts: list[str] = field(default_factory=list)
    signal: str = ""
    link: str = ""


class IncidentAdmin(RolloutRecord):
    list_display = ["when", "feature", "share", "outcome", "reason"]
    list_filter = ["rolled_back", "rollout"]
    ordering = ["-tripped_at"]

    @admin.display(description="at (UTC)")
    def when(self, incident: Incident) -> str:
        return moment(incident.tripped_at)

    @admin.display(description="was at")
    def share(self, incident: Incident) -> str:
        return share(incident)

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
            return super().change_view(request, object_id, form_url, extra_context)  # which refuses
        return page(
            self,
            request,
            incident,
            title=f"Incident of {incident.rollout.feature}",
            original=f"{incident.rollout.feature}, {incident.tripped_at:%Y-%m-%d %H:%M}",
            rollout=incident.rollout,
            share=share(incident),
            outcome=self.outcome(incident),
            lasted=timesince(incident.began_at, incident.tripped_at),
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
    changes = records(rollout).filter(history_date__gte=incident.began_at)
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
    told = alert.kind.replace("_", " ")
    return Entry(
        at=alert.created_at,
        kind="alert",
        title=f"Alert by {alert.get_channel_display()}: {told}",
        texts=[delivery(alert)],
        link=reverse("admin:rollout_alert_change", args=[alert.pk]),
    )


def _changed(line: Line) -> Entry:
    what = ", ".join(map(str, line.differences)) or "nothing changed"
    return Entry(
        at=line.when, kind="change", title=f"{line.who}: {what}", texts=[line.why] if line.why else []
    )


# --- Alerts -------------------------------------------------------------------------------------------------------


def delivery(alert: Alert) -> str:
    """Say what became of an alert."""
    if alert.sent_at:
        attempts = "" if alert.attempts <= 1 else f", at attempt {alert.attempts}"
        return f"sent {alert.sent_at:%Y-%m-%d %H:%M:%S} UTC{attempts}"
    if alert.attempts:
        return f"not sent after {alert.attempts} attempts: {alert.error or 'no answer yet'}"
    return "waiting to be sent"


class DeliveryFilter(admin.SimpleListFilter):
    title = "delivery"
    parameter_name = "delivery"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("sent", "Sent"), ("failed", "Failed so far"), ("waiting", "Waiting")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Alert]) -> QuerySet[Alert]:
        match self.value():
            case "sent":
                return queryset.filter(sent_at__isnull=False)
            case "failed":
                return queryset.filter(sent_at=None, attempts__gt=0)
            case "waiting":
                return queryset.filter(sent_at=None, attempts=0)
        return queryset


class AlertAdmin(RolloutRecord):
    list_display = ["when", "feature", "told", "channel", "state"]
    list_filter = [DeliveryFilter, "channel", "rollout"]
    ordering = ["-id"]
    fields = ["when", "feature", "told", "channel", "state", "attempts", "error", "content", "key"]

    @admin.display(description="made at (UTC)")
    def when(self, alert: Alert) -> str:
        return moment(alert.created_at)

    @admin.display(description="about")
    def told(self, alert: Alert) -> str:
        return alert.kind.replace("_", " ")

    @admin.display(description="delivery")
    def state(self, alert: Alert) -> str:
        return delivery(alert)

    @admin.display(description="content")
    def content(self, alert: Alert) -> str:
        return pretty(alert.payload)


# --- Telemetry ----------------------------------------------------------------------------------------------------


class Recent(admin.SimpleListFilter):
    """A filter on a column without an index: it looks at the latest events only."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[TelemetryEvent]) -> QuerySet[TelemetryEvent]:
        value = self.value()
        return recent(queryset, **{self.parameter_name or "": value}) if value else queryset


class EventFilter(Recent):
    title = "event"
    parameter_name = "event"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in EVENTS]


class FlagFilter(Recent):
    title = "flag"
    parameter_name = "flag"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(feature, feature) for feature in Rollout.objects.values_list("feature", flat=True)]


def recent(events: QuerySet[TelemetryEvent], **condition: Any) -> QuerySet[TelemetryEvent]:
    """Return the latest events that meet a condition, without looking at all there are."""
    return events.filter(seq__gt=store.last_seq() - HORIZON, **condition)


class TelemetryEventAdmin(Record):
    list_display = ["when", "event", "ok", "flag", "variant", "client", "detail_shown"]
    list_filter = [EventFilter, FlagFilter]
    search_fields = ["client"]
    search_help_text = (
        "A client's id, as its browser shows it; or event:NAME or flag:FEATURE among the latest events"
    )
    ordering = ["-seq"]
    fields = [
        *("event", "category", "ok", "flag", "variant", "client", "session", "detail_whole"),
        *("arrived_at", "at", "lost", "seq", "id"),
    ]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[TelemetryEvent], search_term: str
    ) -> tuple[QuerySet[TelemetryEvent], bool]:
        """A client by the index; an event's name or a flag among the latest."""
        term = search_term.strip()
        if not term:
            return queryset, False
        column, _, value = term.partition(":")
        if column in {"event", "flag"} and value:
            return recent(queryset, **{column: value.strip()}), False
        return queryset.filter(client=as_uuid(term)), False

    @admin.display(description="arrived at (UTC)")
    def when(self, event: TelemetryEvent) -> str:
        return moment(event.arrived_at)

    @admin.display(description="detail")
    def detail_shown(self, event: TelemetryEvent) -> str:
        return brief(event.detail or "")

    @admin.display(description="detail")
    def detail_whole(self, event: TelemetryEvent) -> str:
        return format_html("<pre>{}</pre>", event.detail or "")
