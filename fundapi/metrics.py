"""Metrics for Prometheus, of all worker processes (prometheus-client's multiprocess mode)."""

from collections.abc import Iterable
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from fundapi.metric_files import SHARED, remove_gauges_of_dead_processes
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
connections = Gauge(
    "http_connections",
    "Open connections of clients, and the few of a process to PostgreSQL and Valkey.",
    multiprocess_mode="livesum",
)
connections_max = Gauge(
    "http_connections_max", "Connections that the processes may hold open.", multiprocess_mode="livesum"
)
requests_shed = Counter(
    "http_requests_shed", "Requests answered with 503: the queue was full, or the wait too long."
)
valkey_failures = Counter(
    "valkey_failures",
    "Failed attempts to use Valkey, by its state then; after a failure a process makes one attempt a second.",
    ["state"],
)
for _state in ("unavailable", "read-only", "full"):
    valkey_failures.labels(_state)  # present from the start, or a rate would miss the first failure


class SharedSamples(MultiProcessCollector):
    """The samples of all processes that share a directory, without the gauges of dead ones."""

    def __init__(self, directory: Path) -> None:
        super().__init__(None, str(directory))  # type: ignore[no-untyped-call]  # has no types
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        remove_gauges_of_dead_processes(self._directory)
        samples: Iterable[Metric] = super().collect()  # type: ignore[no-untyped-call]  # has no types
        return samples


connections_cut = Counter(
    "database_connections_cut", "Connections to PostgreSQL that were cut off because no answer came."
)


def registry() -> CollectorRegistry:
    """Return all samples: of the processes that share ``PROMETHEUS_MULTIPROC_DIR``, or of this one when it is unset."""
    source = SharedSamples(SHARED) if SHARED else REGISTRY
    everything = CollectorRegistry()
    everything.register(source)
    everything.register(IdempotencyCollector(source))
    everything.register(RolloutCollector())
    return everything
