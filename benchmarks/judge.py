"""The judge at a million events a day: what a check, an intake and a purge cost the database.

    python -m benchmarks.judge [--events 1000000] [--checks 60]

Fills a private PostgreSQL with a day of telemetry, then judges its latest hour minute by minute, takes batches of 200
events with and without a purge beside them, and writes benchmarks/judge.md and judge.json.
"""

import argparse
import json
import os
import platform
import secrets
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.__main__ import manage
from fundapi.embedded import services

RESULTS = Path(__file__).resolve().parent
MINUTES = 24 * 60
BATCH = 200  # events; as many as a browser sends at once

# Nine heartbeats in ten; 100,000 clients, each with two sessions.
FILL = """
INSERT INTO rollout_telemetry (id, arrived_at, client, session, event, category, ok, flag, variant, at, lost)
SELECT gen_random_uuid(), now() - interval '1 day' + n * interval '1 day' / %(events)s,
       md5('client' || n %% 100000)::uuid, md5('session' || n %% 200000)::uuid,
       CASE WHEN n %% 10 > 0 THEN 'heartbeat' WHEN n %% 20 = 0 THEN 'migration_succeeded' ELSE 'console_warning' END,
       'usage', n %% 20 <> 10, 'BENCHED', CASE WHEN n %% 2 = 0 THEN 'fund-store' ELSE 'legacy' END, now(), 0
FROM generate_series(1, %(events)s) AS n
ORDER BY n
"""
MEMBERS = """
INSERT INTO rollout_stage_member (rollout_id, stage, who, flags)
SELECT DISTINCT %s, 1, who, 1 FROM (
    SELECT client AS who FROM rollout_telemetry UNION SELECT session FROM rollout_telemetry
) AS everybody
"""


class Stopwatch:
    """Adds up what Django spends in SQL: the time from sending a statement to its answer."""

    def __init__(self) -> None:
        self.spent = 0.0

    def __call__(self, execute: Callable[..., Any], *arguments: Any) -> Any:
        began = time.perf_counter()
        try:
            return execute(*arguments)
        finally:
            self.spent += time.perf_counter() - began


def quantile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


def fill(events: int) -> Any:
    """Make a rollout at 50 % with a day of telemetry."""
    from django.db import connection  # noqa: PLC0415 - Django is set up when the services run

    from rollout.models import Rollout, Watch  # noqa: PLC0415

    rollout = Rollout.objects.create(
        feature="BENCHED", percentage=50, stage="partial", timeline="manual", auto_rollback=False
    )
    Watch.objects.create(rollout=rollout, watermark=0)
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(FILL, {"events": events})
        cursor.execute(MEMBERS, [rollout.pk])
        cursor.execute("VACUUM ANALYZE")
    return rollout


