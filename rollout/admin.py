"""The operator's screen: where a rollout stands, what happened to it, and one button for each operation.

Nothing here decides or writes: the buttons call :mod:`rollout.operations` with the signed-in user, the reason and the
version that the operator saw. The emergency stop carries no version, and no form can be wrong enough to refuse it.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import pairwise
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import OperationalError, transaction
from django.db.models import Model, QuerySet
from django.forms import Script
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.timesince import timesince

from rollout import chart, configuration, operations
from rollout.conf import conf
from rollout.forms import REASON_MAX, Change, Configuration, NewRollout, Reasoned, SetPercentage
from rollout.models import Rollout, Stage, Timeline

logger = logging.getLogger(__name__)

PRESETS = (0, 10, 50, 100)  # the runbook's
LATEST = 8  # lines of history on the screen; the rest is a click away
HISTORY_PAGE = 50
CHARTED_MAX = 500  # changes in the chart; beyond that it is a smear
DAYS = {"1": 1, "7": 7, "all": None}  # what the chart can show
NOT_KEPT = {"csrfmiddlewaretoken", "preset", "confirmed"}  # of a form that waits for confirmation
STOP_ATTEMPTS = 3  # each waits DATABASE_LOCK_TIMEOUT for whoever holds the row
FIELDS = {
    "percentage": "percentage",
    "enabled": "enabled",
    "emergency_stop": "emergency stop",
    "on_hold": "on hold",
    "timeline": "timeline",
    "auto_rollback": "auto-rollback",
    "track_migrations": "migration tracking",
    "description": "description",
}


# --- What the buttons do ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Action:
    """A button. ``done`` tells whether the rollout is as the button leaves it, given what was asked and changed."""

    operation: Callable[..., Rollout]
    permission: str
    form: type[Reasoned]
    done: Callable[[Rollout, Mapping[str, Any], Mapping[str, Any]], bool]


ACTIONS = {
    "set": Action(
        operations.set_percentage, "operate_rollout", SetPercentage,
        lambda rollout, asked, _: rollout.percentage == asked["percentage"],
    ),
    "promote": Action(
        operations.promote, "operate_rollout", Change,
        lambda _rollout, _asked, changed: climbed(*changed.get("percentage", (0, 0))),
    ),
    "hold": Action(
        operations.hold, "operate_rollout", Change,
        lambda rollout, *_: rollout.on_hold,
    ),
    "resume": Action(
        operations.resume, "operate_rollout", Change,
        lambda rollout, *_: not rollout.on_hold,
    ),
    "roll-back": Action(
        operations.roll_back, "operate_rollout", Change,
        lambda rollout, *_: rollout.on_hold and rollout.percentage == 0,
    ),
    "release": Action(
        operations.release, "stop_rollout", Change,
        lambda rollout, *_: not rollout.emergency_stop,
    ),
    "configure": Action(
        operations.configure, "change_rollout", Configuration,
        lambda rollout, asked, _: all(getattr(rollout, name) == asked[name] for name in Configuration.Meta.fields),
    ),
}  # fmt: skip


def rehearse(change: Callable[[], Rollout]) -> Rollout:
    """Return what ``change`` would make of the rollout, or raise what it would, and leave everything as it is."""
    with transaction.atomic():
        after = change()
        transaction.set_rollback(True)
    return after


def done_twice(
    request: HttpRequest, action: Action, stale: operations.StaleEdit, asked: Mapping[str, Any]
) -> bool:
    """Tell whether a form is stale only because it was sent twice: a double click, a reload."""
    if len(stale.changes) != 1:
        return False
    (change,) = stale.changes
    mine = change["who"] == str(request.user) and change["why"] == asked["reason"]
    return bool(mine and action.done(stale.rollout, asked, change["fields"]))


# --- In words -----------------------------------------------------------------------------------------------------


def share(rollout: Any) -> str:
    """``10.00`` → ``10 %``."""
    return f"{rollout.percentage.normalize():f} %"


def states(rollout: Rollout) -> list[tuple[str, str]]:
    """Return what is not as usual, the gravest first: a name for style sheets and one for people."""
    found = {
        ("stopped", "Stopped"): rollout.emergency_stop,
        ("disabled", "Disabled"): not rollout.enabled,
        ("hold", "On hold"): rollout.on_hold,
    }
    return [state for state, holds in found.items() if holds]


def next_step(percentage: Decimal) -> int | None:
    """Return the percentage that *promote* climbs to from ``percentage``, if there is one."""
    return next((step for step in conf.policy.steps if step > percentage), None)


def climbed(before: Decimal, after: Decimal) -> bool:
    return after == next_step(before)


def what_next(rollout: Rollout) -> list[str]:
    """Say what happens next, and who has to do it."""
    if rollout.emergency_stop:
        return [
            "Everybody gets legacy until somebody releases it.",
            f"Release brings it back at {share(rollout)}"
            + (", on hold." if rollout.on_hold else ".")
            + ("" if rollout.enabled else " It is disabled as well: nobody gets it until it is enabled."),
        ]
    if not rollout.enabled:
        return [f"Nobody gets the feature until it is enabled; then {share(rollout)} of browsers get it."]
    step = next_step(rollout.percentage)
    if step is None:
        return ["Every browser gets the feature. There is no higher step."]
    if rollout.on_hold:
        return [
            f"It stays at {share(rollout)} until somebody resumes it. After that, promote takes it to {step} %."
        ]
    if rollout.percentage == 0:
        return [f"Nobody gets the feature yet. Promote starts it at {step} %."]
    return [f"It stays at {share(rollout)} until somebody moves it. Promote takes it to {step} %."]


def outcome(name: str, rollout: Rollout) -> str:
    """Say what a button has done."""
    feature = rollout.feature
    said = {
        "hold": f"{feature} is on hold at {share(rollout)}: nothing climbs until it is resumed.",
        "resume": f"{feature} is no longer on hold, at {share(rollout)}.",
        "roll-back": f"{feature} is rolled back to 0 % and on hold: browsers go back to legacy.",
        "release": f"{feature} is released, at {share(rollout)}" + (", on hold." if rollout.on_hold else "."),
        "configure": f"The configuration of {feature} is changed.",
    }.get(name, f"{feature} is at {share(rollout)}.")
    if rollout.emergency_stop:
        return f"{said} It is still stopped: everybody gets legacy."
    if not rollout.enabled:
        return f"{said} It is disabled: nobody gets it."
    return said if name in {"hold", "resume"} else f"{said} {poll()}"


def poll() -> str:
    return f"Open pages follow when they next ask, which they do every {conf.poll_interval} s."


def worded(field: str, value: Any) -> str:
    """Return a field's value as people say it."""
    match field:
        case "percentage":
            return f"{value.normalize():f} %"
        case "timeline":
            return str(Timeline(value).label).partition(":")[0].lower()
        case "description":
            return f"“{value}”" if value else "empty"
    return {True: "on", False: "off"}.get(value, str(value))


