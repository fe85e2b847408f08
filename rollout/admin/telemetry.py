"""The page of telemetry events: the list, its filters and its search."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

from rollout import store
from rollout.admin.records import ReadOnlyAdmin, brief, moment
from rollout.api.telemetry import as_uuid
from rollout.judge.events import Event
from rollout.models import Rollout, TelemetryEvent

HORIZON = 500_000  # latest events that are searched by name or flag, which have no index; half a second


class RecentFilter(admin.SimpleListFilter):
    """A filter on a column without an index: it reads the latest events only."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[TelemetryEvent]) -> QuerySet[TelemetryEvent]:
        value = self.value()
        return recent_events(queryset, **{self.parameter_name or "": value}) if value else queryset


class EventFilter(RecentFilter):
    title = "event"
    parameter_name = "event"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(event.value, event.value) for event in Event]


class FlagFilter(RecentFilter):
    title = "flag"
    parameter_name = "flag"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(feature, feature) for feature in Rollout.objects.values_list("feature", flat=True)]


def recent_events(events: QuerySet[TelemetryEvent], **condition: Any) -> QuerySet[TelemetryEvent]:
    """Return the latest events that meet a condition, without reading the whole table."""
    return events.filter(seq__gt=store.last_seq() - HORIZON, **condition)


class TelemetryEventAdmin(ReadOnlyAdmin):
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
        """Find a client by its index, or an event's name or a flag among the latest events."""
        term = search_term.strip()
        if not term:
            return queryset, False
        column, _, value = term.partition(":")
        if column in {"event", "flag"} and value:
            return recent_events(queryset, **{column: value.strip()}), False
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
