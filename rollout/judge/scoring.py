"""Points of failed events, and the signal of each number (runbook, "Error Scoring" and "Monitoring Signals"). Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from rollout import units
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


def score(clients: Iterable[Mapping[ErrorClass, int]], policy: Policy, windows: int = 1) -> int:
    """Return the score of a check: the sum of its clients' points, each up to the cap of one client.

    ``windows`` is the length of the check's window in intervals, at least 1: the cap grows as the limits do.
    """
    most = policy.points_client_max * windows
    return sum(min(points(errors, policy), most) for errors in clients)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The limits that a check used, and what they grew with. Stored: fields keep their names."""

    clients: int  # n: active, with the feature
    windows: int  # w: length of the window in check intervals, at least 1
    score_green: float  # points; up to this
    score_red: float  # points; from this on
    score_red_least: float  # the same in one interval with few clients
    console_yellow: float  # clients with warnings or errors; from this on
    console_red: float  # clients with errors; from this on
    kill_switch_yellow: float  # users in the stage; from this on
    kill_switch_red: float  # users in the stage; above this

    @property
    def grown_with(self) -> str:
        """Return what the limit of the score grew with: `` with 5,000 clients and 3 intervals``; empty for nothing."""
        grown = [units.clients(self.clients)] * (self.score_red > self.score_red_least * self.windows)
        grown += [f"{self.windows:,} intervals"] * self.is_long
        return f" with {' and '.join(grown)}" if grown else ""

    @property
    def is_long(self) -> bool:
        """Return whether the window was longer than an interval."""
        return self.windows > 1


def grown(limit: int, clients: int, policy: Policy) -> float:
    """Return a limit for so many clients: it holds up to ``score_clients`` (100), and grows in proportion beyond.

    Multiplied first, so that a whole number stays whole: 15 * 8.2 is less than 123.
    """
    few = policy.score_clients
    return limit * max(clients, few) / few if few else float(limit)


def thresholds(clients: int, windows: int, stage_clients: int, policy: Policy) -> Thresholds:
    """Return the limits of a check."""
    share, of_stage = (
        many / policy.score_clients if policy.score_clients else 0.0 for many in (clients, stage_clients)
    )
    return Thresholds(
        clients=clients,
        windows=windows,
        score_green=grown(policy.score_green_max * windows, clients, policy),
        score_red=grown(policy.error_threshold * windows, clients, policy),
        score_red_least=policy.error_threshold,
        console_yellow=max(1.0, share),  # 1 % of the clients
        console_red=max(float(policy.red_clients_min), share),
        kill_switch_yellow=max(policy.kill_switch_green_max + 1.0, of_stage / 10),  # 0.1 %
        kill_switch_red=max(float(policy.kill_switch_yellow_max), of_stage / 2),  # 0.5 %
    )


def score_signal(score: int, limits: Thresholds) -> Signal:
    if score >= limits.score_red:
        return Signal.RED
    return Signal.YELLOW if score > limits.score_green else Signal.GREEN


def migration_signal(succeeded: int, failed: int, policy: Policy) -> Signal:
    """Return the signal of migrations, counted by client. Of a few, two failures are yellow, and three are red."""
    if not failed:
        return Signal.GREEN
    if succeeded + failed < policy.migrations_few:
        return Signal.RED if failed >= policy.migrations_few_red else Signal.YELLOW
    rate = succeeded / (succeeded + failed)
    if rate < policy.migration_success_red:
        return Signal.RED
    return Signal.GREEN if rate > policy.migration_success_green else Signal.YELLOW


def kill_switch_signal(users: int, limits: Thresholds) -> Signal:
    if users > limits.kill_switch_red:
        return Signal.RED
    return Signal.YELLOW if users >= limits.kill_switch_yellow else Signal.GREEN


def console_signal(warning_clients: int, error_clients: int, limits: Thresholds) -> Signal:
    """Return the signal of consoles, by clients with warnings or errors. One client alone is at most yellow."""
    if error_clients >= limits.console_red:
        return Signal.RED
    return Signal.YELLOW if max(error_clients, warning_clients) >= limits.console_yellow else Signal.GREEN
