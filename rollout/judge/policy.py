"""Every threshold of the judge: those of the runbook, and a few of ours. Pure.

Each field is a Django setting ``ROLLOUT_<FIELD>`` (durations as ``timedelta``), and in fundapi an environment variable
of the same name (durations in seconds). Each check stores its policy.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import timedelta
from itertools import pairwise
from typing import Any


@dataclass(frozen=True, slots=True)
class Policy:
    # Points of one failed event (runbook, "Error Scoring"). One client's points in one check have a maximum below the
    # threshold, or one broken or hostile browser would roll back everybody.
    points_migration: int = 10
    points_validation: int = 5
    points_default: int = 3
    points_warning: int = 1
    points_client_max: int = 10

    # Signals (runbook, "Monitoring Signals"). The console needs `red_clients_min` clients to be red.
    # The limits hold up to `score_clients` active clients with the feature, and grow in proportion beyond; 0: never.
    score_clients: int = 100
    score_green_max: int = 5
    error_threshold: int = 15  # points in one check
    migration_success_green: float = 0.995  # more than this
    migration_success_red: float = 0.95  # less than this
    kill_switch_green_max: int = 4  # users in the stage
    kill_switch_yellow_max: int = 20
    red_clients_min: int = 2
    migrations_few: int = 40  # under so many, shares say little:
    migrations_few_red: int = 3  # so many failures are red, and fewer are yellow

    # Whose telemetry counts (docs/reference/judge.md, "Whom a check counts").
    unsigned_telemetry: str = "network"  # full, network or none: see UNSIGNED
    unsigned_networks_min: int = 5  # networks that must agree before unsigned telemetry is red
    # Clients of a network in a stage that are judged, in mode full; 0: any number.
    network_clients_max: int = 10_000
    event_age_max: timedelta = timedelta(minutes=10)  # older when sent: not judged
    baseline_min: int = 20  # active clients without the feature, before their errors say anything
    # E-value of a difference, from which errors of everybody are the feature's too.
    weather_evidence: float = 20.0

    # Limits of the signal *no data*. 20 clients without a failure exclude a failure rate of 14 % with 95 % confidence.
    sample_min: int = 20  # clients with the feature and a heartbeat in this stage
    loss_max: float = 0.05  # share of the clients in a check that report dropped events

    check_interval: timedelta = timedelta(minutes=1)
    breaker_checks: int = 3  # consecutive red ones roll back (runbook, "Circuit Breaker")
    hold_alert: timedelta = timedelta(minutes=30)  # time without data until an alert

    # Timelines (runbook, "Phase 4" and "Phase 5").
    steps: tuple[int, ...] = (10, 50, 100)  # percent
    accelerated_canary: timedelta = timedelta(minutes=30)
    accelerated_partial: timedelta = timedelta(hours=2)
    conservative_canary_green: timedelta = timedelta(minutes=60)
    conservative_canary: timedelta = timedelta(minutes=90)
    conservative_partial: timedelta = timedelta(hours=6)
    watch: timedelta = timedelta(hours=24)
    watch_migration_success: float = 0.995  # at least
    watch_error_rate: float = 0.001  # of sessions, less than
    watch_kill_switch_max: int = 5  # users
    watch_score: int = 5  # less than, in every check of the watch

    # The statistical judge (docs/explanation/judge-statistics.md).
    alpha: float = 0.05  # chance of a false red in a whole rollout that is healthy
    failure_rate_good: float = 0.005
    failure_rate_bad: float = 0.05
    error_rate_good: float = 0.01  # share of clients with errors
    error_rate_bad: float = 0.1
    ratio_alpha: float = 0.001


# Whose voice telemetry without a ticket is: each client's own, its network's (one voice for all), or nobody's.
UNSIGNED = ("full", "network", "none")
COUNTER_MAX = 2**15 - 1  # of a smallint, which counts a network's clients
AT_LEAST_ONE = {
    "error_threshold",
    "red_clients_min",
    "breaker_checks",
    "points_client_max",
    "migrations_few_red",
    "unsigned_networks_min",
    "baseline_min",
}
E_VALUES = {"weather_evidence"}
TESTED = {
    "alpha",
    "ratio_alpha",
    "failure_rate_good",
    "failure_rate_bad",
    "error_rate_good",
    "error_rate_bad",
    "migration_success_green",
}
ASCENDING = [  # pairs with a signal, or a test, between them
    ("score_green_max", "error_threshold"),
    ("kill_switch_green_max", "kill_switch_yellow_max"),
    ("migration_success_red", "migration_success_green"),
    ("failure_rate_good", "failure_rate_bad"),
    ("error_rate_good", "error_rate_bad"),
]


def faults(policy: Policy) -> Iterator[str]:
    """Yield a sentence for each fault of a policy: the setting, its value, and what it should be."""
    strange = [each for each in fields(Policy) if not _is_like(each.default, getattr(policy, each.name))]
    for each in strange:
        kind = f"a {type(each.default).__name__}, such as {each.default!r}"
        yield f"{setting(each.name)} is {getattr(policy, each.name)!r}, and should be {kind}."
    for name, should in [] if strange else _broken(policy):
        yield f"{setting(name)} is {_written(getattr(policy, name))}, and should be {should}."


def setting(name: str) -> str:
    """Return the name of a field's setting."""
    return f"ROLLOUT_{name.upper()}"


def _is_like(default: Any, value: Any) -> bool:
    """Return whether a value is of its default's type."""
    if isinstance(default, tuple):
        return isinstance(value, tuple) and all(_is_like(default[0], part) for part in value)
    if isinstance(default, float):
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is type(default)


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "empty"
    return f"{value.total_seconds():.15g} seconds" if isinstance(value, timedelta) else f"{value}"


def _broken(policy: Policy) -> Iterator[tuple[str, str]]:
    """Yield each field that breaks a rule, with what it should be."""
    for field in fields(Policy):
        if should := _rule(field.name, field.default, getattr(policy, field.name)):
            yield field.name, f"{should}, such as {_written(field.default)}"
    for low, high in ASCENDING:
        if not getattr(policy, low) < getattr(policy, high):
            yield low, f"less than {_other(policy, high)}"
    if policy.network_clients_max > COUNTER_MAX:
        yield "network_clients_max", f"at most {COUNTER_MAX}"
    if policy.unsigned_telemetry not in UNSIGNED:
        yield "unsigned_telemetry", f"one of {', '.join(UNSIGNED)}"
    if policy.conservative_canary_green > policy.conservative_canary:
        yield "conservative_canary_green", f"at most {_other(policy, 'conservative_canary')}"
    climbs = all(low < high for low, high in pairwise((0, *policy.steps)))
    if not climbs or policy.steps[-1:] != (100,):
        yield "steps", "whole percents that climb to 100, such as 10,50,100"


def _other(policy: Policy, name: str) -> str:
    return f"{setting(name)}, which is {_written(getattr(policy, name))}"


def _rule(name: str, default: Any, value: Any) -> str | None:
    """Return what one value by itself should be, or ``None`` when it is that."""
    if isinstance(default, timedelta) and value <= timedelta(0):
        return "longer than 0"
    if name in E_VALUES:
        return None if value >= 1 else "an e-value, 1 or more"
    if isinstance(default, float) and not 0 <= value <= 1:
        return "a share from 0 to 1"
    if name in TESTED and not 1e-6 <= value < 1:
        return "at least 0.000001 and less than 1"
    if isinstance(default, int) and value < (least := int(name in AT_LEAST_ONE)):
        return f"{least} or more"
    return None
