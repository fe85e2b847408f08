"""Statistics of measurements: pure functions of lists of numbers."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sample:
    """One variant in one round: requests, requests per second, quantiles of latency, CPU of a request in ms."""

    count: int
    rate: float
    p50: float
    p99: float
    cpu: float = math.nan  # of the server's processes, user and system

    @classmethod
    def of(cls, latencies: Sequence[float], elapsed: float) -> "Sample":
        """Sum up latencies, given in seconds, of requests that took ``elapsed`` seconds together."""
        count = len(latencies)
        return cls(count, count / elapsed, quantile(latencies, 50) * 1000, quantile(latencies, 99) * 1000)


@dataclass(frozen=True, slots=True)
class Summary:
    """The median of several rounds, and their spread."""

    median: float
    lowest: float
    highest: float


def quantile(values: Sequence[float], percent: int) -> float:
    """Return the value that ``percent`` of all values do not exceed. Raises ValueError when there are none."""
    if not values:
        raise ValueError("no values")
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]  # never beyond the slowest


def summary(values: Sequence[float]) -> Summary:
    return Summary(statistics.median(values), min(values), max(values))


def ratios(over: Sequence[Sample], under: Sequence[Sample]) -> list[float]:
    """Return the speed of ``over`` relative to the other, round by round: a slow moment of the machine hits both."""
    return [a.rate / b.rate for a, b in zip(over, under, strict=True)]


def cpu_ratios(mine: Sequence[Sample], theirs: Sequence[Sample]) -> list[float]:
    """Return how many times the CPU of mine a request of theirs takes, round by round."""
    return [b.cpu / a.cpu for a, b in zip(mine, theirs, strict=True)]


def cheapest(samples: Mapping[str, Sequence[Sample]]) -> str:
    """Name the variant with the lowest median of CPU. Raises ValueError when there is none."""
    return min(samples, key=lambda name: statistics.median(sample.cpu for sample in samples[name]))


def rotated(items: Sequence[T], turns: int) -> list[T]:
    """Return the items from another first one on: no variant is always measured just after the same other one."""
    start = turns % len(items) if items else 0
    return [*items[start:], *items[:start]]
