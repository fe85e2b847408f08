"""Measure the judge on a day of telemetry. The module imports models: import it after Django is set up."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psutil
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.test import RequestFactory
from django.utils import timezone

from benchmarks.bodies import EVENTS, telemetry_batches
from rollout import store
from rollout.conf import conf
from rollout.judge.events import BY_CATEGORY, BY_NAME
from rollout.models import Rollout, Watch
from rollout.purge import purge
from rollout.tick import check

MINUTES = 24 * 60

# Nine heartbeats in ten; 100,000 users, each with one browser and two sessions.
FILL = """
INSERT INTO rollout_telemetry
    (id, arrived_at, client, signer, session, event, category, ok, flag, variant, at, lost, network)
SELECT gen_random_uuid(), now() - interval '1 day' + n * interval '1 day' / %(events)s,
       md5('client' || n %% 100000)::uuid, md5('user' || n %% 100000)::uuid, md5('session' || n %% 200000)::uuid,
       CASE WHEN n %% 10 > 0 THEN 'heartbeat' WHEN n %% 20 = 0 THEN 'migration_succeeded' ELSE 'console_warning' END,
       'usage', n %% 20 <> 10, 'BENCHED', CASE WHEN n %% 2 = 0 THEN 'fund-store' ELSE 'legacy' END, now(), 0,
       '10.0.' || n %% 250 || '.0/24'
FROM generate_series(1, %(events)s) AS n
ORDER BY n
"""
MEMBERS = """
INSERT INTO rollout_stage_member (rollout_id, stage, who, flags)
SELECT DISTINCT %s, 1, who, 1 FROM (
    SELECT signer AS who FROM rollout_telemetry UNION SELECT session FROM rollout_telemetry
) AS everybody
"""


class Stopwatch:
    """The time that Django spends in SQL: from sending each statement to its answer."""

    def __init__(self) -> None:
        self.spent = 0.0

    def __call__(self, execute: Callable[..., Any], *arguments: Any) -> Any:
        began = time.perf_counter()
        try:
            return execute(*arguments)
        finally:
            self.spent += time.perf_counter() - began


def fill(events: int) -> Any:
    """Make a rollout at 50 % with a day of telemetry."""
    rollout = Rollout.objects.create(
        feature="BENCHED", percentage=50, stage="partial", timeline="manual", auto_rollback=False
    )
    Watch.objects.create(rollout=rollout, watermark=0, began_at=timezone.now() - timedelta(days=2))
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(FILL, {"events": events})
        cursor.execute(MEMBERS, [rollout.pk])
        cursor.execute("VACUUM ANALYZE")
    return rollout


def judge(rollout: Any, events: int, checks: int) -> tuple[list[float], list[float]]:
    """Judge the latest minutes; return the time of each check in SQL and in all, in ms."""
    last, a_minute, now = store.last_seq(), events // MINUTES, timezone.now()
    Watch.objects.filter(rollout=rollout).update(watermark=last - checks * a_minute)
    in_sql, in_all = [], []
    for number in range(checks):
        watch, began = Stopwatch(), time.perf_counter()
        with connection.execute_wrapper(watch):
            upto = last - (checks - number - 1) * a_minute
            made = check("BENCHED", upto=upto, now=now + number * timedelta(minutes=1))
        assert made is not None
        assert made.evidence["events"] == a_minute
        in_sql.append(watch.spent * 1000)
        in_all.append((time.perf_counter() - began) * 1000)
    return in_sql[1:], in_all[1:]  # the first one also imports and plans


def plans(rollout: Any, events: int) -> dict[str, str]:
    """Return how PostgreSQL runs the two statements that touch telemetry."""
    last = store.last_seq()
    window: dict[str, Any] = {
        "feature": "BENCHED",
        "after": last - events // MINUTES,
        "upto": last,
        "began_at": timezone.now() - timedelta(days=2),
        "age_max": 600,
        "unsigned": "network",
        "variants": list(conf.variants_with),
        "names": list(BY_NAME),
        "categories": list(BY_CATEGORY),
    }
    everybody = [uuid.uuid4() for _ in range(1000)]
    members: dict[str, Any] = {
        "who": everybody,
        "flags": [1] * len(everybody),
        "rollout": rollout.pk,
        "stage": 1,
    }
    found = {}
    with connection.cursor() as cursor:
        for name, sql, parameters in (
            ("window", store.WINDOW, window),
            ("members", store.REMEMBER, members),
        ):
            cursor.execute("BEGIN")
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) {sql}", parameters)
            found[name] = "\n".join(row[0] for row in cursor.fetchall())
            cursor.execute("ROLLBACK")
            for table in ("rollout_telemetry", "rollout_stage_member"):
                assert f"Seq Scan on {table}" not in found[name], found[name]
    return found


def postgres_cpu() -> float:
    """Return the seconds of CPU that our connection's server process has used."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        times = psutil.Process(cursor.fetchone()[0]).cpu_times()
    return float(times.user + times.system)


def intake(batches: int) -> tuple[float, list[float]]:
    """Send batches through the whole WSGI application: throttle, view, checks, COMMIT, answer.

    Returns events per second of CPU, PostgreSQL's and ours together, and the time of each batch in ms.
    """
    requests = [
        RequestFactory(REMOTE_ADDR=f"10.0.{number // 250}.{number % 250}", HTTP_HOST="127.0.0.1")
        .post("/api/telemetry", next(telemetry_batches()), content_type="application/json")
        .environ
        for number in range(batches)
    ]
    application = get_wsgi_application()
    statuses: list[str] = []
    took = []

    def start_response(status: str, *_: Any) -> Callable[[bytes], object]:
        statuses.append(status)
        return lambda _data: None

    began = time.process_time() + postgres_cpu()
    for environ in requests:
        start = time.perf_counter()
        application(environ, start_response).close()
        took.append((time.perf_counter() - start) * 1000)
    spent = time.process_time() + postgres_cpu() - began
    assert set(statuses) == {"202 Accepted"}, set(statuses)
    return batches * EVENTS / spent, took


@contextmanager
def purging(cutoff_days: float) -> Iterator[list[int]]:
    """Purge in a thread of its own while the block runs."""
    deleted: list[int] = []

    def work() -> None:
        now = timezone.now() + conf.event_retention - timedelta(days=cutoff_days)
        deleted.append(purge(now=now)["telemetry"])
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    yield deleted
    thread.join()
