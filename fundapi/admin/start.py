"""The start page: the worst rollouts, open incidents, who watches, and today's funds."""

from typing import Any

from django.db.models import Count, Sum
from django.http import HttpRequest
from django.utils import timezone

from fundapi.api.outcomes import OPERATION
from idempotency.models import IdempotencyKey
from rollout.admin.overview import overview

KEYS_MAX = 10_000  # keys that a start page reads; summing up millions takes seconds


def context(request: HttpRequest, unfolds: dict[str, Any]) -> dict[str, Any]:
    """Return the context of the start page (Unfold's ``DASHBOARD_CALLBACK``)."""
    may_see = request.user.has_perm("idempotency.view_idempotencykey")
    return {**unfolds, "title": "Start", "overview": overview(request), "today": today() if may_see else None}


def today() -> dict[str, str]:
    """Return the creations of today, and their replays and conflicts; of the newest keys where there are too many."""
    newest = IdempotencyKey.objects.order_by("-expires_at").values("pk")[:KEYS_MAX]
    midnight = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    keys = IdempotencyKey.objects.filter(pk__in=newest, operation=OPERATION, created_at__gte=midnight)
    sums = keys.aggregate(creates=Count("pk"), replays=Sum("replays"), conflicts=Sum("conflicts"))
    more = "more than " if sums["creates"] == KEYS_MAX else ""
    names = {"creates": "Creates", "replays": "Replays", "conflicts": "Conflicts"}
    return {label: f"{more}{sums[name] or 0:,}" for name, label in names.items()}
