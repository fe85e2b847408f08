"""The state of a rollout and what happens next, as sentences for operators."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from rollout import store
from rollout.conf import conf
from rollout.judge.scoring import Signal
from rollout.models import Check, Rollout, Stage
from rollout.presentation.history import Line
from rollout.presentation.wording import ANOTHER_VERSION, MISREAD, read, sentence
from rollout.units import duration, percent

MISSED_CHECKS = 3  # more than these missed, and the judge counts as away


def states(rollout: Rollout, rollback: Line | None = None) -> list[tuple[str, str]]:
    """Return the states that stand out from a stage, the gravest first: a style sheet's name and a label.

    ``rollback``: the change that rolled it back, if it still is; it put the rollout on hold too.
    """
    by_judge = rollback is not None and rollback.is_by_judge
    conditions = {
        ("stopped", "Stopped"): rollout.emergency_stop,
        ("disabled", "Disabled"): not rollout.enabled,
        ("rolled-back", "Rolled back by the judge" if by_judge else "Rolled back"): rollback is not None,
        ("hold", "On hold"): rollout.on_hold and rollback is None,
    }
    return [state for state, applies in conditions.items() if applies]


def next_step(percentage: Decimal) -> int | None:
    """Return the percentage that *promote* sets at ``percentage``, if there is a higher step."""
    return next((step for step in conf.policy.steps if step > percentage), None)


def climbed(before: Decimal, after: Decimal) -> bool:
    return after == next_step(before)


@dataclass(frozen=True, slots=True)
class Outlook:
    """The next step, and when at the earliest. ``late``: the judge has missed its checks."""

    sentences: list[str]
    due_at: datetime | None = None
    late: bool = False


def what_next(rollout: Rollout, check: Check | None, *, now: datetime) -> Outlook:
    """Return what happens next, and who does it. ``check`` is the latest of this stage, if there is one."""
    if not rollout.is_judged:
        return Outlook(_by_hand(rollout))
    if is_late(rollout, check, now=now):
        checked = f"{last_check_at(rollout, check):%Y-%m-%d %H:%M} UTC"
        return Outlook(
            [
                f"No check since {checked}: is Celery beat running?",
                "Until it runs, the judge neither promotes nor rolls back.",
            ],
            late=True,
        )
    if check is None:
        return Outlook([f"Not checked yet. The judge checks every {duration(conf.policy.check_interval)}."])
    try:
        return _from_check(rollout, check)
    except MISREAD:
        return Outlook(["Another version stored the last check. The next check says what happens next."])


def is_calm(rollout: Rollout, check: Check | None, rollback: Line | None, *, now: datetime) -> bool:
    """Return whether no signal speaks against a higher percentage. ``check`` is the latest of this stage."""
    if not rollout.is_judged:
        return rollback is None
    return check is not None and check.signal == Signal.GREEN and not is_late(rollout, check, now=now)


def not_met(rollout: Rollout, check: Check | None, rollback: Line | None, *, now: datetime) -> list[str]:
    """Return what the judge would still wait for before a higher percentage, in sentences."""
    if not rollout.is_judged:
        return [f"Rolled back by {rollback.who}: {sentence(rollback.why)}"] if rollback else []
    if is_late(rollout, check, now=now):
        return what_next(rollout, check, now=now).sentences[:1]
    if check is None:
        return ["Not checked yet in this stage."]
    reading = read(check)
    if reading is None:
        return [ANOTHER_VERSION]
    if check.signal != Signal.GREEN:
        return reading.why
    return [] if check.decision["advice"] == "promote" else [check.decision["next"]]


def _from_check(rollout: Rollout, check: Check) -> Outlook:
    """Return what a check of this stage announced, unless the rollout was changed after it."""
    if changed := _changed_since(rollout, check):
        return Outlook([f"{changed} The next check updates this."])
    due_at = check.decision["due_at"] and datetime.fromisoformat(check.decision["due_at"])
    # A red check says when it is rolled back; when it would be promoted is not what happens next.
    ahead = due_at and due_at > check.at and check.signal != Signal.RED
    return Outlook([check.decision["next"]], due_at if ahead else None)


def _by_hand(rollout: Rollout) -> list[str]:
    """Return what an operator can do next with a rollout that is not judged."""
    if rollout.emergency_stop:
        return [
            f"Everybody gets {conf.without} until an operator releases the rollout.",
            f"Release brings it back at {percent(rollout.percentage)}"
            + (", on hold." if rollout.on_hold else ".")
            + (
                "" if rollout.enabled else " It is disabled too: nobody gets the feature until it is enabled."
            ),
        ]
    if not rollout.enabled:
        return [
            f"Nobody gets the feature until it is enabled. Then {percent(rollout.percentage)} of browsers get it."
        ]
    if rollout.stage == Stage.COMPLETE:
        return ["Complete: every browser gets the feature. Nothing is left to do."]
    step = next_step(rollout.percentage)
    if rollout.on_hold:
        return [
            f"Nobody gets the feature until an operator resumes the rollout. Then Promote starts it at {step} %."
        ]
    return [f"Nobody gets the feature yet. Promote starts it at {step} %."]


def _changed_since(rollout: Rollout, check: Check) -> str:
    """Return the change after the check that outdates its plan, in words; empty for none."""
    if rollout.on_hold != check.state["on_hold"]:
        return (
            f"On hold at {percent(rollout.percentage)} until an operator resumes it."
            if rollout.on_hold
            else "The rollout was resumed."
        )
    if (rollout.timeline, rollout.auto_rollback) != (check.state["timeline"], check.state["auto_rollback"]):
        return "The configuration was changed."
    return ""


def not_judged(rollout: Rollout) -> str:
    """Return why the judge does not evaluate a rollout; empty if it does."""
    if rollout.is_judged:
        return ""
    if rollout.emergency_stop:
        return "it is stopped"
    if not rollout.enabled:
        return "it is disabled"
    return "it is complete" if rollout.percentage else "nobody gets the feature"


def last_check_at(rollout: Rollout, check: Check | None) -> datetime:
    """Return the time of the latest check of this stage, or the start of the stage before its first check."""
    return max(check.at if check else rollout.stage_started_at, rollout.stage_started_at)


def is_late(rollout: Rollout, check: Check | None, *, now: datetime) -> bool:
    """Return whether the judge has missed more than three checks. ``check`` is the latest of this stage."""
    if not rollout.is_judged:
        return False
    return now - last_check_at(rollout, check) > MISSED_CHECKS * conf.policy.check_interval


def judge_state() -> str:
    """Return whether the judge makes its checks: ``ok``, ``late``, or ``idle`` when there is nothing to judge."""
    longest = store.longest_unchecked()
    if longest is None:
        return "idle"
    return "late" if longest > MISSED_CHECKS * conf.policy.check_interval else "ok"


def done_message(name: str, rollout: Rollout) -> str:
    """Return what a button has done, in a sentence for the operator."""
    feature = rollout.feature
    message = {
        "hold": f"{feature} is on hold at {percent(rollout.percentage)} until an operator resumes it.",
        "resume": f"{feature} is no longer on hold, at {percent(rollout.percentage)}.",
        "roll-back": f"{feature} is rolled back to 0 % and on hold: browsers go back to {conf.without}.",
        "release": f"{feature} is released, at {percent(rollout.percentage)}"
        + (", on hold." if rollout.on_hold else "."),
        "complete": f"{feature} is complete: on for everybody, no longer judged, and migrations are not tracked.",
        "configure": f"The configuration of {feature} is changed.",
    }.get(name, f"{feature} is at {percent(rollout.percentage)}.")
    if rollout.emergency_stop:
        return f"{message} It is still stopped: everybody gets {conf.without}."
    if not rollout.enabled:
        return f"{message} It is disabled: nobody gets it."
    return message if name in {"hold", "resume", "complete"} else f"{message} {poll_message()}"


def poll_message() -> str:
    return f"Open pages follow within {conf.poll_interval} s."
