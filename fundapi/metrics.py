"""Metrics for Prometheus, of all worker processes (prometheus-client's multiprocess mode)."""

import os

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

from idempotency.metrics import IdempotencyCollector
from rollout.metrics import RolloutCollector

request_duration = Histogram(
    "http_request_duration_seconds",
    "Time of a request inside the application.",
    ["method", "route", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
requests_waiting = Gauge(
    "http_requests_waiting", "Requests that wait for a slot.", multiprocess_mode="livesum"
)
requests_shed = Counter(
    "http_requests_shed", "Requests answered with 503: the queue was full, or the wait too long."
)


def registry() -> CollectorRegistry:
    """Return all samples: of the processes that share ``PROMETHEUS_MULTIPROC_DIR``, or of this one when it is unset."""
    shared = "PROMETHEUS_MULTIPROC_DIR" in os.environ  # prometheus-client's own switch, read by it at import
    source = MultiProcessCollector(None) if shared else REGISTRY  # type: ignore[no-untyped-call]  # has no types
    everything = CollectorRegistry()
    everything.register(source)
    everything.register(IdempotencyCollector(source))
    everything.register(RolloutCollector())
    return everything
