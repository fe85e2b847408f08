"""The latest check of each rollout, read in one query for a whole list."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import F, OuterRef, Subquery

from rollout.models import Check, Rollout
from rollout.presentation.history import rollbacks


@dataclass(frozen=True, slots=True)
class LatestCheck:
    """The latest check of a rollout; ``current`` is the same check if it is of the present stage."""

    check: Check | None = None
    current: Check | None = None


def latest_checks(rollouts: Iterable[Rollout]) -> dict[int, LatestCheck]:
    """Return the latest checks of rollouts by their primary keys, in one query."""
    newest = Check.objects.filter(rollout=OuterRef("pk")).order_by("-id").values("pk")[:1]
    watched = Rollout.objects.filter(pk__in=[rollout.pk for rollout in rollouts])
    checks = (
        Check.objects.filter(pk__in=watched.annotate(latest=Subquery(newest)).values("latest"))
        .select_related("incident")
        .annotate(stage_now=F("rollout__watch__stage"))
    )
    return {
        check.rollout_id: LatestCheck(check, check if check.stage == check.stage_now else None)
        for check in checks
    }


def latest_check(rollout: Rollout) -> LatestCheck:
    return latest_checks([rollout]).get(rollout.pk, LatestCheck())


def with_latest_checks(rollouts: list[Any]) -> None:
    """Give each rollout of a list its latest check, and the change that rolled it back."""
    latest, rolled_back = latest_checks(rollouts), rollbacks(rollouts)
    for rollout in rollouts:
        rollout.latest = latest.get(rollout.pk, LatestCheck())
        rollout.rollback = rolled_back.get(rollout.pk)
