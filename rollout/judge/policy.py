"""Every threshold of the judge: those of the runbook, and a few of ours. Pure.

Each field is a Django setting ``ROLLOUT_<FIELD>`` (durations as ``timedelta``), and in fundapi an environment variable
of the same name (durations in seconds). Each check stores its policy.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import timedelta
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Policy:
    # Points of one failed event (runbook, "Error Scoring"). One client's points in one check have a maximum below the
    # threshold, or one broken or hostile browser would roll back everybody.
    points_migration: int = 10
    points_validation: int = 5
    points_default: int = 3
    points_warning: int = 1
    points_client_max: int = 10

    # Signals (runbook, "Monitoring Signals"). A cell about errors needs `red_clients_min` clients to be red.
    score_green_max: int = 5
    error_threshold: int = 15  # points in one check
    migration_success_green: float = 0.995  # more than this
    migration_success_red: float = 0.95  # less than this
    kill_switch_green_max: int = 4  # users in the stage
    kill_switch_yellow_max: int = 20
    red_clients_min: int = 2

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
    ratio_alpha: float = 0.001


AT_LEAST_ONE = {"error_threshold", "red_clients_min", "breaker_checks", "points_client_max"}
TESTED = {"alpha", "ratio_alpha", "failure_rate_good", "failure_rate_bad", "migration_success_green"}
ASCENDING = [  # pairs with a signal, or a test, between them
    ("score_green_max", "error_threshold"),
    ("kill_switch_green_max", "kill_switch_yellow_max"),
    ("migration_success_red", "migration_success_green"),
    ("failure_rate_good", "failure_rate_bad"),
]


def faults(policy: Policy) -> Iterator[str]:
    """Yield the faults of a policy, by the names of its fields."""
    for field in fields(Policy):
        value = getattr(policy, field.name)
        if isinstance(field.default, timedelta) and value <= timedelta(0):
            yield f"{field.name} must be longer than 0"
        elif isinstance(field.default, float) and not 0 <= value <= 1:
            yield f"{field.name} is a share: it must lie between 0 and 1"
        elif field.name in TESTED and not 1e-6 <= value < 1:
            yield f"{field.name} is a parameter of a test: it must be at least 0.000001, and less than 1"
        elif isinstance(field.default, int) and value < (field.name in AT_LEAST_ONE):
            yield f"{field.name} must be at least {int(field.name in AT_LEAST_ONE)}"
    for low, high in ASCENDING:
        if not getattr(policy, low) < getattr(policy, high):
            yield f"{low} must be less than {high}"
    if policy.conservative_canary_green > policy.conservative_canary:
        yield "conservative_canary_green must not be longer than conservative_canary"
    climbs = all(low < high for low, high in pairwise((0, *policy.steps)))
    if not climbs or policy.steps[-1:] != (100,):
        yield "steps must be whole percents that climb to 100"
