"""Base classes and helpers of the read-only pages of records."""

import json
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.text import capfirst

from rollout.admin.export import Exported
from rollout.judge.scoring import Signal
from rollout.models import Alert, Check, Incident, Rollout

COUNT_MAX = 1000  # rows that a list counts; counting millions takes seconds
BRIEF = 80  # characters in a list
# Choices of a filter, the gravest first.
SIGNALS = [(signal.value, signal.label.capitalize()) for signal in reversed(Signal)]


def records_of(rollout: Rollout, user: Any) -> list[tuple[str, str]]:
    """Return names and addresses of the lists with a rollout's records, of those that the user may see."""
    own = {"rollout__id__exact": rollout.pk}
    lists: list[tuple[str, str, dict[str, Any]]] = [
        ("Checks", "check", own),
        ("Telemetry", "telemetryevent", {"flag": rollout.feature}),
        ("Incidents", "incident", own),
        ("Alerts", "alert", own),
        ("Deployments", "deployment", {}),  # a deployment is of the whole environment, not of a rollout
    ]
    return [
        (name, f"{reverse(f'admin:rollout_{model}_changelist')}?{urlencode(query)}".rstrip("?"))
        for name, model, query in lists
        if user.has_perm(f"rollout.view_{model}")
    ]


class MoreThan(int):
    """A count that ended at its limit; pages show "more than 1,000"."""

    def __str__(self) -> str:
        return f"more than {int(self):,}"


class CappedPaginator(Paginator):
    """A paginator that counts up to 1,000 rows."""

    @cached_property
    def count(self) -> int:
        rows: QuerySet[Any] = self.object_list.order_by()  # type: ignore[attr-defined]
        counted = rows[: COUNT_MAX + 1].count()
        return MoreThan(COUNT_MAX) if counted > COUNT_MAX else counted


class PlainList(admin.ModelAdmin):
    """A list with its own name as its title, and with a sentence in place of an empty table."""

    change_list_template = "admin/rollout/list.html"
    nothing = "Nothing is recorded yet."
    hint = ""  # what to search for, where the field has no room for it

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        own = {"title": capfirst(self.opts.verbose_name_plural), "hint": self.hint}
        response = super().changelist_view(request, own | (extra_context or {}))
        if isinstance(response, TemplateResponse) and response.context_data:
            changelist = response.context_data.get("cl")
            narrowed = changelist and (changelist.query or changelist.has_active_filters)
            response.context_data["empty"] = (
                "Nothing matches the search and the filters." if narrowed else self.nothing
            )
            response.context_data["narrowed"] = narrowed
        return response


class ReadOnlyAdmin(Exported, PlainList):
    """A list and a page that show records, and change nothing."""

    change_list_template = "admin/rollout/records.html"
    change_form_template = "admin/rollout/record.html"
    paginator = CappedPaginator
    show_full_result_count = False
    actions = None
    sortable_by: ClassVar[list[str]] = []

    class Media:
        css = {
            "all": [
                "rollout/admin.css",
                "rollout/admin/controls.css",
                "rollout/admin/judge.css",
                "rollout/admin/history.css",
                "rollout/admin/lists.css",
            ]
        }

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)
        if not changelist.query and not changelist.has_active_filters:
            # No link to "show all" where all is shown.
            changelist.full_result_count = changelist.result_count
        return changelist

    def notices(self) -> list[str]:
        """Return sentences above the list, for what an operator must know before they read it."""
        return []

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().changelist_view(request, {"notices": self.notices(), **(extra_context or {})})

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def readable(self, request: HttpRequest, object_id: str) -> Any:
        """Return the record to show, or ``None`` if Django's own view must refuse the request."""
        record = self.get_object(request, object_id)
        if request.method in {"GET", "HEAD"} and record and self.has_view_permission(request, record):
            return record
        return None


class ReadOnlyRolloutAdmin(ReadOnlyAdmin):
    """The records of one rollout, with its feature in the list."""

    list_select_related = ["rollout"]

    @admin.display(description="rollout")
    def feature(self, record: Check | Incident | Alert) -> str:
        return record.rollout.feature


def page(owner: admin.ModelAdmin, request: HttpRequest, shown: Model, **extra: Any) -> TemplateResponse:
    """Return the page of one record, from the template of its model."""
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
    """Return a text cut to the length that a list has room for."""
    return text if len(text) <= BRIEF else text[: BRIEF - 1] + "…"


def pretty(document: Any) -> str:
    """Return indented JSON as HTML."""
    return format_html("<pre>{}</pre>", json.dumps(document, indent=2, ensure_ascii=False))
