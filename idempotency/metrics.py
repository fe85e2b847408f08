"""Prometheus metrics, right with several worker processes (prometheus-client's multiprocess mode).

Each is emitted from exactly one place: requests in :func:`observe`, which the protocol and ``once`` call, purges in
:mod:`idempotency.purge`, gauges at scrape time in :class:`IdempotencyCollector`.
"""

import re
from collections.abc import Iterable
from functools import cache
from typing import Protocol

from django.db import Error

from idempotency import store

try:
    from prometheus_client import Counter, Gauge, Histogram
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.metrics_core import Metric
except ModuleNotFoundError:  # fundapi-idempotency[metrics] is not installed
    from idempotency.unmeasured import (  # type: ignore[assignment] # of the same use
        Counter,
        Gauge,
        GaugeMetricFamily,
        Histogram,
        Metric,
    )

OUTCOMES = ("created", "replayed", "key_reused", "in_progress", "failed", "rejected", "unavailable")
CONFLICTS = ("key_reused", "in_progress")

requests = Counter(
    "idempotency_requests", "Guarded requests, by operation and how they ended.", ["operation", "outcome"]
)
_ended = cache(requests.labels)
purged_keys = Counter("idempotency_purged_keys", "Expired keys deleted.")
purge_failures = Counter("idempotency_purge_failures", "Purges that ended in an error.")
# A label, so that there is no series before the first success: the rule for an overdue purge is quiet till then.
purge_succeeded = Gauge(
    "idempotency_purge_last_success_timestamp_seconds",
    "When a table was last purged to the end, by the database's clock.",
    ["table"],
    multiprocess_mode="max",
)
purge_duration = Histogram(
    "idempotency_purge_duration_seconds",
    "Time of one whole purge.",
    buckets=(0.01, 0.1, 1, 10, 60, 600, 3600),
)


def conflicts(operation: str) -> Counter:
    """Return the counter ``<operation>_conflict``, such as ``fund_create_conflict`` (runbook, "Monitoring").

    ``order.pay`` and ``order-pay`` share one, because a metric's name has neither dots nor hyphens.
    """
    return _conflicts(re.sub(r"\W", "_", operation))


@cache
def _conflicts(name: str) -> Counter:
    return Counter(f"{name}_conflict", f"409 answers of {name}, by reason.", ["reason"])


def declare(operation: str) -> None:
    """Create the series of an operation at zero, so that Prometheus sees the first increase."""
    for outcome in OUTCOMES:
        requests.labels(operation, outcome)
    for reason in CONFLICTS:
        conflicts(operation).labels(reason)


def observe(operation: str, outcome: str) -> None:
    """Count one guarded request, or one use of ``once``."""
    _ended(operation, outcome).inc()
    if outcome in CONFLICTS:
        conflicts(operation).labels(outcome).inc()


class Source(Protocol):
    """A source of all samples: a registry, or a multiprocess collector."""

    def collect(self) -> Iterable[Metric]: ...


class IdempotencyCollector:
    """The gauges, computed at each scrape. Register it beside the samples that it reads."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily(
            "idempotency_cache_hit_rate",
            "Replayed answers per answer given for a key (created or replayed), since the counters began.",
            value=hit_rate(self.source),
        )
        try:
            size = store.count_active()
        except Error:
            # The scrape still shows the rest; /health says that the database is away.
            return
        yield GaugeMetricFamily("idempotency_storage_size", "Active idempotency keys.", value=size)


def hit_rate(source: Source) -> float:
    """Return replayed / (created + replayed) of all operations and processes; 0 before the first request."""
    total = {"created": 0.0, "replayed": 0.0}
    for family in source.collect():
        if family.name == "idempotency_requests":
            for sample in family.samples:
                if sample.name.endswith("_total") and sample.labels["outcome"] in total:
                    total[sample.labels["outcome"]] += sample.value
    answered = sum(total.values())
    return total["replayed"] / answered if answered else 0.0
