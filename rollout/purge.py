"""Purge of telemetry, checks, alerts and finished stages, in small batches so that no intake waits."""

import logging
import time
from datetime import datetime, timedelta

from django.db import connection

from rollout import metrics, store
from rollout.conf import conf

logger = logging.getLogger(__name__)


def purge(*, now: datetime | None = None) -> dict[str, int]:
    """Delete rows older than their retention, and return how many of each table.

    By the database's clock: a worker with a wrong one would delete what is live. A table whose purge fails is left
    out, and stops no other.
    """
    now = now or store.clock()
    tables = [
        ("telemetry", store.PURGE_EVENTS, conf.event_retention),
        ("checks", store.PURGE_CHECKS, conf.check_retention),
        ("alerts", store.PURGE_ALERTS, conf.check_retention),
        ("stage members", store.PURGE_MEMBERS, timedelta(0)),
    ]
    deleted: dict[str, int] = {}
    for table, sql, retention in tables:
        try:
            deleted[table] = _all(sql, table, now - retention)
        except Exception:
            connection.close_if_unusable_or_obsolete()
            metrics.purge_failures.labels(table).inc()
            logger.exception("rollout_purge_failed", extra={"table": table})
        else:
            metrics.purge_succeeded.labels(table).set(now.timestamp())
    return deleted


def _all(sql: str, table: str, before: datetime) -> int:
    total, since = 0, 0
    batch = conf.purge_batch_size
    while True:
        deleted, since = store.purge(sql, batch=batch, before=before, since=since)
        total += deleted
        metrics.purged.labels(table).inc(deleted)
        if deleted < batch:
            break
        time.sleep(conf.purge_pause.total_seconds())
    return total
