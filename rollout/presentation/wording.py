"""What a stored check says, as an operator reads it: words and numbers, beside the limits that they are held to.

Pure. It reads the JSON that the check was stored with, so the web workers need not load the judge, nor SciPy.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rollout.judge.events import ErrorClass
from rollout.judge.scoring import Signal
from rollout.models import Check
from rollout.units import ratio

MEANS = {
    Signal.GREEN: "Nothing speaks against it.",
    Signal.YELLOW: "Something is not as good as it should be.",
    Signal.NO_DATA: "Nobody can tell: too little is known.",
    Signal.RED: "Something is wrong.",
}
DONE = {
    "promote": "Promoted",
    "roll_back": "Rolled back",
    "complete": "Completed",
}
MISREAD = (LookupError, TypeError, ValueError, AttributeError)  # what a check with other names in it raises
ANOTHER_VERSION = "Another version stored this check."
SURE = 1e6  # of an e-value; what is rarer is not rarer to a person
SLIGHT = 2  # of an e-value; below, there is nothing to see


@dataclass(frozen=True, slots=True)
class Row:
    """A number, what it is held to, and its colour."""

    name: str
    value: str
    limits: str
    signal: Signal


@dataclass(frozen=True, slots=True)
class Verdict:
    """One of the two opinions on the same numbers."""

    name: str
    signal: Signal
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Reading:
    signal: Signal
    means: str
    why: list[str]  # what makes the signal what it is
    action: str  # what was done, in words; empty for nothing
    thresholds: Verdict
    statistics: Verdict
    reds: int  # consecutive
    reds_max: int
    samples: str
    samples_min: int
    success: str
    interval: str
    certified: str
    lost: str
    sessions: str
    errors: list[tuple[str, int]]  # failed events of the check by class, the gravest first
    names: list[tuple[str, int]]
    errors_in_stage: int

    @property
    def dots(self) -> list[bool]:
        """Return one for each red check that it takes to roll back, true for those that there have been."""
        return [number < self.reds for number in range(self.reds_max)]


def read(check: Check) -> Reading | None:
    """Return what a check says, or ``None`` if another version stored it."""
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
    return Reading(
        signal=signal,
        means=MEANS[signal],
        why=list(_why(decision)),
        action=DONE.get(check.action, ""),
        thresholds=Verdict("Thresholds", Signal(decision["absolute"]), list(_thresholds(check))),
        statistics=Verdict("Statistics", Signal(decision["statistical"]), list(_statistics(check))),
        reds=carry["reds"],
        reds_max=policy["breaker_checks"],
        samples=f"{totals['sample']:,}",
        samples_min=policy["sample_min"],
        success=f"{ratio(assessment['rate'])} of {clients(migrations)}"
        if migrations
        else "no migrations yet",
        interval=f"{ratio(interval[0])} to {ratio(interval[1])}" if interval else "",
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


def _why(decision: dict[str, Any]) -> Iterator[str]:
    """Yield what the signal is due to; nothing for green."""
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


def _thresholds(check: Check) -> Iterator[Row]:
    policy, evidence = check.policy, check.evidence
    totals = check.decision["carry"]["totals"]
    migrations = totals["succeeded"] + totals["failed"]
    signals = {cell["name"]: Signal(cell["signal"]) for cell in check.decision["cells"]}
    capped = evidence["points"] != evidence["score"]
    yield Row(
        "Score of this check",
        f"{check.score}" + (f", of {evidence['points']} before the cap per client" if capped else ""),
        f"green to {policy['score_green_max']}, red from {policy['error_threshold']}",
        signals["score"],
    )
    yield Row(
        "Migration success",
        f"{ratio(totals['succeeded'] / migrations)}, {totals['failed']} of {clients(migrations)} failed"
        if migrations
        else "no migrations yet",
        f"green over {ratio(policy['migration_success_green'])}, "
        f"red under {ratio(policy['migration_success_red'])}",
        signals["migrations"],
    )
    yield Row(
        "Kill-switch users",
        f"{totals['kill_switch']}",
        f"green to {policy['kill_switch_green_max']}, red over {policy['kill_switch_yellow_max']}",
        signals["kill switch"],
    )
    yield Row(
        "Console",
        f"{clients(evidence['console_errors'])} with errors, {evidence['console_warnings']} with warnings",
        f"green without, red from {policy['red_clients_min']} with errors",
        signals["console"],
    )
    holds = check.decision["holds"]
    yield Row(
        "Data",
        ", ".join(holds).capitalize() if holds else "enough to tell",
        f"{policy['sample_min']} clients, alive, nothing lost",
        Signal.NO_DATA if holds else Signal.GREEN,
    )


def _statistics(check: Check) -> Iterator[Row]:
    seen, policy = check.decision["assessment"], check.policy
    red = f"red from 1 of {seen['red_at']:,.0f}"
    good = ratio(policy["failure_rate_good"])
    yield Row(
        f"More than {good} of migrations fail",
        evidence_words(seen["failures_e"]),
        red,
        Signal.RED if seen["failures_e"] >= seen["red_at"] else Signal.GREEN,
    )
    yield Row(
        "More errors with it than without",
        evidence_words(seen["comparison_e"]) if seen["compared"] else "nobody without it to compare with",
        red,
        Signal.RED if seen["comparison_e"] >= seen["red_at"] else Signal.GREEN,
    )
    yield Row(
        "The share of clients is off",
        evidence_words(seen["ratio_e"]) if seen["compared"] else "nobody without it to compare with",
        f"hold from 1 of {1 / policy['ratio_alpha']:,.0f}",
        Signal.NO_DATA if seen["ratio_e"] >= 1 / policy["ratio_alpha"] else Signal.GREEN,
    )
    interval, goal = seen["interval"], policy["migration_success_green"]
    yield Row(
        "Success, whatever chance did",
        f"{ratio(interval[0])} to {ratio(interval[1])}" if interval else "no migrations yet",
        f"yellow if all under {ratio(goal)}",
        Signal.YELLOW if interval and interval[1] < goal else Signal.GREEN,
    )


def evidence_words(e_value: float) -> str:
    """Say an e-value: how seldom chance alone brings so much about, in a stage where all is well."""
    if e_value < SLIGHT:
        return "no sign of it"
    rare = f"over {SURE:,.0f}" if e_value > SURE else f"{e_value:,.0f}"
    return f"chance does this in 1 of {rare} healthy stages"


def _certified(assessment: dict[str, Any], policy: dict[str, Any]) -> str:
    goal, needed = ratio(policy["migration_success_green"]), 1 / policy["alpha"]
    if assessment["certified"]:
        return f"certified: at least {goal}"
    evidence = f", evidence {min(assessment['certificate_e'], needed):.1f} of {needed:.0f}"
    return f"not certified yet: at least {goal}{evidence if assessment['rate'] is not None else ''}"


def _lost(evidence: dict[str, Any]) -> str:
    if not evidence["lossy_clients"]:
        return "none"
    return f"{clients(evidence['lossy_clients'])} of {evidence['clients']} lost {evidence['lost']:,} events"


def _sessions(totals: dict[str, int]) -> str:
    if not totals["sessions"]:
        return "no sessions yet"
    rate = ratio(min(totals["error_sessions"] / totals["sessions"], 1))
    return f"{totals['error_sessions']:,} of {totals['sessions']:,} ({rate})"


def clients(number: int) -> str:
    return "1 client" if number == 1 else f"{number:,} clients"


def sentence(text: str) -> str:
    """Return text with a capital and a full stop, both once."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