@dataclass(frozen=True, slots=True)
class Difference:
    """A field, before and after, in words."""

    field: str
    before: str
    after: str

    @classmethod
    def between(cls, before: Any, after: Any) -> "list[Difference]":
        """Compare two states of a rollout, be they rows or records of its history."""
        return [
            cls(label, worded(field, getattr(before, field)), worded(field, getattr(after, field)))
            for field, label in FIELDS.items()
            if getattr(before, field) != getattr(after, field)
        ]

    def __str__(self) -> str:
        return f"{self.field} {self.before} → {self.after}"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the history."""

    version: int
    when: datetime
    who: str
    why: str
    differences: list[Difference]
    made: bool
    at: str

    @classmethod
    def of(cls, record: Any, before: Any) -> "Line":
        return cls(
            version=record.version,
            when=record.history_date,
            who=str(record.history_user) if record.history_user else "the system",
            why=record.history_change_reason or "",
            differences=Difference.between(before, record) if before else [],
            made=record.history_type == "+",
            at=share(record),
        )


def told(changes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put what changed meanwhile into words."""
    return [
        {
            **change,
            "differences": [
                Difference(label, *(worded(field, value) for value in change["fields"][field]))
                for field, label in FIELDS.items()
                if field in change["fields"]
            ],
        }
        for change in changes
    ]


def records(rollout: Rollout) -> QuerySet[Any]:
    """Return the history of a rollout, newest first."""
    found: QuerySet[Any] = rollout.history.order_by("-version", "-history_id").select_related("history_user")
    return found


def lines(newest_first: list[Any]) -> list[Line]:
    """Return a line for each record; the last one's changes are unknown if it has a predecessor not given here."""
    return [Line.of(record, before) for record, before in pairwise([*newest_first, None])]


def since(rollout: Rollout, **state: bool) -> Line | None:
    """Return the change by which ``rollout`` came into ``state``."""
    other = records(rollout).exclude(**state).first()
    first = records(rollout).filter(version__gt=other.version if other else 0, **state).last()
    return Line.of(first, None) if first else None


