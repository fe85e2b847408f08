"""A stored check in words and numbers, each beside its limits.

No query: it reads the stored JSON of the check, so that web workers load neither the judge's decisions nor SciPy.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rollout.judge.events import ErrorClass
from rollout.judge.scoring import Signal
from rollout.models import Check
from rollout.units import brief_ratio, ratio

ALL_GREEN = "Every threshold and every test is green."
SUMMARIES = {Signal.YELLOW: "Degraded", Signal.NO_DATA: "No data", Signal.RED: "Unhealthy"}
DONE = {
    "promote": "Promoted",
    "roll_back": "Rolled back",
    "complete": "Completed",
}
# Raised by reading a check that another version stored with other names.
MISREAD = (LookupError, TypeError, ValueError, AttributeError)
ANOTHER_VERSION = "Another version stored this check."
E_VALUE_MAX = 1e6  # greater e-values are shown as "over 1,000,000"
E_VALUE_MIN = 2  # smaller e-values are shown as "no evidence"


@dataclass(frozen=True, slots=True)
class Criterion:
    """A measured value, its limits and its signal."""

    name: str
    value: str
    limits: str
    signal: Signal


@dataclass(frozen=True, slots=True)
class Criteria:
    """The thresholds or the statistical tests, with the signal of all of them."""

    name: str
    signal: Signal
    rows: list[Criterion]


@dataclass(frozen=True, slots=True)
class Reading:
    """A check as the screens show it."""

    signal: Signal
    summary: str
    why: list[str]  # reasons of the signal; none for green
    action: str  # of the judge, as a word; empty for none
    thresholds: Criteria
    statistics: Criteria
    reds: int  # in a row
    reds_max: int
    samples: str
    samples_min: int
    success: str
    interval: str
    certified: str
    lost: str
    sessions: str
    errors: list[tuple[str, int]]  # failed events of the check by class, the gravest first
    names: list[tuple[str, int]]  # of those events
    errors_in_stage: int

    @property
    def dots(self) -> list[bool]:
        """Return one for each red check that trips the breaker, true for those that happened."""
        return [number < self.reds for number in range(self.reds_max)]


def read(check: Check) -> Reading | None:
    """Return a check in words, or ``None`` if another version stored it."""
    try:
        return _read(check)
    except MISREAD:
        return None


def _read(check: Check) -> Reading:
    decision, evidence, policy = check.decision, check.evidence, check.policy
    carry, assessment = decision["carry"], decision["assessment"]
    totals = carry["totals"]
    signal = Signal(check.signal)
    interval = assessment["interval"]
    migrations = totals["succeeded"] + totals["failed"]
    goal = policy["migration_success_green"]
    thresholds, statistics = list(_thresholds(check)), list(_statistics(check))
    return Reading(
        signal=signal,
        summary=_summary(signal, decision["holds"], [*thresholds, *statistics]),
        why=list(_why(decision)),
        action=DONE.get(check.action, ""),
        thresholds=Criteria("Thresholds", Signal(decision["absolute"]), thresholds),
        statistics=Criteria("Statistics", Signal(decision["statistical"]), statistics),
        reds=carry["reds"],
        reds_max=policy["breaker_checks"],
        samples=clients(totals["sample"]),
        samples_min=policy["sample_min"],
        success=f"{brief_ratio(assessment['rate'], [goal, policy['migration_success_red']])} of {clients(migrations)}"
        if migrations
        else "no migrations yet",
        interval=f"{_interval_name(policy)} {_interval(interval, goal)}" if interval else "",
        certified=_certified(assessment, policy),
        lost=_lost(evidence),
        sessions=_sessions(totals),
        errors=[
            (error_class.value, evidence["errors"][error_class])
            for error_class in ErrorClass
            if evidence["errors"].get(error_class)
        ],
        names=sorted(evidence["names"].items(), key=lambda item: -item[1]),
        errors_in_stage=carry["errors_in_stage"],
    )


def _summary(signal: Signal, missing: list[str], criteria: list[Criterion]) -> str:
    """Return the signal in a sentence: the first criterion with this signal, and its limits."""
    if signal is Signal.GREEN:
        return f"Healthy: {ALL_GREEN[0].lower()}{ALL_GREEN[1:]}"
    if signal is Signal.NO_DATA and missing:
        return f"{SUMMARIES[signal]}: too little telemetry to evaluate."
    criterion = next((each for each in criteria if each.signal is signal), None)
    if criterion is None:
        return f"{SUMMARIES[signal]}."
    name, value = criterion.name, criterion.value
    separator = " " if value[0].isdigit() else ": "
    return f"{SUMMARIES[signal]}: {name[0].lower()}{name[1:]}{separator}{value} ({criterion.limits})."


def _why(decision: dict[str, Any]) -> Iterator[str]:
    """Yield the reasons of the signal; none for green."""
    signal = decision["signal"]
    if signal == Signal.GREEN:
        return
    for cell in decision["cells"]:
        if cell["signal"] == signal:
            yield sentence(cell["says"])
    if signal == Signal.NO_DATA:
        yield from map(sentence, decision["holds"])
    if decision["statistical"] == signal:
        yield from map(sentence, decision["assessment"]["reasons"])


def _thresholds(check: Check) -> Iterator[Criterion]:
    policy, evidence = check.policy, check.evidence
    totals = check.decision["carry"]["totals"]
    migrations = totals["succeeded"] + totals["failed"]
    signals = {cell["name"]: Signal(cell["signal"]) for cell in check.decision["cells"]}
    capped = evidence["points"] != evidence["score"]
    yield Criterion(
        "Score",
        f"{check.score}" + (f", capped per client from {evidence['points']}" if capped else ""),
        f"green up to {policy['score_green_max']}, red from {policy['error_threshold']}",
        signals["score"],
    )
    green, red = policy["migration_success_green"], policy["migration_success_red"]
    yield Criterion(
        "Migration success rate",
        f"{brief_ratio(totals['succeeded'] / migrations, [green, red])}, "
        f"{totals['failed']:,} of {clients(migrations)} failed"
        if migrations
        else "no migrations yet",
        f"green over {ratio(green)}, red under {ratio(red)}",
        signals["migrations"],
    )
    yield Criterion(
        "Kill-switch users",
        f"{totals['kill_switch']}",
        f"green up to {policy['kill_switch_green_max']}, red over {policy['kill_switch_yellow_max']}",
        signals["kill switch"],
    )
    yield Criterion(
        "Console",
        f"{clients(evidence['console_errors'])} with errors, {evidence['console_warnings']} with warnings",
        f"green at 0, red from {policy['red_clients_min']} with errors",
        signals["console"],
    )
    holds = check.decision["holds"]
    yield Criterion(
        "Data",
        ", ".join(holds).capitalize() if holds else "sufficient",
        f"{policy['sample_min']} clients needed, with heartbeats, without loss",
        Signal.NO_DATA if holds else Signal.GREEN,
    )


def _statistics(check: Check) -> Iterator[Criterion]:
    assessment, policy = check.decision["assessment"], check.policy
    red = f"red from 1 of {assessment['red_at']:,.0f}"
    good = ratio(policy["failure_rate_good"])
    yield Criterion(
        f"Migration failure rate over {good}",
        evidence_words(assessment["failures_e"]),
        red,
        Signal.RED if assessment["failures_e"] >= assessment["red_at"] else Signal.GREEN,
    )
    yield Criterion(
        "Error rate with vs. without the feature",
        evidence_words(assessment["comparison_e"]) if assessment["compared"] else "no control group",
        red,
        Signal.RED if assessment["comparison_e"] >= assessment["red_at"] else Signal.GREEN,
    )
    yield Criterion(
        "Sample ratio mismatch",
        evidence_words(assessment["ratio_e"]) if assessment["compared"] else "no control group",
        f"no data from 1 of {1 / policy['ratio_alpha']:,.0f}",
        Signal.NO_DATA if assessment["ratio_e"] >= 1 / policy["ratio_alpha"] else Signal.GREEN,
    )
    interval, goal = assessment["interval"], policy["migration_success_green"]
    yield Criterion(
        f"Success rate, {_interval_name(policy)}",
        _interval(interval, goal) if interval else "no migrations yet",
        f"yellow if entirely under {ratio(goal)}",
        Signal.YELLOW if interval and interval[1] < goal else Signal.GREEN,
    )


def evidence_words(e_value: float) -> str:
    """Return an e-value in words: how rarely chance alone reaches it in a healthy stage."""
    if e_value < E_VALUE_MIN:
        return "no evidence"
    stages = f"over {E_VALUE_MAX:,.0f}" if e_value > E_VALUE_MAX else f"{e_value:,.0f}"
    return f"by chance in 1 of {stages} healthy stages"


def _interval_name(policy: dict[str, Any]) -> str:
    return f"{ratio(1 - policy['alpha'])} interval"


def _interval(interval: list[float], goal: float) -> str:
    low, high = (brief_ratio(rate, [goal]) for rate in interval)
    return f"{low} to {high}"


def _certified(assessment: dict[str, Any], policy: dict[str, Any]) -> str:
    goal, needed = ratio(policy["migration_success_green"]), 1 / policy["alpha"]
    if assessment["certified"]:
        return f"certified at {goal}"
    if assessment["rate"] is None:
        return f"not certified at {goal}"
    return f"not certified at {goal}: evidence {min(assessment['certificate_e'], needed):.1f} ({needed:.0f} needed)"


def _lost(evidence: dict[str, Any]) -> str:
    if not evidence["lossy_clients"]:
        return "none"
    return f"{evidence['lost']:,} events by {evidence['lossy_clients']:,} of {clients(evidence['clients'])}"


def _sessions(totals: dict[str, int]) -> str:
    if not totals["sessions"]:
        return "no sessions yet"
    rate = brief_ratio(min(totals["error_sessions"] / totals["sessions"], 1))
    return f"{totals['error_sessions']:,} of {totals['sessions']:,} ({rate})"


def clients(number: int) -> str:
    return "1 client" if number == 1 else f"{number:,} clients"


def sentence(text: str) -> str:
    """Return text with a capital at its start and one full stop at its end."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