def judge(rollout: Any, events: int, checks: int) -> tuple[list[float], list[float]]:
    """Judge the latest minutes; return what each check spent in SQL and in all, in ms."""
    from django.db import connection  # noqa: PLC0415
    from django.utils import timezone  # noqa: PLC0415

    from rollout import store  # noqa: PLC0415
    from rollout.models import Watch  # noqa: PLC0415
    from rollout.tick import check  # noqa: PLC0415

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
    from django.db import connection  # noqa: PLC0415

    from rollout import store  # noqa: PLC0415

    last = store.last_seq()
    everybody = [uuid.uuid4() for _ in range(1000)]
    members = {"who": everybody, "flags": [1] * len(everybody), "rollout": rollout.pk, "stage": 1}
    found = {}
    with connection.cursor() as cursor:
        for name, sql, parameters in (
            ("window", store.WINDOW, (last - events // MINUTES, last, "BENCHED")),
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
    from django.db import connection  # noqa: PLC0415

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        times = psutil.Process(cursor.fetchone()[0]).cpu_times()
    return float(times.user + times.system)


def intake(batches: int) -> tuple[float, list[float]]:
    """Take batches as the view does, from bytes to COMMIT.

    Returns events per second of CPU, PostgreSQL's and ours together, and the time of each batch in ms.
    """
    from rollout import store  # noqa: PLC0415
    from rollout.telemetry import parse, tracked  # noqa: PLC0415

    bodies = [
        json.dumps(
            {
                "clientId": str(uuid.uuid4()),
                "sessionId": str(uuid.uuid4()),
                "dropped": 0,
                "events": [
                    {
                        "id": str(uuid.uuid4()),
                        "event": "heartbeat",
                        "category": "usage",
                        "ok": True,
                        "at": "2026-11-23T09:00:00.000Z",
                        "flag": "BENCHED",
                        "variant": "fund-store",
                        "detail": None,
                    }
                    for _ in range(BATCH)
                ],
            }
        ).encode()
        for _ in range(batches)
    ]
    took = []
    began = time.process_time() + postgres_cpu()
    for body in bodies:
        start = time.perf_counter()
        batch = parse(json.loads(body), tracks=tracked())
        assert store.arrive(batch.events) == BATCH
        took.append((time.perf_counter() - start) * 1000)
    spent = time.process_time() + postgres_cpu() - began
    return batches * BATCH / spent, took


@contextmanager
def purging(cutoff_days: float) -> Iterator[list[int]]:
    """Purge beside whatever happens inside, in a thread of its own."""
    from django.db import connection  # noqa: PLC0415
    from django.utils import timezone  # noqa: PLC0415

    from rollout.conf import conf  # noqa: PLC0415
    from rollout.purge import purge  # noqa: PLC0415

    deleted: list[int] = []

    def work() -> None:
        now = timezone.now() + conf.event_retention - timedelta(days=cutoff_days)
        deleted.append(purge(now=now)["telemetry"])
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    yield deleted
    thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judge", description=__doc__.split("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000, help="of a day")
    parser.add_argument("--checks", type=int, default=60)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="fundapi-bench-") as home,
        services(Path(home), environ=os.environ),
    ):
        os.environ |= {
            "FUNDAPI_HOME": home,
            "SECRET_KEY": secrets.token_urlsafe(48),
            "DJANGO_SETTINGS_MODULE": "fundapi.settings",
            "LOG_LEVEL": "ERROR",
        }
        manage("migrate", "--verbosity", "0")
        import django  # noqa: PLC0415

        django.setup()
        rollout = fill(options.events)
        in_sql, in_all = judge(rollout, options.events, options.checks)
        found = plans(rollout, options.events)
        intake(20)  # warms up
        rate, alone = intake(300)
        with purging(0.5) as deleted:
            _, beside = intake(300)
        from django.db import connection  # noqa: PLC0415

        connection.close()
    figures = {
        "check, ms in SQL, median": statistics.median(in_sql),
        "check, ms in SQL, p95": quantile(in_sql, 95),
        "check, ms in all, median": statistics.median(in_all),
        "intake, events per second of CPU (PostgreSQL and ours)": rate,
        f"intake of {BATCH} events, ms, median": statistics.median(alone),
        f"intake of {BATCH} events, ms, p99": quantile(alone, 99),
        "the same while half a day is purged, ms, median": statistics.median(beside),
        "the same while half a day is purged, ms, p99": quantile(beside, 99),
        "rows purged meanwhile": deleted[0],
    }
    report(figures, found, vars(options))


def report(figures: dict[str, float], found: dict[str, str], options: dict[str, Any]) -> None:
    described = {
        "command": " ".join(["python -m benchmarks.judge", *sys.argv[1:]]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        **options,
    }
    table = Table("figure", "value")
    lines = ["# The judge at a million events a day", ""]
    lines += [f"- {name}: {value}" for name, value in described.items()]
    lines += ["", "| figure | value |", "|---|---|"]
    for name, value in figures.items():
        shown = f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"
        table.add_row(name, shown)
        lines.append(f"| {name} | {shown} |")
    Console().print(table)
    for name, plan in found.items():
        lines += ["", f"Plan of `{name}` in rollout/store.py:", "", "```", plan, "```"]
    RESULTS.joinpath("judge.md").write_text("\n".join(lines) + "\n")
    document = {"settings": described, "figures": figures}
    RESULTS.joinpath("judge.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
