"""Points of failed events, and the signal of each number (runbook, "Error Scoring" and "Monitoring Signals"). Pure."""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from rollout.judge.events import ErrorClass
from rollout.judge.policy import Policy


class Signal(StrEnum):
    """Result of a check, from the best to the worst: no data is worse than yellow, because it is never healthy."""

    GREEN = "green"
    YELLOW = "yellow"
    # Stored checks, the metrics' label and the webhook's `signal` have called it `hold` from the beginning.
    NO_DATA = "hold"
    RED = "red"

    @property
    def label(self) -> str:
        """Return the signal as people read it."""
        return "no data" if self is Signal.NO_DATA else self.value


def worst(signals: Iterable[Signal]) -> Signal:
    """Return the worst of the signals; green when there are none."""
    return max(signals, key=list(Signal).index, default=Signal.GREEN)


def points(errors: Mapping[ErrorClass, int], policy: Policy) -> int:
    """Return the points of failed events, given their number by class."""
    weights = {
        ErrorClass.MIGRATION: policy.points_migration,
        ErrorClass.VALIDATION: policy.points_validation,
        ErrorClass.DEFAULT: policy.points_default,
        ErrorClass.WARNING: policy.points_warning,
    }
    return sum(weights[error_class] * count for error_class, count in errors.items())


def score(clients: Iterable[Mapping[ErrorClass, int]], policy: Policy) -> int:
    """Return the score of a check: the sum of its clients' points, each up to the cap of one client."""
    return sum(min(points(errors, policy), policy.points_client_max) for errors in clients)


def score_signal(score: int, policy: Policy) -> Signal:
    if score >= policy.error_threshold:
        return Signal.RED
    return Signal.YELLOW if score > policy.score_green_max else Signal.GREEN


def migration_signal(succeeded: int, failed: int, policy: Policy) -> Signal:
    """Return the signal of migrations, counted by client. One client alone is at most yellow."""
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
    """Return the signal of consoles, by clients with warnings or errors. One client alone is at most yellow."""
    if error_clients >= policy.red_clients_min:
        return Signal.RED
    return Signal.YELLOW if warning_clients or error_clients else Signal.GREEN
