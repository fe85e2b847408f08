"""The page of telemetry events: the list, its filters and its search."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from rollout import store
from rollout.admin.periods import period
from rollout.admin.records import ReadOnlyAdmin, brief, moment
from rollout.api.telemetry import as_uuid
from rollout.judge.events import Event
from rollout.models import Check, Rollout, TelemetryEvent
from rollout.units import duration

# Latest events that are searched by name, flag or sender, which have no index; half a second.
HORIZON = 500_000
SENDERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "server": ("The server itself", {"server": True}),
    "ticket": ("A signed-in user, by a ticket", {"server": False, "signer__isnull": False}),
    "network": ("Anybody, without a ticket", {"server": False, "signer__isnull": True}),
}


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


class SenderFilter(admin.SimpleListFilter):
    title = "sender"
    parameter_name = "from"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(sender, says) for sender, (says, _) in SENDERS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[TelemetryEvent]) -> QuerySet[TelemetryEvent]:
        _, condition = SENDERS.get(self.value() or "", ("", None))
        return recent_events(queryset, **condition) if condition else queryset


def recent_events(events: QuerySet[TelemetryEvent], **condition: Any) -> QuerySet[TelemetryEvent]:
    """Return the latest events that meet a condition, without reading the whole table."""
    return events.filter(seq__gt=store.last_seq() - HORIZON, **condition)


def telemetry_of(check: Check) -> str:
    """Return the address of the list of the events that a check judged."""
    return f"{reverse('admin:rollout_telemetryevent_changelist')}?q=check:{check.pk}"


def events_of_check(events: QuerySet[TelemetryEvent], number: str) -> QuerySet[TelemetryEvent]:
    """Return the events that arrived for a check, of its rollout or of none."""
    small = number.isascii() and number.isdecimal() and len(number) < 19
    check = Check.objects.select_related("rollout").filter(pk=int(number)).first() if small else None
    if check is None:
        return events.none()
    return events.filter(
        Q(flag=check.rollout.feature) | Q(flag=None), seq__gt=check.after_seq, seq__lte=check.upto_seq
    )


def among_recent(events: QuerySet[TelemetryEvent], condition: dict[str, Any]) -> QuerySet[TelemetryEvent]:
    return recent_events(events, **condition)


class TelemetryEventAdmin(ReadOnlyAdmin):
    list_display = ["when", "event", "outcome", "flag", "variant", "sender", "client", "detail_shown"]
    nothing = "No event so far: browsers send them to /api/telemetry once a page loads the telemetry module."
    list_filter = [*period("arrived_at", among_recent), EventFilter, FlagFilter, SenderFilter]
    search_fields = ["client"]
    search_help_text = "Client id, or name:value"
    hint = (
        "Search for a client's id, as its browser shows it; among the latest events for event:NAME, flag:FEATURE, "
        "from:server, from:ticket or from:network; or for the events of a check, check:NUMBER."
    )
    ordering = ["-seq"]
    fields = [
        *("event", "category", "outcome", "flag", "variant", "sender", "client", "session", "detail_whole"),
        *("when", "sent_after", "browser_time", "lost_events", "signer", "network", "number", "id"),
    ]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[TelemetryEvent], search_term: str
    ) -> tuple[QuerySet[TelemetryEvent], bool]:
        """Find a client by its index, or an event's name, a flag or a sender among the latest events."""
        term = search_term.strip()
        if not term:
            return queryset, False
        column, _, value = term.partition(":")
        if column in {"event", "flag"} and value:
            return recent_events(queryset, **{column: value.strip()}), False
        if column == "check":
            return events_of_check(queryset, value.strip()), False
        if column == "from" and value.strip() in SENDERS:
            return recent_events(queryset, **SENDERS[value.strip()][1]), False
        return queryset.filter(client=as_uuid(term)), False

    @admin.display(description="arrived at (UTC)")
    def when(self, event: TelemetryEvent) -> str:
        return moment(event.arrived_at)

    @admin.display(description="outcome")
    def outcome(self, event: TelemetryEvent) -> str:
        return "ok" if event.ok else "failed"

    @admin.display(description="sent after")
    def sent_after(self, event: TelemetryEvent) -> str:
        return duration(timedelta(seconds=event.age))

    @admin.display(description="at, by the browser's clock (UTC)")
    def browser_time(self, event: TelemetryEvent) -> str | None:
        return moment(event.at) if event.at else None

    @admin.display(description="events lost so far")
    def lost_events(self, event: TelemetryEvent) -> str:
        return f"{event.lost:,}"

    @admin.display(description="number, in order of arrival")
    def number(self, event: TelemetryEvent) -> str:
        return f"{event.seq:,}"

    @admin.display(description="sender")
    def sender(self, event: TelemetryEvent) -> str:
        """Return whose word the event is, and so how much it counts."""
        if event.server:
            return "the server"
        if event.signer:
            return "a user's ticket"
        return f"no ticket, network {event.network}" if event.network else "no ticket"

    @admin.display(description="detail")
    def detail_shown(self, event: TelemetryEvent) -> str:
        return brief(event.detail or "")

    @admin.display(description="detail")
    def detail_whole(self, event: TelemetryEvent) -> str:
        return format_html("<pre>{}</pre>", event.detail or "")
