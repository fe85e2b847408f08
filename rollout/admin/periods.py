"""The filter by time: the last hour, day, week or month, or any days from and to."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

SPANS = {
    "1h": ("Last hour", timedelta(hours=1)),
    "24h": ("Last 24 hours", timedelta(hours=24)),
    "7d": ("Last 7 days", timedelta(days=7)),
    "30d": ("Last 30 days", timedelta(days=30)),
}
SINCE, UNTIL = "since", "until"
Narrow = Callable[[QuerySet[Any], dict[str, datetime]], QuerySet[Any]]


def _filtered(rows: QuerySet[Any], condition: dict[str, datetime]) -> QuerySet[Any]:
    return rows.filter(**condition)


class PeriodFilter(admin.ListFilter):
    """Rows from ``since`` (a span such as ``24h``, or a day) to the end of the day ``until``, in UTC."""

    title = "time"
    template = "admin/rollout/period.html"
    parameter_name = SINCE
    column: str
    narrow: Narrow

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self.chosen = {name: (params.pop(name, None) or [""])[-1] for name in (SINCE, UNTIL)}
        self.others: list[tuple[str, str]] = []
        self.used_parameters = {name: [value] for name, value in self.chosen.items() if value}

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return [SINCE, UNTIL]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        since, until = self.chosen[SINCE], self.chosen[UNTIL]
        condition = {}
        if since:
            span = SPANS.get(since)
            condition[f"{self.column}__gte"] = timezone.now() - span[1] if span else _midnight(since)
        if until:
            condition[f"{self.column}__lt"] = _midnight(until) + timedelta(days=1)
        return self.narrow(queryset, condition) if condition else queryset

    @property
    def days(self) -> dict[str, str]:
        """The chosen days, for the fields of the form."""
        return {name: "" if value in SPANS else value for name, value in self.chosen.items()}

    def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:
        self.others = [
            (name, value)
            for name, values in changelist.params.items()
            if name not in {SINCE, UNTIL}
            for value in (values if isinstance(values, list) else [values])
        ]
        for value, label in [("", "Any time"), *((value, label) for value, (label, _) in SPANS.items())]:
            yield {
                "selected": self.chosen[SINCE] == value and not self.chosen[UNTIL],
                "query_string": changelist.get_query_string({SINCE: value} if value else {}, [SINCE, UNTIL]),
                "display": label,
            }


class EndOfPeriod(admin.ListFilter):
    """The second parameter of the filter above: a page takes no parameter that no filter has."""

    title = "time"
    parameter_name = UNTIL

    def has_output(self) -> bool:
        return False


def period(column: str, narrow: Narrow = _filtered) -> list[type[admin.ListFilter]]:
    """Return the filter by a column of times. ``narrow`` applies its condition by an index that the table has."""
    return [
        type("PeriodOfColumn", (PeriodFilter,), {"column": column, "narrow": staticmethod(narrow)}),
        EndOfPeriod,
    ]


def _midnight(day: str) -> datetime:
    """Return the begin of a day in UTC; an address with another text is refused as Django refuses it."""
    try:
        at = date.fromisoformat(day)
        return datetime(at.year, at.month, at.day, tzinfo=UTC) if at.year < 9999 else _refused(day)
    except ValueError:
        return _refused(day)


def _refused(day: str) -> datetime:
    raise IncorrectLookupParameters(day)
