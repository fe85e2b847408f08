"""The order of the list of rollouts, trouble first, and its filters by signal and state."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ORDER_VAR, ChangeList
from django.db.models import Case, IntegerField, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.functions import Greatest, Now
from django.http import HttpRequest

from rollout.admin.records import SIGNALS
from rollout.conf import conf
from rollout.judge.scoring import Signal
from rollout.models import Check, Stage
from rollout.presentation.outlook import MISSED_CHECKS

LIVE = Q(enabled=True, emergency_stop=False, percentage__gt=0)
JUDGED = LIVE & ~Q(stage=Stage.COMPLETE)
STATES = {  # by their names in the filter; a rollout may have several
    "stopped": ("Stopped", Q(emergency_stop=True)),
    "rolled-back": ("Rolled back", Q(percentage=0, on_hold=True)),
    "hold": ("On hold", Q(on_hold=True)),
    "disabled": ("Disabled", Q(enabled=False)),
    "live": ("Live", JUDGED),
    "complete": ("Complete", LIVE & Q(stage=Stage.COMPLETE)),
    "off": ("Off", Q(percentage=0)),
}
NOT_JUDGED, NOT_CHECKED = "none", "new"


def with_signals(rollouts: QuerySet[Any]) -> QuerySet[Any]:
    """Add the signal of the present stage: an index and a row of checks for each rollout."""
    newest = Check.objects.filter(rollout=OuterRef("pk")).order_by("-id")
    current = Check.objects.filter(pk=OuterRef("newest_check"), stage=OuterRef("watch__stage"))
    found: QuerySet[Any] = rollouts.annotate(newest_check=Subquery(newest.values("pk")[:1])).annotate(
        current_signal=Subquery(current.values("signal")[:1]),
        checked_at=Greatest("stage_started_at", Subquery(newest.values("at")[:1])),
    )
    return found


def by_trouble(rollouts: QuerySet[Any]) -> QuerySet[Any]:
    """Add ``trouble``, the smaller the sooner a person should look; the rollouts need their signals."""
    missed = Now() - Value(MISSED_CHECKS * conf.policy.check_interval)
    gravest_first = [
        JUDGED & Q(current_signal=Signal.RED),
        JUDGED & Q(checked_at__lt=missed),
        Q(emergency_stop=True),
        STATES["rolled-back"][1],
        JUDGED & Q(current_signal=Signal.NO_DATA),
        JUDGED & Q(current_signal=Signal.YELLOW),
        JUDGED & Q(on_hold=True),
        JUDGED,
        Q(enabled=False),
        Q(percentage=0),
    ]
    places = [When(condition, then=Value(place)) for place, condition in enumerate(gravest_first)]
    trouble = Case(*places, default=Value(len(places)), output_field=IntegerField())
    ranked: QuerySet[Any] = rollouts.annotate(trouble=trouble)
    return ranked


class TroubleFirst(ChangeList):
    """A list in this order until a person clicks a column. By the page's own ordering, other lists order filters."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        """Add signal and trouble, which the page of one rollout does without."""
        self.root_queryset = by_trouble(with_signals(self.root_queryset))
        found: QuerySet[Any] = super().get_queryset(request, exclude_parameters)
        return found

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        return super().get_ordering(request, queryset) if ORDER_VAR in self.params else ["trouble", "feature"]

    def get_ordering_field_columns(self) -> Any:
        """Mark no column as sorted until a person has clicked one."""
        return super().get_ordering_field_columns() if ORDER_VAR in self.params else {}


class SignalFilter(admin.SimpleListFilter):
    title = "signal"
    parameter_name = "signal"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [*SIGNALS, (NOT_CHECKED, "Not checked yet"), (NOT_JUDGED, "Not judged")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case None:
                return queryset
            case signal if signal == NOT_JUDGED:
                return queryset.exclude(JUDGED)
            case signal:
                return queryset.filter(JUDGED, current_signal=None if signal == NOT_CHECKED else signal)


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, label) for name, (label, _) in STATES.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        state = STATES.get(self.value() or "")
        return queryset.filter(state[1]) if state else queryset
