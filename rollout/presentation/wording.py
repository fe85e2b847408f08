"""A stored check in words: its signal, the reasons, what else is wrong; with its numbers and its criteria.

No query: it reads the stored JSON of the check, so that web workers load neither the judge's decisions nor SciPy.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from rollout.judge.scoring import Signal
from rollout.models import Check
from rollout.presentation.criteria import Criterion, is_of_earlier_rules, statistics, thresholds
from rollout.presentation.numbers import Number, numbers

ALL_GREEN = "Every threshold and every test is green."
SUMMARIES = {Signal.YELLOW: "Degraded", Signal.RED: "Unhealthy"}
DONE = {
    "promote": "Promoted",
    "roll_back": "Rolled back",
    "complete": "Completed",
}
# Raised by reading a check that another version stored with other names.
MISREAD = (LookupError, TypeError, ValueError, AttributeError, msgspec.ValidationError)
ANOTHER_VERSION = "Another version stored this check."
MANY_EVENTS = 20  # of one network in a check: too many for one person
# Conditions by the names of `rollout.judge.cells.Condition`: their meaning, and what to do.
CONDITIONS = {
    "weather": (
        "Everybody has errors, also clients without the feature: look for what they share, such as the backend."
    ),
    "baseline": (
        "Only clients without the feature fail: a rollback would move everybody onto the failing side. "
        "Look at what they use."
    ),
    "unsigned": (
        "Fewer than {enough} networks report failures without a ticket, and such reports can be made up: "
        "look at the telemetry events, and roll back yourself if they are true."
    ),
}
BLOCKED = "No promotion, and no rollback for these errors"
BLOCKED_RED = "No promotion"  # something else is red, and may roll back
ONE_NETWORK = "All unsigned telemetry comes from one network"
PROXY = (
    "{events:,} events in this check. Behind a proxy that TRUSTED_PROXIES does not count, everybody is one network: "
    "set it to the number of proxies."
)


@dataclass(frozen=True, slots=True)
class Criteria:
    """The thresholds or the statistical tests, with the signal of all of them."""

    name: str
    signal: Signal
    rows: list[Criterion]


@dataclass(frozen=True, slots=True)
class Notice:
    """A condition beside the signal: a heading, and what it means for the rollout."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Reading:
    """A check as the screens show it."""

    signal: Signal
    summary: str
    why: list[str]  # reasons of the signal; none for green
    action: str  # of the judge, as a word; empty for none
    is_of_earlier_rules: bool
    notices: list[Notice]
    reds: int  # in a row
    reds_max: int
    numbers: list[Number]
    thresholds: Criteria
    statistics: Criteria

    @property
    def dots(self) -> list[bool]:
        """Return one for each red check that trips the breaker, true for those that happened."""
        return [place < self.reds for place in range(self.reds_max)]

    @property
    def breaker(self) -> str:
        """Return how far the breaker is, in words."""
        if self.reds < self.reds_max:
            return f"{self.reds} of {self.reds_max} consecutive red checks"
        return f"tripped: {self.reds:,} consecutive red checks ({self.reds_max} needed)"

    @property
    def urgent(self) -> list[Number]:
        return [each for each in self.numbers if each.urgent]

    @property
    def folded(self) -> list[Number]:
        return [each for each in self.numbers if not each.urgent]


def read(check: Check) -> Reading | None:
    """Return a check in words, or ``None`` if another version stored it in a way that cannot be read."""
    try:
        return _read(check)
    except MISREAD:
        return None


def rollback_reason(check: Check) -> str:
    """Return the reason for a rollback because of a red check, for the history."""
    reading = read(check)
    return f"Red at {check.at:%H:%M} UTC" + (f": {reading.summary}" if reading else ".")


def _read(check: Check) -> Reading:
    decision = check.decision
    signal = Signal(check.signal)
    by_threshold, by_test = list(thresholds(check)), list(statistics(check))
    conditions = list(_conditions(check))
    return Reading(
        signal=signal,
        summary=_summary(signal, decision["holds"], conditions, [*by_threshold, *by_test]),
        why=list(_why(decision)),
        action=DONE.get(check.action, ""),
        is_of_earlier_rules=is_of_earlier_rules(check),
        notices=list(_notices(check, conditions)),
        reds=decision["carry"]["reds"],
        reds_max=check.policy["breaker_checks"],
        numbers=list(numbers(check)),
        thresholds=Criteria("Thresholds", Signal(decision["absolute"]), by_threshold),
        statistics=Criteria("Statistics", Signal(decision["statistical"]), by_test),
    )


def _conditions(check: Check) -> Iterator[str]:
    """Yield the conditions of this check; the memory of the stage also has those of earlier checks."""
    carry = check.decision["carry"]
    for condition, latest in carry.get("conditions", {}).items():
        if latest == carry["checked_at"]:
            yield condition


def _notices(check: Check, conditions: list[str]) -> Iterator[Notice]:
    for condition in conditions:
        if condition in CONDITIONS:
            text = CONDITIONS[condition].format(enough=check.policy["unsigned_networks_min"])
            yield Notice(BLOCKED_RED if check.signal == Signal.RED else BLOCKED, text)
    events = check.evidence.get("unsigned_events", 0)
    if check.evidence.get("networks") == 1 and events >= MANY_EVENTS:
        yield Notice(ONE_NETWORK, PROXY.format(events=events))


def _summary(signal: Signal, missing: list[str], conditions: list[str], criteria: list[Criterion]) -> str:
    """Return the signal in a sentence: the first criterion with this signal, and its limits."""
    if signal is Signal.GREEN:
        return f"Healthy: {ALL_GREEN[0].lower()}{ALL_GREEN[1:]}"
    if signal is Signal.NO_DATA and "weather" in conditions:
        return "Not the feature: everybody has errors."
    if signal is Signal.NO_DATA and missing:
        return "Too little telemetry to evaluate."
    criterion = next((each for each in criteria if each.signal is signal), None)
    prefix = f"{SUMMARIES[signal]}: " if signal in SUMMARIES else ""
    if criterion is None:
        return sentence(prefix.removesuffix(": ") or "Too little telemetry to evaluate")
    if not criterion.limits:
        return sentence(f"{prefix}{criterion.value}")
    name, value = criterion.name, criterion.value
    separator = " " if value[0].isdigit() else ": "
    return sentence(
        f"{prefix}{name[0].lower() if prefix else name[0]}{name[1:]}{separator}{value} ({criterion.limits})"
    )


def _why(decision: dict[str, Any]) -> Iterator[str]:
    """Yield the reasons of the signal; none for green."""
    signal = decision["signal"]
    if signal == Signal.GREEN:
        return
    for cell in decision["cells"]:
        if cell["signal"] == signal:
            yield sentence(_in_brackets(cell["says"]) if cell.get("condition") == "weather" else cell["says"])
    if signal == Signal.NO_DATA:
        yield from map(sentence, decision["holds"])
    if decision["statistical"] == signal:
        yield from map(sentence, decision["assessment"]["reasons"])


def _in_brackets(text: str) -> str:
    """Return what the brackets of a text hold: of weather they have the number, and the summary has the rest."""
    return text.partition("(")[2].rpartition(")")[0] or text


def sentence(text: str) -> str:
    """Return text with a capital at its start and one full stop at its end."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
