"""Prometheus metrics of rollouts, each emitted from exactly one place.

Counters count where events happen. The state of rollouts is read from the database at each scrape
(:class:`RolloutCollector`), so it is the same in every process.
"""

from collections.abc import Iterable, Iterator

from django.db import Error

from rollout import store
from rollout.judge.scoring import Signal

try:
    from prometheus_client import Counter, Gauge, Histogram
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.metrics_core import Metric
except ModuleNotFoundError:  # fundapi-rollout[metrics] is not installed
    from rollout.unmeasured import (  # type: ignore[assignment] # of the same use
        Counter,
        Gauge,
        GaugeMetricFamily,
        Histogram,
        Metric,
    )

TABLES = ("telemetry", "checks", "alerts", "stage members")  # that are purged

telemetry_events = Counter("rollout_telemetry_events", "Telemetry events received, by outcome.", ["outcome"])
telemetry_tickets = Counter(
    "rollout_telemetry_tickets",
    "Batches of telemetry, by their ticket: none, valid, expired, invalid.",
    ["ticket"],
)
server_reports = Counter(
    "rollout_server_reports", "Outcomes that the server itself reported to the judge.", ["outcome"]
)
checks = Counter("rollout_checks", "Checks of the judge, by their signal.", ["feature", "signal"])
actions = Counter("rollout_actions", "Actions of the judge.", ["feature", "action"])
check_failures = Counter("rollout_check_failures", "Checks that ended in an error.", ["feature"])
check_duration = Histogram(
    "rollout_check_duration_seconds",
    "Time of one check of one rollout.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
unjudged = Counter(
    "rollout_telemetry_unjudged",
    "Telemetry events that a check left out: stale, before_stage, unsigned, capped.",
    ["feature", "reason"],
)
alerts = Counter(
    "rollout_alerts", "Attempts to send an alert; skipped: its channel is not set up.", ["channel", "outcome"]
)
reverts = Counter(
    "rollout_reverts",
    "Attempts to open the revert of a deployment; unhealthy: conflicts, unknown: tried again.",
    ["outcome"],
)
purged = Counter("rollout_purged_rows", "Rows deleted because they were too old.", ["table"])
purge_failures = Counter("rollout_purge_failures", "Purges of a table that ended in an error.", ["table"])
# No series before the first success: the rule for an overdue purge is quiet on a fresh install.
purge_succeeded = Gauge(
    "rollout_purge_last_success_timestamp_seconds",
    "When a table was last purged, by the database's clock.",
    ["table"],
    multiprocess_mode="max",
)

for _outcome in ("accepted", "duplicate", "rejected"):
    telemetry_events.labels(_outcome)  # from 0 on, so that Prometheus sees the first increase
for _ticket in ("none", "valid", "expired", "invalid"):
    telemetry_tickets.labels(_ticket)
for _outcome in ("stored", "failed"):
    server_reports.labels(_outcome)
for _channel in ("webhook", "email"):
    for _outcome in ("sent", "failed", "given_up", "skipped"):
        alerts.labels(_channel, _outcome)
for _outcome in ("healthy", "unhealthy", "unknown"):
    reverts.labels(_outcome)
for _table in TABLES:
    purged.labels(_table)
    purge_failures.labels(_table)


def observe_telemetry(*, accepted: int, duplicates: int, rejected: int, ticket: str) -> None:
    """Count one batch of telemetry."""
    telemetry_tickets.labels(ticket).inc()
    telemetry_events.labels("accepted").inc(accepted)
    telemetry_events.labels("duplicate").inc(duplicates)
    telemetry_events.labels("rejected").inc(rejected)


class RolloutCollector:
    """Gauges of each rollout, read at the scrape."""

    def collect(self) -> Iterable[Metric]:
        try:
            return list(self._collect())
        except Error:
            return ()  # the scrape still has the rest, and /health reports the database

    def _collect(self) -> Iterator[Metric]:
        def gauge(name: str, says: str, *labels: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(name, says, labels=["feature", *labels])

        percentage = gauge("rollout_percentage", "Share of browsers that get the feature, 0-100.")
        live = gauge("rollout_live", "1 while anybody can get the feature: not at 0, disabled or stopped.")
        stopped = gauge("rollout_emergency_stop", "1 while stopped in an emergency.")
        checked = gauge(
            "rollout_last_check_timestamp_seconds",
            "When the judge last checked this stage; before its first check, when it began.",
        )
        signal = gauge("rollout_signal", "1 for the signal of the latest check of this stage.", "signal")
        score = gauge("rollout_score", "Points of the latest check of this stage.")
        reds = gauge("rollout_consecutive_red_checks", "Red checks in a row; three roll back.")
        success = gauge(
            "rollout_migration_success_ratio", "Clients whose migration succeeded, in this stage."
        )
        switches = gauge("rollout_kill_switch_users", "Clients that used a kill switch, in this stage.")
        for standing in store.standings():
            feature = standing.feature
            percentage.add_metric([feature], float(standing.percentage))
            live.add_metric([feature], standing.live)
            stopped.add_metric([feature], standing.emergency_stop)
            if latest := standing.checked_at or standing.judged_from:
                checked.add_metric([feature], latest.timestamp())
            if standing.checked_at is None:
                continue
            for each in Signal:
                signal.add_metric([feature, each.value], standing.carry["signal"] == each.value)
            score.add_metric([feature], standing.score or 0)
            reds.add_metric([feature], standing.carry["reds"])
            totals = standing.carry["totals"]
            if migrations := totals["succeeded"] + totals["failed"]:
                success.add_metric([feature], totals["succeeded"] / migrations)
            switches.add_metric([feature], totals["kill_switch"])
        yield from (percentage, live, stopped, checked, signal, score, reds, success, switches)
