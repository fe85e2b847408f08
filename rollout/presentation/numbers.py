"""The numbers of a stored check: population, clock of the stage, rates, what is unsigned, what failed.

An operator in a hurry sees those that are *urgent*; the rest is folded. No query, no SciPy.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec

from rollout.judge.events import ErrorClass
from rollout.models import Check
from rollout.presentation.criteria import interval_name, interval_words, is_of_earlier_rules, limits_of
from rollout.units import brief_ratio, clients, duration, points, ratio

UNJUDGED = {  # reasons to leave an event out, as rollout.store gives them
    "stale": "old when sent",
    "before_stage": "from before the stage",
    "unsigned": "without a ticket",
    "capped": "of clients over their network's cap",
}


OTHER = {ErrorClass.DEFAULT: "other"}  # the class that a screen names in another word


@dataclass(frozen=True, slots=True)
class Number:
    """A name, a value, and notes below it."""

    name: str
    value: str
    aside: str = ""  # beside the value
    notes: list[str] = field(default_factory=list)
    events: list[tuple[str, int]] = field(default_factory=list)  # names that browsers sent, and their number
    urgent: bool = False


def numbers(check: Check) -> Iterator[Number]:
    """Yield the numbers of a check, the most important first."""
    if is_of_earlier_rules(check):
        yield from _of_earlier_rules(check)
    else:
        yield _population(check)
        yield _clock(check)
    yield _success(check)
    if not is_of_earlier_rules(check):
        yield from _of_voices(check)
    yield _failed_events(check)
    yield Number("Events", f"{check.evidence['events']:,} from {clients(check.evidence['clients'])}")
    yield _lost(check.evidence)
    yield _sessions(check.decision["carry"]["totals"])


def _of_earlier_rules(check: Check) -> Iterator[Number]:
    """Yield what only checks of earlier versions have."""
    evidence, totals = check.evidence, check.decision["carry"]["totals"]
    yield Number("Samples", clients(totals["sample"]), f"({check.policy['sample_min']} needed)", urgent=True)
    with_feature, without = clients(evidence["treatment"]), clients(evidence["control"])
    yield Number("Clients in this check", f"{with_feature} with the feature, {without} without")


def _of_voices(check: Check) -> Iterator[Number]:
    yield _error_rates(check)
    if limits_of(check).is_long:
        yield _window(check)
    yield from _unsigned(check)
    yield _baseline(check)
    yield _unjudged(check.evidence)
    yield _unknown(check.evidence["unknown"])


def _population(check: Check) -> Number:
    totals = check.decision["carry"]["totals"]
    return Number(
        "Clients with the feature",
        f"{limits_of(check).clients:,} active",
        "in this check",
        [f"{clients(totals['treatment'])} in this stage ({check.policy['sample_min']} needed)"],
        urgent=True,
    )


def _clock(check: Check) -> Number:
    """Return the time that counted towards the next step, and which checks count."""
    carry, wait = check.decision["carry"], check.decision.get("wait")
    is_watch = check.percentage >= 100
    counted = duration(_whole_seconds(_time(carry["calm" if is_watch else "watched"])))
    had_errors = carry["errors_in_stage"] or carry["reds_in_stage"]
    strict = check.state.get("timeline") == "accelerated" and not had_errors
    notes = ["Only green checks count" if strict else "Green and yellow checks count"]
    notes.append("A high score resets it" if is_watch else "A red check resets it")
    if wait is None:
        notes = ["A check of this stage was red: only a person promotes"]
    value = f"{counted} of {duration(_time(wait))} counted" if wait else f"{counted} counted"
    return Number("Clock of the stage", value, notes=notes, urgent=True)


def _success(check: Check) -> Number:
    totals, assessment = check.decision["carry"]["totals"], check.decision["assessment"]
    policy, interval = check.policy, assessment["interval"]
    goal, red = policy["migration_success_green"], policy["migration_success_red"]
    tried = totals["succeeded"] + totals["failed"]
    value = (
        f"{brief_ratio(assessment['rate'], [goal, red])} of {clients(tried)}"
        if tried
        else "no migrations yet"
    )
    notes = [f"{interval_name(policy)} {interval_words(interval, [goal])}"] if interval else []
    aside = "" if check.state.get("track_migrations", True) else "(tracking is off)"
    return Number(
        "Migration success rate", value, aside, [*notes, _certified(assessment, policy)], urgent=True
    )


def _certified(assessment: dict[str, Any], policy: dict[str, Any]) -> str:
    goal, needed = ratio(policy["migration_success_green"]), 1 / policy["alpha"]
    if assessment["certified"]:
        return f"certified at {goal}"
    if assessment["rate"] is None:
        return f"not certified at {goal}"
    return f"not certified at {goal}: evidence {min(assessment['certificate_e'], needed):.1f} ({needed:.0f} needed)"


def _error_rates(check: Check) -> Number:
    """Return the share of clients with errors in the stage, with and without the feature."""
    totals, assessment = check.decision["carry"]["totals"], check.decision["assessment"]
    policy = check.policy

    def rate(errors: int, many: int) -> str:
        many = max(many, errors)
        return f"{brief_ratio(errors / many, [policy['error_rate_good']])} of {clients(many)}" if many else ""

    def within(interval: list[float] | None) -> str:
        return interval_words(interval, [policy["error_rate_good"]]) if interval else ""

    ours = rate(totals["treatment_errors"], totals["treatment"])
    theirs = rate(totals["control_errors"], totals["control"])
    notes = []
    if around := within(assessment["error_interval"]):
        notes.append(f"{interval_name(policy)} {around}")
    if theirs:
        notes.append(f"without the feature {theirs} ({within(assessment['baseline_error_interval'])})")
    return Number("Clients with errors", ours or "no clients yet", notes=notes, urgent=True)


def _window(check: Check) -> Number:
    windows = limits_of(check).windows
    length = duration(_time(check.policy["check_interval"]) * windows)
    return Number(
        "Time since the previous check",
        length,
        notes=[f"{windows:,} intervals: the limits of the score grow with them"],
        urgent=True,
    )


def _unsigned(check: Check) -> Iterator[Number]:
    """Yield what came without a ticket, and what it counts for."""
    evidence, mode = check.evidence, check.policy["unsigned_telemetry"]
    ours, theirs = evidence["unsigned"], evidence["unsigned_baseline"]
    if mode != "network":
        counts = {"full": "each client id counts as a client", "none": "not judged"}
        yield Number("Unsigned telemetry", counts.get(mode, mode), f"(ROLLOUT_UNSIGNED_TELEMETRY={mode})")
        return
    notes = []
    if evidence["networks"]:
        notes.append(
            f"{ours['active']:,} active with the feature, {ours['failing']:,} with failures; "
            f"without it {theirs['active']:,} and {theirs['failing']:,}"
        )
    notes.append("One voice for each network; it can hold a rollout, and promotes nothing")
    many = evidence["networks"]
    networks = "1 network" if many == 1 else f"{many:,} networks"
    value = f"{networks}, {evidence['unsigned_events']:,} events" if many else "none"
    yield Number("Unsigned telemetry", value, notes=notes, urgent=many > 0)


def _baseline(check: Check) -> Number:
    side, totals = check.evidence["baseline"], check.decision["carry"]["totals"]
    notes = [f"{clients(totals['control'])} in this stage"]
    if side["failing"]:
        notes.append(f"{points(side['score'])}, {clients(side['failing'])} with failures")
    return Number("Clients without the feature", f"{side['active']:,} active", "in this check", notes)


def _unjudged(evidence: dict[str, Any]) -> Number:
    """Return the events that the check left out, by reason."""
    unjudged = evidence.get("unjudged") or {}
    reasons = [f"{events:,} {UNJUDGED.get(reason, reason)}" for reason, events in unjudged.items() if events]
    return Number("Events not judged", f"{sum(unjudged.values()):,}" if reasons else "none", notes=reasons)


def _unknown(side: dict[str, Any]) -> Number:
    value = f"{clients(side['active'])}, {side['errors']:,} failed events" if any(side.values()) else "none"
    notes = ["Yellow at most, and in no sample"] if any(side.values()) else []
    return Number("Events without a flag or a variant", value, notes=notes, urgent=side["failing"] > 0)


def _failed_events(check: Check) -> Number:
    errors = check.evidence["errors"]
    by_class = [f"{errors[each]:,} {OTHER.get(each, each)}" for each in ErrorClass if errors.get(each)]
    return Number(
        "Failed events",
        ", ".join(by_class) or "none",
        "in this check",
        [f"{check.decision['carry']['errors_in_stage']:,} in this stage"],
        sorted(check.evidence["names"].items(), key=lambda item: -item[1]),
        urgent=bool(errors) and check.signal != "green",
    )


def _lost(evidence: dict[str, Any]) -> Number:
    """Return the losses, of the clients that the judge compares them with; earlier versions took all of the check."""
    lossy = evidence["lossy_clients"]
    sides = [evidence[name]["active"] for name in ("feature", "baseline") if name in evidence]
    many = max(sum(sides), lossy) if sides else evidence["clients"]
    value = f"{evidence['lost']:,} events by {lossy:,} of {clients(many)}" if lossy else "none"
    return Number("Lost telemetry", value, urgent=lossy > 0)


def _sessions(totals: dict[str, int]) -> Number:
    errors, sessions = totals["error_sessions"], totals["sessions"]
    rate = f"{errors:,} of {sessions:,} ({brief_ratio(min(errors / sessions, 1))})" if sessions else ""
    return Number("Sessions with errors", rate or "no sessions yet")


def _time(stored: str) -> timedelta:
    return msgspec.convert(stored, timedelta, strict=False)


def _whole_seconds(time: timedelta) -> timedelta:
    return timedelta(seconds=round(time.total_seconds()))
