"""The operator's screen: the state of a rollout, its history, and one button for each operation.

Nothing here decides or writes: the buttons call :mod:`rollout.operations` with the signed-in user, the reason and the
version that the operator saw. The emergency stop takes no version, and an invalid form does not refuse it.
"""

import hashlib
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import OperationalError
from django.db.models import Model, QuerySet
from django.db.models.functions import Now
from django.forms import Script
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotModified, HttpResponseRedirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join

from rollout import operations
from rollout.admin.buttons import BUTTONS, completable, is_resubmission, rehearse, stop_with_retries
from rollout.admin.chart_data import chart_context
from rollout.admin.forms import REASON_MAX, TIMELINES, ConfigurationForm, NewRolloutForm, ReasonForm
from rollout.admin.latest_checks import LatestCheck, latest_check, with_latest_checks
from rollout.admin.records import PlainList, records_of
from rollout.admin.trouble import SignalFilter, StateFilter, TroubleFirst
from rollout.conf import conf
from rollout.judge.scoring import Signal
from rollout.models import Rollout, Stage, Timeline
from rollout.presentation.history import (
    Difference,
    Line,
    history_of,
    latest_change_to,
    lines,
    rollbacks,
    with_differences,
)
from rollout.presentation.outlook import (
    done_message,
    is_calm,
    is_late,
    next_step,
    not_judged,
    not_met,
    poll_message,
    states,
    what_next,
)
from rollout.presentation.wording import read, rollback_reason
from rollout.units import duration, percent

logger = logging.getLogger(__name__)

PRESETS = (0, 10, 50, 100)  # the runbook's
LATEST = 8  # lines of history on the screen; its own page has all of them
HISTORY_PAGE = 50
SPANS = {  # of the charts
    "6h": timedelta(hours=6),
    "1": timedelta(days=1),
    "7": timedelta(days=7),
    "all": None,
}
SAID_BY_BANNER = {"hold", "roll-back"}  # buttons that need no message: a banner has what they did
NOT_KEPT = {"csrfmiddlewaretoken", "preset", "confirmed"}  # fields that the confirmation page does not repeat


def etag(rollout: Any, latest: LatestCheck) -> str:
    """Return a tag that changes with whatever the screen shows, but the passing minutes: the browser counts those."""
    check = latest.check
    late = is_late(rollout, latest.current, now=rollout.seen_at)
    parts = (rollout.pk, rollout.version, check and (check.pk, check.settled), late)
    return f'"{hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()}"'


# --- The pages ----------------------------------------------------------------------------------------------------


