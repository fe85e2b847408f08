"""Verify that a rollback has arrived, in the database and at a server (runbook, "Rollback Verification")."""

from collections.abc import Sequence
from typing import Any

from rollout.conf import conf
from rollout.evaluation import Config, is_live
from rollout.models import Rollout
from rollout.release.decisions import Outcome
from rollout.release.errors import ReleaseError, Unavailable
from rollout.release.site import get
from rollout.release.terminal import Result, Terminal
from rollout.units import percent


def verify(features: Sequence[str], url: str, terminal: Terminal) -> Result:
    """Check that every rollout that was taken back is off everywhere.

    Args:
        features: rollouts that must be off; none: those that are stopped, disabled or at 0 %, at least one.
        url: of the site; "" to check the database alone.
    """
    rollouts = list(Rollout.objects.filter(feature__in=features) if features else Rollout.objects.all())
    wrong, live_off = [], conf.live_words[1]
    for rollout in rollouts:
        terminal.say(f"{rollout.feature} in the database: {rollout.live_word} ({_why(rollout)})")
        if features and rollout.is_live:
            wrong.append(f"{rollout.feature} is {rollout.live_word} in the database: {_why(rollout)}")
    back = [rollout for rollout in rollouts if not rollout.is_live]
    if not back:
        says = "; ".join(wrong) or "Nothing is rolled back: no rollout is stopped, disabled or at 0 %"
        return Result(Outcome.UNHEALTHY, f"{says}.", {live_off: []})
    details: dict[str, Any] = {live_off: [rollout.feature for rollout in back]}
    if url:
        try:
            wrong += _served(url, back, terminal, details)
        except ReleaseError as error:
            if not wrong:
                return Result(error.outcome, str(error), details)
    if wrong:
        return Result(Outcome.UNHEALTHY, f"{'; '.join(wrong)}.", details)
    names = ", ".join(details[live_off])
    where = f"in the database and at {url}" if url else "in the database; without --url, no site was checked"
    return Result(Outcome.HEALTHY, f"{live_off.capitalize()} for everybody {where}: {names}.", details)


def _why(rollout: Rollout) -> str:
    if rollout.emergency_stop:
        return "stopped"
    if not rollout.enabled:
        return "disabled"
    return f"at {percent(rollout.percentage)}"


def _served(url: str, back: Sequence[Rollout], terminal: Terminal, details: dict[str, Any]) -> list[str]:
    """Return what is not off at a server: in ``/health``, and in the configuration for browsers.

    ``/health`` shows one rollout, and must say so when no rollout is live.
    """
    wrong = []
    health = get(f"{url}/health")
    key, (on, off) = conf.live_key, conf.live_words
    said = details[key] = health.get(key)
    terminal.say(f"{url}/health: {key} {said}")
    if said != off and not any(each.is_live for each in Rollout.objects.all()):
        wrong.append(f"{url}/health says {key} {said}")
    document = get(f"{url}/api/rollouts")
    try:
        live_at_site = {each["feature"]: _live(each) for each in document["rollouts"]}
    except (LookupError, TypeError):
        raise Unavailable(f"{url}/api/rollouts did not answer with rollouts.") from None
    for rollout in back:
        served = {None: "nothing", True: on, False: off}[live_at_site.get(rollout.feature)]
        terminal.say(f"{url}/api/rollouts: {rollout.feature} is {served}")
        if served != off:
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
