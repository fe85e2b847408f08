"""Purge of telemetry, checks, alerts and finished stages, in small batches so that no intake waits."""

import time
from datetime import datetime

from django.utils import timezone

from rollout import metrics, store
from rollout.conf import conf


def purge(*, now: datetime | None = None) -> dict[str, int]:
    """Delete rows older than their retention, and return how many of each table."""
    now = now or timezone.now()
    return {
        "telemetry": _all(store.PURGE_EVENTS, "telemetry", now - conf.event_retention),
        "checks": _all(store.PURGE_CHECKS, "checks", now - conf.check_retention),
        "alerts": _all(store.PURGE_ALERTS, "alerts", now - conf.check_retention),
        "stage members": _all(store.PURGE_MEMBERS, "stage members", now),
    }


def _all(sql: str, table: str, before: datetime) -> int:
    total = 0
    batch = conf.purge_batch_size
    while deleted := store.purge(sql, batch=batch, before=before):
        total += deleted
        metrics.purged.labels(table).inc(deleted)
        if deleted < batch:
            break
        time.sleep(conf.purge_pause.total_seconds())
    return total
