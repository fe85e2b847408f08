"""Verify that a rollback has arrived, in the database and at a server (runbook, "Rollback Verification")."""

from collections.abc import Sequence
from typing import Any

from rollout.evaluation import Config, is_live
from rollout.models import Rollout
from rollout.release.decisions import Outcome
from rollout.release.errors import ReleaseError, Unavailable
from rollout.release.site import get
from rollout.release.terminal import Result, Terminal
from rollout.units import percent


def verify(features: Sequence[str], url: str, terminal: Terminal) -> Result:
    """Check that every rollout that was taken back is legacy everywhere.

    Args:
        features: rollouts that must be legacy; none: those that are stopped, disabled or at 0 %, at least one.
        url: of the site; "" to check the database alone.
    """
    rollouts = list(Rollout.objects.filter(feature__in=features) if features else Rollout.objects.all())
    wrong = []
    for rollout in rollouts:
        terminal.say(f"{rollout.feature} in the database: {rollout.store_type} ({_why(rollout)})")
        if features and rollout.store_type != "legacy":
            wrong.append(f"{rollout.feature} is {rollout.store_type} in the database: {_why(rollout)}")
    back = [rollout for rollout in rollouts if rollout.store_type == "legacy"]
    if not back:
        says = "; ".join(wrong) or "Nothing is rolled back: no rollout is stopped, disabled or at 0 %"
        return Result(Outcome.UNHEALTHY, f"{says}.", {"legacy": []})
    details: dict[str, Any] = {"legacy": [rollout.feature for rollout in back]}
    if url:
        try:
            wrong += _served(url, back, terminal, details)
        except ReleaseError as error:
            if not wrong:
                return Result(error.outcome, str(error), details)
    if wrong:
        return Result(Outcome.UNHEALTHY, f"{'; '.join(wrong)}.", details)
    names = ", ".join(details["legacy"])
    where = f"in the database and at {url}" if url else "in the database; without --url, no site was checked"
    return Result(Outcome.HEALTHY, f"Legacy for everybody {where}: {names}.", details)


def _why(rollout: Rollout) -> str:
    if rollout.emergency_stop:
        return "stopped"
    if not rollout.enabled:
        return "disabled"
    return f"at {percent(rollout.percentage)}"


def _served(url: str, back: Sequence[Rollout], terminal: Terminal, details: dict[str, Any]) -> list[str]:
    """Return what is not legacy at a server: in ``/health``, and in the configuration for browsers.

    ``/health`` shows one rollout, and must say ``legacy`` when no rollout is live.
    """
    wrong = []
    health = get(f"{url}/health")
    store_type = details["store_type"] = health.get("store_type")
    terminal.say(f"{url}/health: store_type {store_type}")
    live = [each.feature for each in Rollout.objects.all() if each.store_type != "legacy"]
    if store_type != "legacy" and not live:
        wrong.append(f"{url}/health says store_type {store_type}")
    document = get(f"{url}/api/rollouts")
    try:
        live_at_site = {each["feature"]: _live(each) for each in document["rollouts"]}
    except (LookupError, TypeError):
        raise Unavailable(f"{url}/api/rollouts did not answer with rollouts.") from None
    for rollout in back:
        served = {None: "nothing", True: "fund-store", False: "legacy"}[live_at_site.get(rollout.feature)]
        terminal.say(f"{url}/api/rollouts: {rollout.feature} is {served}")
        if served != "legacy":
            wrong.append(f"{url} serves {served} for {rollout.feature}")
    return wrong


def _live(config: dict[str, Any]) -> bool:
    return is_live(
        Config(
            feature=config["feature"],
            enabled=config["enabled"],
            percentage=config["percentage"],
            emergency_stop=config["emergencyStop"],
            hash_version=config["hashVersion"],
        )
    )