def how_long(moment: datetime) -> str:
    if timezone.now() - moment < timedelta(minutes=1):
        return "less than a minute"
    return timesince(moment)


def drawing(rollout: Rollout, days: int | None) -> tuple[chart.Chart, str]:
    """Return the chart of the percentage, and the same in words."""
    moments = [
        chart.Moment(
            at=line.history_date,
            percentage=float(line.percentage),
            enabled=line.enabled,
            on_hold=line.on_hold,
            emergency_stop=line.emergency_stop,
            note=f"{line.history_date:%Y-%m-%d %H:%M} UTC: {share(line)}",
        )
        for line in reversed(rollout.history.order_by("-version", "-history_id")[:CHARTED_MAX])
    ]
    now = timezone.now()
    moments = moments or [
        chart.Moment(now, float(rollout.percentage), rollout.enabled, rollout.on_hold, rollout.emergency_stop)
    ]
    start = now - timedelta(days=days) if days else None
    return chart.draw(moments, now=now, since=start), chart.summary(moments)


# --- The pages ----------------------------------------------------------------------------------------------------


@admin.register(Rollout)
class RolloutAdmin(admin.ModelAdmin):
    form = NewRollout
    fields = [*NewRollout.Meta.fields, "reason"]
    list_display = ["feature", "share", "state", "store", "stage", "in_stage", "timeline_name"]
    sortable_by = ["feature"]
    search_fields = ["feature", "description"]
    actions = None

    class Media:
        css = {"all": ["rollout/admin.css"]}
        js = [Script("rollout/admin.js", type="module")]

    def get_urls(self) -> list[URLPattern]:
        def page(route: str, view: Callable[..., HttpResponse], name: str) -> URLPattern:
            return path(
                f"<path:object_id>/{route}/", self.admin_site.admin_view(view), name=f"rollout_{name}"
            )

        buttons = [
            page(name, partial(self.action_view, name=name), name.replace("-", "_")) for name in ACTIONS
        ]
        return [page("stop", self.stop_view, "stop"), *buttons, *super().get_urls()]

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse: browsers still ask for it, and its history is worth keeping. It can be disabled."""
        return False

    # --- The list -------------------------------------------------------------------------------------------------

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return [*self.list_display, *(["stop_button"] if may(request, "stop_rollout") else [])]

    @admin.display(description="percentage", ordering="percentage")
    def share(self, rollout: Rollout) -> str:
        return format_html('<strong class="rollout-share">{}</strong>', share(rollout))

    @admin.display(description="state")
    def state(self, rollout: Rollout) -> str:
        badges = states(rollout)
        return (
            format_html_join(" ", '<span class="rollout-badge is-{}">{}</span>', badges)
            if badges
            else "normal"
        )

    @admin.display(description="store type")
    def store(self, rollout: Rollout) -> str:
        return format_html('<span class="rollout-nowrap">{}</span>', rollout.store_type)

    @admin.display(description="in stage for")
    def in_stage(self, rollout: Rollout) -> str:
        return how_long(rollout.stage_started_at)

    @admin.display(description="timeline")
    def timeline_name(self, rollout: Rollout) -> str:
        return worded("timeline", rollout.timeline)

    @admin.display(description="stop")
    def stop_button(self, rollout: Rollout) -> str:
        """One click: the form around the list posts to the stop."""
        button = format_html(
            '<button class="rollout-button is-danger" formaction="{}" type="submit">{}</button>',
            reverse("admin:rollout_stop", args=[rollout.pk]),
            f"Yes, stop {rollout.feature} in {conf.environment}" if conf.confirm else "Emergency stop",
        )
        if not conf.confirm:
            return button
        return format_html(
            '<details class="rollout-arm"><summary class="rollout-button is-danger">{}</summary>{}</details>',
            "Emergency stop",
            button,
        )

    # --- A new one ------------------------------------------------------------------------------------------------

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:  # noqa: FBT001, FBT002
        form = super().get_form(request, obj, change, **kwargs)
        if field := self.formfield_for_dbfield(Rollout._meta.get_field("description"), request):
            form.base_fields["reason"].widget = field.widget  # as this admin's other texts look
        return form

    def save_model(self, request: HttpRequest, obj: Rollout, form: forms.ModelForm, change: bool) -> None:  # noqa: FBT001
        obj._history_user = request.user  # type: ignore[attr-defined]  # noqa: SLF001 - simple-history's own way
        obj._change_reason = form.cleaned_data["reason"]  # type: ignore[attr-defined]  # noqa: SLF001
        obj.save(force_insert=True)
        transaction.on_commit(configuration.forget)

    def response_add(
        self, request: HttpRequest, obj: Rollout, post_url_continue: str | None = None
    ) -> HttpResponse:
        self.message_user(request, f"{obj.feature} is made, at 0 %.", messages.SUCCESS)
        return self._to_screen(obj)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        one_button = {"show_save_and_continue": False, "show_save_and_add_another": False}
        return super().add_view(request, form_url, {**(extra_context or {}), **one_button})

    # --- The screen -----------------------------------------------------------------------------------------------

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        rollout = self._rollout(request, object_id)
        return (
            self._screen(request, rollout)
            if request.method in {"GET", "HEAD"}
            else self._unasked(request, rollout)
        )

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show every change there ever was."""
        rollout = self._rollout(request, object_id)
        page = Paginator(records(rollout), HISTORY_PAGE).get_page(request.GET.get("p"))
        shown = list(page.object_list)
        before = records(rollout)[page.end_index() : page.end_index() + 1]
        context = {"title": f"History of {rollout.feature}", "page": page}
        context["lines"] = lines([*shown, *before])[: len(shown)]
        return self._page(request, "history", rollout, context)

    def action_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        """Press a button."""
        rollout = self._rollout(request, object_id)
        action = ACTIONS[name]
        if not may(request, action.permission):
            raise PermissionDenied
        if request.method != "POST":
            return self._unasked(request, rollout)
        data = {**request.POST.dict(), **_preset(request)}
        form = action.form(data) if action.form is not Configuration else Configuration(data, rollout=rollout)
        if not form.is_valid():
            return self._screen(request, rollout, form=form)
        try:
            return self._press(request, rollout, name, form)
        except operations.StaleEdit as stale:
            if done_twice(request, action, stale, form.cleaned_data):
                self.message_user(request, f"{outcome(name, stale.rollout)} It was sent twice and done once.")
                return self._to_screen(rollout)
            return self._screen(request, stale.rollout, form=form)
        except operations.OperationError as refused:
            form.add_error(None, str(refused))
        except OperationalError:
            logger.exception("rollout_change_failed")
            form.add_error(None, "The database did not answer in time. Nothing was changed: try again.")
        return self._screen(request, rollout, form=form)

    def _press(self, request: HttpRequest, rollout: Rollout, name: str, form: Reasoned) -> HttpResponse:
        asked = form.cleaned_data
        change = partial(
            ACTIONS[name].operation,
            rollout.feature,
            *form.arguments(),
            actor=request.user,
            reason=asked["reason"],
            version=asked["version"],
        )
        if conf.confirm and request.POST.get("confirmed") != "yes":
            return self._confirmation(request, name, rollout, after=rehearse(change), form=form)
        self.message_user(request, outcome(name, change()), messages.SUCCESS)
        return self._to_screen(rollout)

    def stop_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Stop, whatever the form says and whoever else is at it. Only permission and CSRF are asked."""
        rollout = self._rollout(request, object_id)
        if not may(request, "stop_rollout"):
            raise PermissionDenied
        if request.method != "POST":
            return self._unasked(request, rollout)
        reason = request.POST.get("reason", "").replace("\0", "").strip()[:REASON_MAX]
        if not stopped(rollout.feature, reason=reason, actor=request.user):
            message = "THE STOP DID NOT GO THROUGH: the database did not answer. Press emergency stop again."
            self.message_user(request, message, messages.ERROR)
            return self._screen(request, rollout, status=503)
        self.message_user(
            request, f"{rollout.feature} is stopped: everybody gets legacy. {poll()}", messages.WARNING
        )
        return self._to_screen(rollout)

    # --- Pieces ---------------------------------------------------------------------------------------------------

    def _rollout(self, request: HttpRequest, object_id: str) -> Rollout:
        rollout: Rollout | None = self.get_object(request, unquote(object_id))
        if not self.has_view_permission(request, rollout):
            raise PermissionDenied
        if rollout is None:
            raise Http404
        return rollout

    def _to_screen(self, rollout: Rollout) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:rollout_rollout_change", args=[rollout.pk]))

    def _unasked(self, request: HttpRequest, rollout: Rollout) -> HttpResponse:
        """Answer who came to a button's address without pressing it, say after signing in again."""
        self.message_user(request, "Nothing was changed: press the button on this page.", messages.WARNING)
        response = self._screen(request, rollout, status=405)
        response.headers["Allow"] = "POST"
        return response

    def _confirmation(
        self, request: HttpRequest, name: str, rollout: Rollout, *, after: Rollout, form: Reasoned
    ) -> HttpResponse:
        kept = {**request.POST.dict(), **_preset(request)}
        context = {
            "title": f"Confirm: {rollout.feature}",
            "action_url": request.path,
            "differences": Difference.between(rollout, after),
            "before": share(rollout),
            "after": share(after),
            "moves": rollout.percentage != after.percentage,
            "still": [text.lower() for _, text in states(after) if (_, text) in states(rollout)],
            "reason": form.cleaned_data["reason"],
            "kept": {key: value for key, value in kept.items() if key not in NOT_KEPT},
            "button": name.replace("-", " ").capitalize(),
        }
        return self._page(request, "confirm", rollout, context)

    def _screen(
        self, request: HttpRequest, rollout: Rollout, *, form: Reasoned | None = None, status: int = 200
    ) -> HttpResponse:
        days = request.GET.get("days", "7")
        days = days if days in DAYS else "7"
        drawn, in_words = drawing(rollout, DAYS[days])
        newest = list(records(rollout)[: LATEST + 1])
        seen = form.cleaned_data.get("version") if form else None
        stale = isinstance(seen, int) and seen != rollout.version
        context = {
            "title": rollout.feature,
            "subtitle": share(rollout),
            "can": self._buttons(request, rollout),
            "states": states(rollout),
            "stopped": since(rollout, emergency_stop=True) if rollout.emergency_stop else None,
            "disabled": since(rollout, enabled=False) if not rollout.enabled else None,
            "held": since(rollout, on_hold=True) if rollout.on_hold else None,
            "share": share(rollout),
            "stage": Stage(rollout.stage).label,
            "in_stage": how_long(rollout.stage_started_at),
            "timeline": Timeline(rollout.timeline).label,
            "next": what_next(rollout),
            "step": next_step(rollout.percentage),
            "presets": PRESETS,
            "chart": drawn,
            "chart_words": in_words,
            "days": days,
            "spans": {"1": "24 hours", "7": "7 days", "all": "All"},
            "lines": lines(newest)[:LATEST],
            "more": len(newest) > LATEST,
            "move": form if form and not isinstance(form, Configuration) else None,
            "configure": form if isinstance(form, Configuration) else Configuration(rollout=rollout),
            "refused": form,
            "is_stale": stale,
            "meanwhile": told(operations.changes_since(rollout, seen or 0)) if stale else [],
        }
        return self._page(request, "screen", rollout, context, status=status)

    def _buttons(self, request: HttpRequest, rollout: Rollout) -> dict[str, bool]:
        """Tell which buttons this person may press now."""
        operate = may(request, "operate_rollout")
        free = not rollout.on_hold and not rollout.emergency_stop
        can = {
            "set": operate,
            "promote": operate and free and next_step(rollout.percentage) is not None,
            "hold": operate and not rollout.on_hold,
            "resume": operate and rollout.on_hold,
            "roll_back": operate,
            "release": may(request, "stop_rollout") and rollout.emergency_stop,
        }
        return {
            **can,
            "move": any(can.values()),
            "stop": may(request, "stop_rollout"),
            "configure": may(request, "change_rollout"),
        }

    def _page(
        self, request: HttpRequest, name: str, rollout: Rollout, context: dict[str, Any], *, status: int = 200
    ) -> TemplateResponse:
        request.current_app = self.admin_site.name
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "original": rollout,
            "rollout": rollout,
            "where": conf.environment,
            "confirm": conf.confirm,
            "media": self.media,
            **context,
        }
        return TemplateResponse(request, f"admin/rollout/rollout/{name}.html", context, status=status)


def may(request: HttpRequest, permission: str) -> bool:
    return request.user.has_perm(f"rollout.{permission}")


def _preset(request: HttpRequest) -> dict[str, str]:
    """Return the percentage of the preset that was pressed: it is meant, whatever the field beside it says."""
    preset = request.POST.get("preset")
    return {"percentage": preset} if preset else {}


def stopped(feature: str, *, reason: str, actor: Any) -> bool:
    """Stop, and try again when somebody holds the row for longer than the database lets us wait."""
    for attempt in range(1, STOP_ATTEMPTS + 1):
        try:
            operations.stop(feature, reason=reason, actor=actor)
            return True
        except OperationalError:
            logger.exception("rollout_stop_failed", extra={"attempt": attempt})
    return False
