"""The criteria of a stored check: each threshold and each test, with its value, its limits and its signal.

No query: it reads the stored JSON of the check, so that web workers load neither the judge's decisions nor SciPy.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import msgspec

from rollout.judge.scoring import Signal, Thresholds
from rollout.models import Check
from rollout.units import brief_ratio, clients, points, ratio, ratio_range

E_VALUE_MAX = 1e6  # greater e-values are shown as "fewer than 1 of 1,000,000"
E_VALUE_MIN = 2  # smaller e-values are shown as "no evidence"
NAMES = {  # of a cell
    "server": "Failed creates (server)",
    "score": "Score",
    "migrations": "Migration success rate",
    "kill switch": "Kill-switch users",
    "console": "Console",
    "unsigned": "Unsigned telemetry",
    "without the feature": "Clients without the feature",
}


@dataclass(frozen=True, slots=True)
class Criterion:
    """A measured value, its limits and its signal. Without limits, the value is a sentence that has them."""

    name: str
    value: str
    limits: str
    signal: Signal


def is_of_earlier_rules(check: Check) -> bool:
    """Return whether an earlier version decided the check, by rules without growing limits."""
    return check.decision.get("thresholds") is None


def limits_of(check: Check) -> Thresholds:
    """Return the limits that a check used; not of one by earlier rules."""
    return msgspec.convert(check.decision["thresholds"], Thresholds, strict=False)


def thresholds(check: Check) -> Iterator[Criterion]:
    """Yield the cells of a check in the judge's order, and whether there was enough data."""
    values = {} if is_of_earlier_rules(check) else _values(check)
    for cell in check.decision["cells"]:
        name = cell["name"]
        value, limits = values.get(name, (cell["says"], ""))
        if limits and cell.get("condition") == "weather":
            value = f"{value}; everybody has errors"
        yield Criterion(NAMES.get(name, name), value, limits, Signal(cell["signal"]))
    holds = check.decision["holds"]
    needed = f"{check.policy['sample_min']} clients"
    if check.state.get("track_migrations"):
        needed += f" and {check.policy['sample_min']} migrations"
    yield Criterion(
        "Data",
        ", ".join(holds).capitalize() if holds else "sufficient",
        f"{needed} needed, with heartbeats, without loss",
        Signal.NO_DATA if holds else Signal.GREEN,
    )


def _values(check: Check) -> dict[str, tuple[str, str]]:
    """Return value and limits of the cells with one number each, by the cells' names.

    All of them are whole numbers, so a limit is shown as the next whole number that passes it.
    """
    policy, limits = check.policy, limits_of(check)
    ours, unknown = check.evidence["feature"], check.evidence["unknown"]
    totals = check.decision["carry"]["totals"]
    capped = f", of {ours['points']:,} before the cap per client" if ours["points"] != ours["score"] else ""
    more = f"; {unknown['score']:,} more without a flag or a variant" if unknown["score"] else ""
    failing = f", {unknown['console_errors']:,} unknown" if unknown["console_errors"] else ""
    return {
        "score": (
            f"{points(ours['score'])}{capped}{more}",
            _score_limits(limits),
        ),
        "migrations": (success(totals, policy), _migration_limits(totals, policy)),
        "kill switch": (
            f"{totals['kill_switch']:,}",
            f"yellow from {ceil(limits.kill_switch_yellow):,}, red over {floor(limits.kill_switch_red):,}",
        ),
        "console": (
            f"{clients(ours['console_errors'])} with errors, {ours['console_warnings']:,} with warnings{failing}",
            _console_limits(limits),
        ),
    }


def _score_limits(limits: Thresholds) -> str:
    green, red = floor(limits.score_green), ceil(limits.score_red)
    return f"green up to {green:,}, red from {red:,}{limits.grown_with}"


def _console_limits(limits: Thresholds) -> str:
    red, yellow = ceil(limits.console_red), ceil(limits.console_yellow)
    return f"red from {red:,} with errors, yellow from {yellow:,} with warnings"


