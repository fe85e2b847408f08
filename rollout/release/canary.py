"""The canary of a deployment: give a rollout at 0 % its first browsers (runbook, "Phase 3: Canary Monitoring")."""

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from functools import partial

from rollout import operations
from rollout.models import Deployment, Rollout, Stage
from rollout.release.errors import Missing, Refused, ReleaseError
from rollout.release.terminal import Terminal
from rollout.units import percent


def subjects(named: Sequence[str], canary: Decimal, terminal: Terminal) -> tuple[str, ...]:
    """Return the rollouts of a deployment: the named ones, else those under way, else the only one.

    Call it before the merge, so that nothing is merged that nobody can watch.

    Args:
        canary: percentage for a rollout at 0 %; 0 to start none.

    Raises:
        Refused: a rollout is stopped, disabled or on hold.
        ReleaseError: nothing can be monitored, or it is not clear which rollout is meant.
    """
    rollouts = list(Rollout.objects.filter(feature__in=named) if named else Rollout.objects.all())
    live = [rollout for rollout in rollouts if rollout.is_judged]
    idle = [rollout for rollout in rollouts if not rollout.is_judged]
    if not canary:
        return _names(rollouts if named else live)
    if named:
        for rollout in idle:
            _require(rollout, canary)
        return _names(rollouts)
    if live:
        for rollout in idle:
            if not obstacle(rollout):
                terminal.warn_once(f"{rollout.feature} stays at 0 %: --feature {rollout.feature} starts it.")
        return _names(live)
    return (_only(idle, canary).feature,)


def _only(idle: Sequence[Rollout], canary: Decimal) -> Rollout:
    """Return the one rollout that can be started."""
    startable = [rollout for rollout in idle if not obstacle(rollout)] or idle
    if not startable:
        raise Missing("There is no rollout: create one with manage.py rollout create.")
    if len(startable) > 1:
        raise ReleaseError(f"Which rollout is meant? Name it: --feature {' or '.join(_names(startable))}.")
    _require(startable[0], canary)
    return startable[0]


def _require(rollout: Rollout, canary: Decimal) -> None:
    """Raise an error for a rollout that cannot be started."""
    if why := obstacle(rollout):
        error = ReleaseError if rollout.stage == Stage.COMPLETE else Refused
        raise error(f"{rollout.feature} {why}.")
    try:
        operations.require_step(rollout, canary)
    except operations.OperationError as wrong:
        raise ReleaseError(f"--canary for {rollout.feature}: {wrong}") from None


def obstacle(rollout: Rollout) -> str:
    """Return why a rollout cannot be started, and what to do; "" if it can."""
    feature = rollout.feature
    if rollout.emergency_stop:
        return f"is stopped: release it first (manage.py rollout release {feature} --reason …)"
    if not rollout.enabled:
        return f"is disabled: enable it first (manage.py rollout configure {feature} --enabled on --reason …)"
    if rollout.stage == Stage.COMPLETE:
        return "is complete, on for everybody and no longer judged"
    if rollout.on_hold:
        return f"is at 0 % and on hold: resume it first (manage.py rollout resume {feature} --reason …)"
    return ""


def start(
    subjects: Callable[[], tuple[str, ...]],
    canary: Decimal,
    deployment: Deployment | None,
    terminal: Terminal,
) -> tuple[str, ...]:
    """Set each rollout at 0 % to the canary, and return all that are to be monitored.

    A higher one stays, and so does one that somebody has taken back since the merge. ``deployment`` is ``None`` in a
    dry run before the merge.
    """
    try:
        features = subjects()
    except ReleaseError as error:
        if deployment is None:
            raise
        terminal.warn_once(str(error))
        return ()
    for feature in features if canary else ():
        rollout = Rollout.objects.get(feature=feature)
        if rollout.percentage:
            terminal.say(f"{feature} is at {percent(rollout.percentage)}, and stays there.")
        elif why := _taken_back(rollout, deployment):
            terminal.warn_once(f"{feature} {why}.")
        else:
            what = f"set {feature} to {percent(canary)}"
            terminal.outside(what, partial(_start, feature, canary, deployment))
    return features


def _start(feature: str, canary: Decimal, deployment: Deployment | None) -> None:
    """Start a rollout, unless somebody else has changed it meanwhile."""
    while True:
        rollout = Rollout.objects.get(feature=feature)
        if rollout.percentage or obstacle(rollout) or _taken_back(rollout, deployment):
            return
        of = f" of #{deployment.pull_request}" if deployment else ""
        try:
            operations.set_percentage(
                feature, canary, reason=f"deploy_with_confidence: canary{of}", version=rollout.version
            )
        except operations.StaleEdit:
            continue


def _taken_back(rollout: Rollout, deployment: Deployment | None) -> str:
    """Return that a rollout was higher since the deployment; "" if it was not."""
    if deployment is None:
        return ""
    later = rollout.history.filter(history_date__gte=deployment.deployed_at, percentage__gt=0)
    if not later.exists():
        return ""
    return (
        f"was taken back to 0 % since the deployment: set its percentage yourself "
        f"(manage.py rollout set {rollout.feature} 10 --reason …)"
    )


def _names(rollouts: Iterable[Rollout]) -> tuple[str, ...]:
    return tuple(rollout.feature for rollout in rollouts)
