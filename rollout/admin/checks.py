"""The judge's checks: the list, and the page of one with all its inputs."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html

from rollout.admin.periods import period
from rollout.admin.records import SIGNALS, ReadOnlyRolloutAdmin, moment, page, pretty, signal_badge
from rollout.admin.telemetry import telemetry_of
from rollout.judge.policy import E_VALUES, setting
from rollout.models import Check, Incident, Rollout
from rollout.presentation.wording import ALL_GREEN, ANOTHER_VERSION, DONE, read
from rollout.units import duration, percent, ratio


def by_rollout(checks: QuerySet[Check], condition: dict[str, datetime]) -> QuerySet[Check]:
    """Return the checks that meet a condition on their time, by the index of rollout and time."""
    return checks.filter(rollout__in=list(Rollout.objects.values_list("pk", flat=True)), **condition)


class SignalOfCheck(admin.SimpleListFilter):
    title = "signal"
    parameter_name = "signal"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return SIGNALS

    def queryset(self, request: HttpRequest, queryset: QuerySet[Check]) -> QuerySet[Check]:
        return queryset.filter(signal=self.value()) if self.value() else queryset


class CheckAdmin(ReadOnlyRolloutAdmin):
    list_display = ["when", "feature", "signal_badge", "score", "share", "done", "why"]
    nothing = "No check so far: the judge checks a rollout every minute while its percentage is above 0."
    list_filter = [*period("at", by_rollout), SignalOfCheck, "rollout"]
    ordering = ["-id"]

    @admin.display(description="time (UTC)")
    def when(self, check: Check) -> str:
        return moment(check.at)

    @admin.display(description="signal")
    def signal_badge(self, check: Check) -> str:
        return signal_badge(check.signal)

    @admin.display(description="percentage")
    def share(self, check: Check) -> str:
        return percent(check.percentage)

    @admin.display(description="action")
    def done(self, check: Check) -> str:
        return DONE.get(check.action, "")

    @admin.display(description="why")
    def why(self, check: Check) -> str:
        reading = read(check)
        if reading is None:
            return f"{ANOTHER_VERSION} Open the check to see what was stored."
        why = reading.why
        more = f" And {len(why) - 1} more." if len(why) > 1 else ""
        text = why[0] + more if why else ALL_GREEN
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
            return super().change_view(request, object_id, form_url, extra_context)  # it refuses
        reading = read(check)
        if reading is None:
            return super().change_view(request, object_id, form_url, extra_context)  # the stored fields
        others = Check.objects.filter(rollout=check.rollout_id)
        return page(
            self,
            request,
            check,
            title=f"Check of {check.rollout.feature}",
            rollout=check.rollout,
            reading=reading,
            percentage=percent(check.percentage),
            earlier=others.filter(id__lt=check.pk).order_by("-id").values_list("pk", flat=True).first(),
            later=others.filter(id__gt=check.pk).order_by("id").values_list("pk", flat=True).first(),
            policy=list(settings_of(check.policy)),
            telemetry=telemetry_of(check),
            events=events_of(check),
            incident=Incident.objects.filter(check_made=check).first(),
            documents={
                "Decision": pretty(check.decision),
                "Evidence": pretty(check.evidence),
                "State before the check": pretty(check.state),
            },
        )


def events_of(check: Check) -> str:
    """Return which events a check judged, by their order of arrival."""
    if check.upto_seq <= check.after_seq:
        return "no events"
    return f"events {check.after_seq + 1:,} to {check.upto_seq:,}, in order of arrival"


def settings_of(policy: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the setting and the value of each field of a policy, as text."""
    for name, value in policy.items():
        match value:
            case str() if value.startswith("P"):  # ISO 8601, as the judge stores durations
                text = duration(msgspec.convert(value, timedelta))
            case list():
                text = ", ".join(map(str, value))
            case float() if name not in E_VALUES:
                text = ratio(value)
            case int() | float():
                text = f"{value:,.0f}"
            case _:
                text = str(value)
        yield setting(name), text
