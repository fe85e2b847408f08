"""An overview for a start page: the worst rollouts, open incidents, the judge and the delivery of alerts."""

from typing import Any

from django.contrib import admin
from django.db.models import F, Q
from django.db.models.functions import Now
from django.http import HttpRequest

from rollout.admin.latest_checks import with_latest_checks
from rollout.admin.trouble import by_trouble, with_signals
from rollout.conf import conf
from rollout.models import Alert, Incident, Rollout
from rollout.presentation.history import rollbacks
from rollout.presentation.outlook import judge_state
from rollout.units import duration

SHOWN = 8  # rollouts and incidents; their lists have the others
COUNT_MAX = 1000  # alerts


def overview(request: HttpRequest) -> dict[str, Any]:
    """Return what the user may see, for the template ``admin/rollout/overview.html``."""
    context: dict[str, Any] = dict.fromkeys(("rollouts", "judge", "incidents", "alerts"))
    if request.user.has_perm("rollout.view_rollout"):
        context |= {"rollouts": worst_rollouts(), "judge": judge()}
    if request.user.has_perm("rollout.view_incident"):
        context["incidents"] = open_incidents()
    if request.user.has_perm("rollout.view_alert"):
        context["alerts"] = delivery()
    return context


def worst_rollouts() -> list[dict[str, Any]]:
    """Return the cells of the worst rollouts, as their list shows them."""
    page: Any = admin.site.get_model_admin(Rollout)
    ranked = by_trouble(with_signals(Rollout.objects.annotate(seen_at=Now())))
    rollouts = list(ranked.order_by("trouble", "feature")[:SHOWN])
    with_latest_checks(rollouts)
    return [
        {
            "rollout": rollout,
            "share": page.share(rollout),
            "signal": page.signal(rollout),
            "state": page.state(rollout),
            "next": page.next(rollout),
        }
        for rollout in rollouts
    ]


def open_incidents() -> list[Incident]:
    """Return the latest incidents whose rollout is still rolled back, or still in the stage that should be."""
    newest = (
        Incident.objects.filter(
            Q(rolled_back=True, rollout__percentage=0)
            | Q(rolled_back=False, rollout__percentage__gt=0, stage=F("rollout__watch__stage"))
        )
        .order_by("rollout_id", "-tripped_at")
        .distinct("rollout_id")
        .select_related("rollout")
    )
    found = sorted(newest, key=lambda incident: incident.tripped_at, reverse=True)[:SHOWN]
    changes = rollbacks(incident.rollout for incident in found)
    # A person may have raised it and taken it back again.
    return [
        incident
        for incident in found
        if not incident.rolled_back
        or ((change := changes.get(incident.rollout_id)) is not None and change.is_by_judge)
    ]


def judge() -> tuple[bool, str]:
    """Return whether the judge is well, and its state in a sentence."""
    match judge_state():
        case "late":
            return False, "Late: it neither promotes nor rolls back. Is Celery beat running?"
        case "idle":
            return True, "Idle: no rollout is live."
    return True, f"On time: each live rollout is checked every {duration(conf.policy.check_interval)}."


def delivery() -> tuple[bool, str]:
    """Return whether alerts reach people, and their delivery in a sentence."""
    if not conf.alert_channels:
        return False, "No channel is set up: nobody is told. Set ROLLOUT_WEBHOOK_URL or ROLLOUT_ALERT_EMAILS."
    unsent = Alert.objects.filter(sent_at=None, skipped=False, attempts__gt=0)[:COUNT_MAX].count()
    if unsent:
        many = f"{COUNT_MAX:,} or more alerts" if unsent == COUNT_MAX else f"{unsent:,} alerts"
        return False, f"Not delivered: {'1 alert' if unsent == 1 else many}, tried again later."
    return True, f"Delivered, by {' and '.join(conf.alert_channels)}."
