"""What an event weighs, and which colour a number has (runbook, "Error Scoring" and "Monitoring Signals"). Pure."""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from rollout.judge.policy import Policy


class Signal(StrEnum):
    """What a check says. ``HOLD``: nobody can tell; no data is never green."""

    GREEN = "green"
    YELLOW = "yellow"
    HOLD = "hold"
    RED = "red"


class ErrorClass(StrEnum):
    """What a failed event counts as."""

    MIGRATION = "migration"
    VALIDATION = "validation"
    DEFAULT = "default"
    WARNING = "warning"


def worst(signals: Iterable[Signal]) -> Signal:
    """Return the worst of the signals; green when there is none. A hold is worse than yellow: red alone is surer."""
    return max(signals, key=list(Signal).index, default=Signal.GREEN)


def classify(event: str, category: str = "") -> ErrorClass:
    """Return the class of a failed event. Where name and category name two, it is the one that weighs more."""
    if event == "migration_failed" or category == "migration":
        return ErrorClass.MIGRATION
    if event == "validation_error" or category == "validation":
        return ErrorClass.VALIDATION
    return ErrorClass.WARNING if event == "console_warning" else ErrorClass.DEFAULT


def points(errors: Mapping[ErrorClass, int], policy: Policy) -> int:
    """Return what failed events weigh together: ``{class: how many}`` → points."""
    weights = {
        ErrorClass.MIGRATION: policy.points_migration,
        ErrorClass.VALIDATION: policy.points_validation,
        ErrorClass.DEFAULT: policy.points_default,
        ErrorClass.WARNING: policy.points_warning,
    }
    return sum(weights[error_class] * count for error_class, count in errors.items())


def score(clients: Iterable[Mapping[ErrorClass, int]], policy: Policy) -> int:
    """Return the score of a check: the points of each client's failed events, up to the cap of one client."""
    return sum(min(points(errors, policy), policy.points_client_max) for errors in clients)


def score_signal(score: int, policy: Policy) -> Signal:
    if score >= policy.error_threshold:
        return Signal.RED
    return Signal.YELLOW if score > policy.score_green_max else Signal.GREEN


def migration_signal(succeeded: int, failed: int, policy: Policy) -> Signal:
    """Judge how many clients' migrations succeeded and failed. One client alone is at most yellow."""
    if not failed:
        return Signal.GREEN
    rate = succeeded / (succeeded + failed)
    if rate < policy.migration_success_red and failed >= policy.red_clients_min:
        return Signal.RED
    return Signal.GREEN if rate > policy.migration_success_green else Signal.YELLOW


def kill_switch_signal(users: int, policy: Policy) -> Signal:
    if users > policy.kill_switch_yellow_max:
        return Signal.RED
    return Signal.YELLOW if users > policy.kill_switch_green_max else Signal.GREEN


def console_signal(warning_clients: int, error_clients: int, policy: Policy) -> Signal:
    """Judge how many clients' consoles had warnings and errors in a check. One client alone is at most yellow."""
    if error_clients >= policy.red_clients_min:
        return Signal.RED
    return Signal.YELLOW if warning_clients or error_clients else Signal.GREEN
