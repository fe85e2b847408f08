"""The state of a rollout and what happens next, as sentences for operators."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from rollout.conf import conf
from rollout.models import Check, Rollout, Stage
from rollout.presentation.wording import MISREAD
from rollout.units import duration, percent

MISSED_CHECKS = 3  # more than these missed, and the judge counts as away


def states(rollout: Rollout) -> list[tuple[str, str]]:
    """Return the states that are not normal, the gravest first: a style sheet's name and a label."""
    conditions = {
        ("stopped", "Stopped"): rollout.emergency_stop,
        ("disabled", "Disabled"): not rollout.enabled,
        ("hold", "On hold"): rollout.on_hold,
    }
    return [state for state, applies in conditions.items() if applies]


def next_step(percentage: Decimal) -> int | None:
    """Return the percentage that *promote* climbs to from ``percentage``, if there is one."""
    return next((step for step in conf.policy.steps if step > percentage), None)


def climbed(before: Decimal, after: Decimal) -> bool:
    return after == next_step(before)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What happens next, and when if nothing gets in the way. ``late``: the judge should have looked since."""

    sentences: list[str]
    due_at: datetime | None = None
    late: bool = False


def what_next(rollout: Rollout, check: Check | None, *, now: datetime) -> Outlook:
    """Say what happens next, and who has to do it. ``check`` is the latest of this stage, if there is one."""
    if not rollout.is_judged:
        return Outlook(_by_hand(rollout))
    if is_late(rollout, check, now=now):
        looked = f"{last_check_at(rollout, check):%Y-%m-%d %H:%M} UTC"
        return Outlook(
            [
                f"The judge has not looked since {looked}: is Celery beat running?",
                "Until it does, nothing climbs or rolls back by itself.",
            ],
            late=True,
        )
    if check is None:
        return Outlook([f"Not checked yet. The judge looks every {duration(conf.policy.check_interval)}."])
    try:
        return _from_check(rollout, check)
    except MISREAD:
        return Outlook(["Another version stored the last check. The next check tells what follows."])


def _from_check(rollout: Rollout, check: Check) -> Outlook:
    """Say what a check of this stage expects, unless the rollout was changed since."""
    if changed := _changed_since(rollout, check):
        return Outlook([f"{changed} The next check tells what follows."])
    due_at = check.decision["due_at"] and datetime.fromisoformat(check.decision["due_at"])
    return Outlook([check.decision["next"]], due_at if due_at and due_at > check.at else None)


def _by_hand(rollout: Rollout) -> list[str]:
    """Say what happens next to a rollout that is not judged: what somebody does."""
    if rollout.emergency_stop:
        return [
            "Everybody gets legacy until somebody releases it.",
            f"Release brings it back at {percent(rollout.percentage)}"
            + (", on hold." if rollout.on_hold else ".")
            + ("" if rollout.enabled else " It is disabled as well: nobody gets it until it is enabled."),
        ]
    if not rollout.enabled:
        return [
            f"Nobody gets the feature until it is enabled; then {percent(rollout.percentage)} of browsers get it."
        ]
    if rollout.stage == Stage.COMPLETE:
        return ["Complete: every browser gets the feature. Nothing is left to do."]
    step = next_step(rollout.percentage)
    if rollout.on_hold:
        return [
            f"Nobody gets the feature until somebody resumes it. After that, promote starts it at {step} %."
        ]
    return [f"Nobody gets the feature yet. Promote starts it at {step} %."]


def _changed_since(rollout: Rollout, check: Check) -> str:
    """Say what the check did not know: what it says about the future is out of date."""
    if rollout.on_hold != check.state["on_hold"]:
        return (
            f"It stays at {percent(rollout.percentage)} until somebody resumes it."
            if rollout.on_hold
            else "It is resumed."
        )
    if (rollout.timeline, rollout.auto_rollback) != (check.state["timeline"], check.state["auto_rollback"]):
        return "The configuration was changed."
    return ""


def not_judged(rollout: Rollout) -> str:
    """Say why the judge does not look at a rollout; empty if it does."""
    if rollout.is_judged:
        return ""
    if rollout.emergency_stop:
        return "it is stopped"
    if not rollout.enabled:
        return "it is disabled"
    return "it is complete" if rollout.percentage else "nobody gets the feature"


def last_check_at(rollout: Rollout, check: Check | None) -> datetime:
    """Return when the judge last looked at this stage, or when it could first have done so."""
    return max(check.at if check else rollout.stage_started_at, rollout.stage_started_at)


def is_late(rollout: Rollout, check: Check | None, *, now: datetime) -> bool:
    """Tell whether the judge has missed more than three checks. ``check`` is the latest of this stage."""
    if not rollout.is_judged:
        return False
    return now - last_check_at(rollout, check) > MISSED_CHECKS * conf.policy.check_interval


def done_message(name: str, rollout: Rollout) -> str:
    """Say what a button has done."""
    feature = rollout.feature
    message = {
        "hold": f"{feature} is on hold at {percent(rollout.percentage)}: nothing climbs until it is resumed.",
        "resume": f"{feature} is no longer on hold, at {percent(rollout.percentage)}.",
        "roll-back": f"{feature} is rolled back to 0 % and on hold: browsers go back to legacy.",
        "release": f"{feature} is released, at {percent(rollout.percentage)}"
        + (", on hold." if rollout.on_hold else "."),
        "complete": f"{feature} is complete: on for everybody, no longer judged, and migrations are not tracked.",
        "configure": f"The configuration of {feature} is changed.",
    }.get(name, f"{feature} is at {percent(rollout.percentage)}.")
    if rollout.emergency_stop:
        return f"{message} It is still stopped: everybody gets legacy."
    if not rollout.enabled:
        return f"{message} It is disabled: nobody gets it."
    return message if name in {"hold", "resume", "complete"} else f"{message} {poll_message()}"


def poll_message() -> str:
    return f"Open pages follow when they next ask, which they do every {conf.poll_interval} s."
