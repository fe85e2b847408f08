"""The page of alerts: kind, channel and delivery of each."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from rollout.admin.periods import period
from rollout.admin.records import ReadOnlyRolloutAdmin, moment, pretty
from rollout.conf import conf
from rollout.models import Alert

# By the stored value of AlertKind, whose module loads scipy: a web worker saves 50 MiB without it.
KIND_NAMES = {
    "red": "red check",
    "hold": "no data",
    "tripped": "breaker tripped",
    "rolled_back": "rolled back",
    "weather": "everybody has errors",
    "baseline": "errors without the feature only",
    "unsigned": "errors of too few networks",
    "completed": "rollout complete",
}


UNHEARD = (
    "No channel is set up: nobody will be told. Set ROLLOUT_WEBHOOK_URL or ROLLOUT_ALERT_EMAILS to send the alerts "
    "from then on."
)


def kind_name(alert: Alert) -> str:
    return KIND_NAMES.get(alert.kind, alert.kind)


def delivery(alert: Alert) -> str:
    """Return whether an alert was sent, was skipped, failed so far or waits, in words."""
    if alert.sent_at:
        attempts = "" if alert.attempts <= 1 else f", attempt {alert.attempts}"
        return f"sent {alert.sent_at:%Y-%m-%d %H:%M:%S} UTC{attempts}"
    if alert.skipped:
        return f"not sent: no {alert.get_channel_display()} was set up"
    if alert.attempts:
        return f"not sent after {alert.attempts} attempts: {alert.error or 'no answer yet'}"
    return "waiting to be sent"


class DeliveryFilter(admin.SimpleListFilter):
    title = "delivery"
    parameter_name = "delivery"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("sent", "Sent"),
            ("failed", "Failed so far"),
            ("waiting", "Waiting"),
            ("skipped", "Channel not set up"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Alert]) -> QuerySet[Alert]:
        match self.value():
            case "sent":
                return queryset.filter(sent_at__isnull=False)
            case "failed":
                return queryset.filter(sent_at=None, skipped=False, attempts__gt=0)
            case "waiting":
                return queryset.filter(sent_at=None, skipped=False, attempts=0)
            case "skipped":
                return queryset.filter(skipped=True)
        return queryset


class AlertAdmin(ReadOnlyRolloutAdmin):
    list_display = ["when", "feature", "sort", "channel", "state"]
    nothing = "No alert so far. There is one for a red check, a rollback, a completion, and a longer time without data."
    list_filter = [*period("created_at"), DeliveryFilter, "channel", "rollout"]
    ordering = ["-id"]
    fields = ["when", "feature", "sort", "channel", "state", "attempts", "error", "content", "key"]

    def notices(self) -> list[str]:
        return [] if conf.alert_channels else [UNHEARD]

    @admin.display(description="created at (UTC)")
    def when(self, alert: Alert) -> str:
        return moment(alert.created_at)

    @admin.display(description="kind")
    def sort(self, alert: Alert) -> str:
        return kind_name(alert)

    @admin.display(description="delivery")
    def state(self, alert: Alert) -> str:
        return delivery(alert)

    @admin.display(description="content")
    def content(self, alert: Alert) -> str:
        return pretty(alert.payload)