class RolloutAdmin(PlainList):
    form = NewRolloutForm
    fields = [*NewRolloutForm.Meta.fields, "reason"]
    list_display = ["feature", "share", "signal", "state", "next"]
    list_filter = [SignalFilter, StateFilter]
    sortable_by = ["feature"]
    search_fields = ["feature", "description"]
    search_help_text = "Feature or description"
    nothing = "No rollout so far: add one."
    actions = None

    class Media:
        css = {
            "all": [
                "rollout/admin.css",
                "rollout/admin/controls.css",
                "rollout/admin/screen.css",
                "rollout/admin/charts.css",
                "rollout/admin/judge.css",
                "rollout/admin/history.css",
                "rollout/admin/lists.css",
            ]
        }
        js = [Script("rollout/admin.js", type="module")]

    def get_urls(self) -> list[URLPattern]:
        def page(route: str, view: Callable[..., HttpResponse], name: str) -> URLPattern:
            return path(
                f"<path:object_id>/{route}/", self.admin_site.admin_view(view), name=f"rollout_{name}"
            )

        buttons = [
            page(name, partial(self.action_view, name=name), name.replace("-", "_")) for name in BUTTONS
        ]
        others = [page("stop", self.stop_view, "stop"), page("live", self.live_view, "live")]
        return [*others, *buttons, *super().get_urls()]

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse to delete: browsers still ask for the rollout, and its history is kept. Disable it instead."""
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Rollout]:
        """Return the rollouts, with the time of the database, which dates stages and checks."""
        rollouts: QuerySet[Rollout] = super().get_queryset(request).annotate(seen_at=Now())
        return rollouts

    def formfield_for_choice_field(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Name the timelines shortly, with their rules below: a telephone would cut them."""
        if db_field.name == "timeline":
            kwargs["choices"] = TIMELINES
        return super().formfield_for_choice_field(db_field, request, **kwargs)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return type("ChangeList", (TroubleFirst, super().get_changelist(request, **kwargs)), {})

    # --- The list -------------------------------------------------------------------------------------------------

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return [*self.list_display, *(["stop_button"] if may(request, "stop_rollout") else [])]

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist = super().get_changelist_instance(request)
        changelist.result_list = list(changelist.result_list)
        with_latest_checks(changelist.result_list)
        return changelist

    @admin.display(description="signal")
    def signal(self, rollout: Any) -> str:
        """Show the signal of the present stage; the signal of an earlier one says nothing about it."""
        current = rollout.latest.current
        if not rollout.is_judged:
            return "not judged"
        if current is None:
            return "not checked yet"
        badge = render_to_string("admin/rollout/rollout/signal.html", {"signal": current.signal})
        if not is_late(rollout, current, now=rollout.seen_at):
            return badge
        red = badge if current.signal == Signal.RED else ""  # an old green means nothing, an old red does
        return format_html('{} <span class="rollout-late">{}</span>', red, "judge not running")

    @admin.display(description="what happens next")
    def next(self, rollout: Any) -> str:
        outlook = what_next(rollout, rollout.latest.current, now=rollout.seen_at)
        return render_to_string("admin/rollout/rollout/outlook.html", {"outlook": outlook, "brief": True})

    @admin.display(description="percentage", ordering="percentage")
    def share(self, rollout: Any) -> str:
        return format_html(
            '<strong class="rollout-share">{}</strong> <span class="rollout-sub">for {}</span>',
            percent(rollout.percentage),
            duration(rollout.seen_at - rollout.stage_started_at),
        )

    @admin.display(description="state")
    def state(self, rollout: Any) -> str:
        badges = states(rollout, rollout.rollback)
        if not badges:
            return Stage(rollout.stage).label
        shown = format_html_join(" ", '<span class="rollout-badge is-{}">{}</span>', badges)
        incident = getattr(rollout.latest.check, "incident", None)
        if not incident or not rollout.rollback or not rollout.rollback.is_by_judge:
            return shown
        address = reverse("admin:rollout_incident_change", args=[incident.pk])
        return format_html('{} <a class="rollout-link" href="{}">The incident</a>', shown, address)

    @admin.display(description="stop")
    def stop_button(self, rollout: Rollout) -> str:
        """Show a button that posts the form around the list to the stop view; a loud one where browsers get it."""
        if rollout.emergency_stop:
            return "stopped"
        look = "is-danger" if rollout.is_live else "is-warning"
        button = format_html(
            '<button class="rollout-button {}" formaction="{}" type="submit">{}</button>',
            look,
            reverse("admin:rollout_stop", args=[rollout.pk]),
            f"Yes, stop {rollout.feature} in {conf.environment}" if conf.confirm else "Emergency stop",
        )
        if not conf.confirm:
            return button
        return format_html(
            '<details class="rollout-arm"><summary class="rollout-button {}">{}</summary>{}</details>',
            look,
            "Emergency stop",
            button,
        )

    # --- A new one ------------------------------------------------------------------------------------------------

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:  # noqa: FBT001, FBT002
        form = super().get_form(request, obj, change, **kwargs)
        if field := self.formfield_for_dbfield(Rollout._meta.get_field("description"), request):
            form.base_fields["reason"].widget = field.widget  # as this admin's other texts look
            # Not the description's 200: a browser cuts what is pasted, without a word.
            field.widget.attrs["maxlength"] = str(REASON_MAX)
        return form

    def save_model(self, request: HttpRequest, obj: Rollout, form: forms.ModelForm, change: bool) -> None:  # noqa: FBT001
        fields = {name: form.cleaned_data[name] for name in NewRolloutForm.Meta.fields}
        signed: dict[str, Any] = {"reason": form.cleaned_data["reason"], "actor": request.user}
        obj.pk = operations.create(fields.pop("feature"), fields, **signed).pk

    def response_add(
        self, request: HttpRequest, obj: Rollout, post_url_continue: str | None = None
    ) -> HttpResponse:
        self.message_user(request, f"{obj.feature} is created, at 0 %.", messages.SUCCESS)
        return self._to_screen(obj)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        one_button = {"show_save_and_continue": False, "show_save_and_add_another": False}
        try:
            return super().add_view(request, form_url, {**(extra_context or {}), **one_button})
        except operations.OperationError as refused:
            # Somebody else created it between the form's check and now.
            self.message_user(request, str(refused), messages.ERROR)
            return HttpResponseRedirect(reverse("admin:rollout_rollout_changelist"))

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

    def live_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Return the parts of the screen that change, for an open page; 304 when nothing has changed."""
        rollout = self._rollout(request, object_id)
        latest = latest_check(rollout)
        tag = etag(rollout, latest)
        if request.headers.get("If-None-Match") == tag:
            answer: HttpResponse = HttpResponseNotModified()
        else:
            answer = self._page(request, "live", rollout, self._now(request, rollout, latest))
        answer.headers["ETag"] = tag
        return answer

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show every change of a rollout."""
        rollout = self._rollout(request, object_id)
        page = Paginator(history_of(rollout), HISTORY_PAGE).get_page(request.GET.get("p"))
        shown = list(page.object_list)
        before = history_of(rollout)[page.end_index() : page.end_index() + 1]
        context = {"title": f"History of {rollout.feature}", "page": page}
        context["lines"] = lines([*shown, *before])[: len(shown)]
        return self._page(request, "history", rollout, context)

    def action_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        """Apply the operation of a button, after a confirmation where one is required."""
        rollout = self._rollout(request, object_id)
        button = BUTTONS[name]
        if not may(request, button.permission):
            raise PermissionDenied
        if request.method != "POST":
            return self._unasked(request, rollout)
        data = {**request.POST.dict(), **_preset(request)}
        form = (
            ConfigurationForm(data, rollout=rollout)
            if button.form is ConfigurationForm
            else button.form(data)
        )
        if not form.is_valid():
            return self._screen(request, rollout, form=form)
        try:
            return self._press(request, rollout, name, form)
        except operations.StaleEdit as stale:
            if is_resubmission(request, button, stale, form.cleaned_data):
                self.message_user(
                    request,
                    f"{done_message(name, stale.rollout)} The form was sent twice, and the change was made once.",
                )
                return self._to_screen(rollout)
            return self._screen(request, self._rollout(request, object_id), form=form)
        except operations.OperationError as refused:
            form.add_error(None, str(refused))
        except OperationalError:
            logger.exception("rollout_change_failed")
            form.add_error(None, "The database did not answer in time. Nothing was changed: try again.")
        return self._screen(request, rollout, form=form)

    def _press(self, request: HttpRequest, rollout: Rollout, name: str, form: ReasonForm) -> HttpResponse:
        data = form.cleaned_data
        change = partial(
            BUTTONS[name].operation,
            rollout.feature,
            *form.arguments(),
            actor=request.user,
            reason=data["reason"],
            version=data["version"],
        )
        if conf.confirm and request.POST.get("confirmed") != "yes":
            return self._confirmation(request, name, rollout, after=rehearse(change), form=form)
        message = done_message(name, change())
        if name not in SAID_BY_BANNER:
            self.message_user(request, message, messages.SUCCESS)
        return self._to_screen(rollout)

    def stop_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Stop a rollout. Check only permission and CSRF: neither a form's errors nor a newer version refuse a stop."""
        rollout = self._rollout(request, object_id)
        if not may(request, "stop_rollout"):
            raise PermissionDenied
        if request.method != "POST":
            return self._unasked(request, rollout)
        reason = request.POST.get("reason", "").replace("\0", "").strip()[:REASON_MAX]
        if not stop_with_retries(rollout.feature, reason=reason, actor=request.user):
            message = "THE STOP DID NOT GO THROUGH: the database did not answer. Press emergency stop again."
            self.message_user(request, message, messages.ERROR)
            return self._screen(request, rollout, status=503)
        if rollout.emergency_stop:
            message = f"{rollout.feature} is stopped already: everybody gets {conf.without}."
            self.message_user(request, message, messages.WARNING)
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
        """Answer a GET of a button's address, such as the redirect after signing in again."""
        self.message_user(request, "Nothing was changed: press the button on this page.", messages.WARNING)
        response = self._screen(request, rollout, status=405)
        response.headers["Allow"] = "POST"
        return response

    def _confirmation(
        self, request: HttpRequest, name: str, rollout: Rollout, *, after: Rollout, form: ReasonForm
    ) -> HttpResponse:
        kept = {**request.POST.dict(), **_preset(request)}
        current, rollback = latest_check(rollout).current, rollbacks([rollout]).get(rollout.pk)
        seen: dict[str, Any] = {"now": rollout.seen_at}  # type: ignore[attr-defined]  # of get_queryset
        rises = after.percentage > rollout.percentage
        context = {
            "title": f"Confirm: {rollout.feature}",
            "action_url": request.path,
            "differences": Difference.between(rollout, after),
            "before": percent(rollout.percentage),
            "after": percent(after.percentage),
            "moves": rollout.percentage != after.percentage,
            "check": current if rollout.is_judged else None,
            "reading": read(current) if current else None,
            "late": is_late(rollout, current, **seen),
            "not_met": not_met(rollout, current, rollback, **seen) if rises else [],
            "is_calm": not rises or is_calm(rollout, current, rollback, **seen),
            "still": [text.lower() for _, text in states(after) if (_, text) in states(rollout)],
            "reason": form.cleaned_data["reason"],
            "kept": {key: value for key, value in kept.items() if key not in NOT_KEPT},
            "button": name.replace("-", " ").capitalize(),
        }
        return self._page(request, "confirm", rollout, context)

    def _screen(
        self, request: HttpRequest, rollout: Rollout, *, form: ReasonForm | None = None, status: int = 200
    ) -> HttpResponse:
        seen = form.cleaned_data.get("version") if form else None
        stale = isinstance(seen, int) and seen != rollout.version
        context = {
            **self._now(request, rollout, latest_check(rollout)),
            "title": rollout.feature,
            "records": records_of(rollout, request.user),
            "step": next_step(rollout.percentage),
            "presets": PRESETS,
            "move": form if form and not isinstance(form, ConfigurationForm) else None,
            "configure": form if isinstance(form, ConfigurationForm) else ConfigurationForm(rollout=rollout),
            "refused": form,
            "is_stale": stale,
            "meanwhile": with_differences(operations.changes_since(rollout, seen or 0)) if stale else [],
        }
        return self._page(request, "screen", rollout, context, status=status)

    def _now(self, request: HttpRequest, rollout: Any, latest: LatestCheck) -> dict[str, Any]:
        """Return the context of the parts of the screen that change without a reload."""
        now = rollout.seen_at
        days = request.GET.get("days")
        days = days if days in SPANS else _span(rollout, now)
        newest = list(history_of(rollout)[: LATEST + 1])
        current = latest.current if rollout.is_judged else None
        is_red = current is not None and current.signal == Signal.RED
        rollback = rollbacks([rollout]).get(rollout.pk)
        return {
            **_changes(rollout, rollback),
            "can": self._buttons(request, rollout),
            "incident": getattr(latest.check, "incident", None)
            if rollback and rollback.is_by_judge
            else None,
            "is_red": is_red,
            "is_calm": is_calm(rollout, latest.current, rollback, now=now),
            "rollback_reason": rollback_reason(current) if current and is_red else "",
            "etag": etag(rollout, latest),
            "now_at": now,
            "poll": poll_message(),
            "percentage": percent(rollout.percentage),
            "subtitle": _state(rollout),
            "stage": Stage(rollout.stage).label,
            "in_stage": duration(now - rollout.stage_started_at),
            "timeline": Timeline(rollout.timeline).label,
            "outlook": what_next(rollout, latest.current, now=now),
            "not_judged": not_judged(rollout),
            "check": latest.check,
            "checked_percentage": percent(latest.check.percentage) if latest.check else "",
            "is_current": latest.current is not None,
            "reading": read(latest.check) if latest.check else None,
            **chart_context(rollout, SPANS[days], now=now),
            "days": days,
            "spans": {"6h": "6 hours", "1": "24 hours", "7": "7 days", "all": "All"},
            "lines": lines(newest)[:LATEST],
            "more": len(newest) > LATEST,
        }

    def _buttons(self, request: HttpRequest, rollout: Rollout) -> dict[str, bool]:
        """Return which buttons to show: those that this user may press and the rollout's state allows."""
        operate = may(request, "operate_rollout")
        free = not rollout.on_hold and not rollout.emergency_stop
        can = {
            "set": operate,
            "promote": operate and free and next_step(rollout.percentage) is not None,
            "hold": operate and not rollout.on_hold,
            "resume": operate and rollout.on_hold,
            "roll_back": operate,
            "complete": operate and completable(rollout),
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
            "without": conf.without,
            "live_label": conf.live_label,
            "media": self.media,
            **context,
        }
        return TemplateResponse(request, f"admin/rollout/rollout/{name}.html", context, status=status)