def success(totals: dict[str, Any], policy: dict[str, Any]) -> str:
    """Return the migration success rate of a stage, with its clients."""
    tried = totals["succeeded"] + totals["failed"]
    if not tried:
        return "no migrations yet"
    green, red = policy["migration_success_green"], policy["migration_success_red"]
    rate = brief_ratio(totals["succeeded"] / tried, [green, red])
    return f"{rate}, {totals['failed']:,} of {clients(tried)} failed"


def _migration_limits(totals: dict[str, Any], policy: dict[str, Any]) -> str:
    if totals["succeeded"] + totals["failed"] < policy["migrations_few"]:
        return (
            f"under {policy['migrations_few']}: yellow from 1 failed, red from {policy['migrations_few_red']}"
        )
    green, red = ratio(policy["migration_success_green"]), ratio(policy["migration_success_red"])
    return f"green over {green}, red under {red}"


def statistics(check: Check) -> Iterator[Criterion]:
    """Yield the tests of a check."""
    assessment, policy = check.decision["assessment"], check.policy
    red_at = assessment["red_at"]
    red = f"red from 1 of {red_at:,.0f}"
    yield Criterion(
        f"Migration failure rate over {ratio(policy['failure_rate_good'])}",
        evidence_words(assessment["failures_e"]),
        red,
        Signal.RED if assessment["failures_e"] >= red_at else Signal.GREEN,
    )
    if "clients_e" in assessment:
        yield _clients_with_errors(assessment, policy, red)
    yield Criterion(
        "Error rate with vs. without the feature",
        evidence_words(assessment["comparison_e"]) if assessment["compared"] else "no control group",
        red,
        Signal.RED if assessment["comparison_e"] >= red_at else Signal.GREEN,
    )
    yield Criterion(
        "Sample ratio mismatch",
        evidence_words(assessment["ratio_e"]) if assessment["compared"] else "no control group",
        f"no data from 1 of {1 / policy['ratio_alpha']:,.0f}",
        Signal.NO_DATA if assessment["ratio_e"] >= 1 / policy["ratio_alpha"] else Signal.GREEN,
    )
    interval, goal = assessment["interval"], policy["migration_success_green"]
    yield Criterion(
        f"Success rate, {interval_name(policy)}",
        interval_words(interval, [goal]) if interval else "no migrations yet",
        f"yellow if entirely under {ratio(goal)}",
        Signal.YELLOW if interval and interval[1] < goal else Signal.GREEN,
    )


def _clients_with_errors(assessment: dict[str, Any], policy: dict[str, Any], red: str) -> Criterion:
    """Return the test on clients with errors, beside the same test on clients without the feature."""
    with_feature, without = evidence_words(assessment["clients_e"]), evidence_words(assessment["baseline_e"])
    signal = Signal.GREEN
    if assessment["clients_e"] >= assessment["red_at"]:
        signal = Signal.NO_DATA if assessment["everybody"] else Signal.RED
    return Criterion(
        f"Clients with errors over {ratio(policy['error_rate_good'])}",
        f"{with_feature}; without the feature: {without}",
        f"{red}, no data if everybody has them",
        signal,
    )


def evidence_words(e_value: float) -> str:
    """Return an e-value in words: how rarely chance alone reaches it in a healthy stage."""
    if e_value < E_VALUE_MIN:
        return "no evidence"
    many = f"fewer than 1 of {E_VALUE_MAX:,.0f}" if e_value > E_VALUE_MAX else f"1 of {e_value:,.0f}"
    return f"by chance in {many} healthy stages"


def interval_name(policy: dict[str, Any]) -> str:
    return f"{ratio(1 - policy['alpha'])} interval"


def interval_words(interval: list[float], limits: list[float]) -> str:
    low, high = interval
    return ratio_range(low, high, limits)