def _state(rollout: Rollout) -> str:
    """Return the state of a rollout for the title of its page."""
    if rollout.emergency_stop:
        return "Stopped"
    return percent(rollout.percentage) if rollout.enabled else "Disabled"


def _span(rollout: Rollout, now: datetime) -> str:
    """Return the shortest span that shows the whole stage, or a week if the rollout is not judged."""
    if not rollout.is_judged:
        return "7"
    age = now - rollout.stage_started_at
    return next((name for name, span in SPANS.items() if span is None or age < span), "all")


def _changes(rollout: Rollout, rollback: Line | None) -> dict[str, Any]:
    """Return the changes that put a rollout into its present states. A hold by one of the others is not repeated."""
    stopped = latest_change_to(rollout, emergency_stop=True) if rollout.emergency_stop else None
    held = latest_change_to(rollout, on_hold=True) if rollout.on_hold else None
    is_implied = held is not None and held.version in {
        change.version for change in (stopped, rollback) if change
    }
    return {
        "stopped": stopped,
        "disabled": latest_change_to(rollout, enabled=False) if not rollout.enabled else None,
        "rollback": rollback,
        "held": None if is_implied else held,
        "is_held": rollout.on_hold and not is_implied,
    }


def may(request: HttpRequest, permission: str) -> bool:
    return request.user.has_perm(f"rollout.{permission}")


def _preset(request: HttpRequest) -> dict[str, str]:
    """Return the percentage of the preset button pressed, which overrides the field beside it."""
    preset = request.POST.get("preset")
    return {"percentage": preset} if preset else {}
