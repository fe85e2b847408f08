"""The judge while things fail: no lost rollback, no double step, nobody awake."""

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import redis
from django.db import connection

from fundapi.celery import app
from rollout.models import Check, Incident
from tests.canary import Canary, Judged
from tests.eventually import eventually
from tests.reliability.valkey import private_valkey
from tests.servers import PROJECT, UNHURRIED, celery, database_url

# In this database: other test workers have waiters of their own.
BLOCKED = (
    "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE %s"
)


def start_tick() -> "subprocess.Popen[bytes]":
    command = [sys.executable, "manage.py", "check_rollouts"]
    env = os.environ | {"DATABASE_URL": database_url()} | UNHURRIED
    return subprocess.Popen(
        command, cwd=PROJECT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def kill_a_tick_that_writes_to(table: str) -> None:
    """Start a tick, let it come as far as a write to ``table``, and kill -9 it there."""
    write = f'INSERT INTO "{table}"%'
    with psycopg.connect(database_url()) as session, psycopg.connect(database_url(), autocommit=True) as look:
        session.execute(f"LOCK TABLE {table} IN SHARE MODE")
        tick = start_tick()
        try:
            eventually(lambda: look.execute(f"SELECT pid {BLOCKED}", (write,)).fetchone())
        finally:
            tick.kill()
            tick.wait()
        # The server notices that its client is gone when it next talks to it; the test must not wait for that.
        look.execute(f"SELECT pg_terminate_backend(pid) {BLOCKED}", (write,))


def red_but_for_one(canary: Canary) -> None:
    """Two red checks, and the traffic for a third."""
    for _ in range(2):
        canary.send("migration_failed", clients=3)
        canary.check()
    canary.send("migration_failed", clients=3)


def rollbacks(canary: Canary) -> Any:
    return canary.rollout.history.filter(percentage=0, history_change_reason__startswith="judge")


def test_a_worker_killed_in_the_middle_of_a_tick_loses_no_rollback(traffic: Judged) -> None:
    canary = traffic()
    red_but_for_one(canary)
    canary.rewind()
    kill_a_tick_that_writes_to("rollout_check")
    assert canary.rollout.percentage == 10  # nothing of it happened
    assert start_tick().wait(60) == 0
    assert canary.rollout.percentage == 0
    assert rollbacks(canary).count() == 1
    assert Incident.objects.filter(rollout=canary.rollout).count() == 1
    assert [made.evidence["events"] for made in Check.objects.filter(rollout=canary.rollout)] == [6, 6, 6]


def test_a_worker_killed_after_the_rollback_leaves_its_record_to_the_next_tick(traffic: Judged) -> None:
    canary = traffic()
    red_but_for_one(canary)
    canary.rewind()
    kill_a_tick_that_writes_to("rollout_incident")
    assert canary.rollout.percentage == 0  # the flag came first
    assert not Incident.objects.filter(rollout=canary.rollout).exists()
    for _ in range(2):
        assert start_tick().wait(60) == 0
    assert Incident.objects.filter(rollout=canary.rollout).count() == 1
    assert not Check.objects.filter(rollout=canary.rollout, settled=False).exists()
    assert rollbacks(canary).count() == 1


def test_many_ticks_at_once_step_once(traffic: Judged) -> None:
    canary = traffic()
    red_but_for_one(canary)
    canary.rewind()
    ticks = [start_tick() for _ in range(4)]
    assert [tick.wait(60) for tick in ticks] == [0, 0, 0, 0]
    assert Check.objects.filter(rollout=canary.rollout).count() == 3
    assert rollbacks(canary).count() == 1
    assert Incident.objects.filter(rollout=canary.rollout).count() == 1


def test_with_nobody_awake_broken_traffic_is_rolled_back_and_a_database_that_restarts_changes_nothing(
    traffic: Judged, tmp_path: Path
) -> None:
    canary = traffic()
    with private_valkey() as valkey, ExitStack() as stack:
        env = {"DATABASE_URL": database_url(), "REDIS_URL": valkey.url, "ROLLOUT_CHECK_INTERVAL": "1"}
        worker = ("worker", "--concurrency", "1")
        schedule = ("beat", "--schedule", str(tmp_path / "schedule"))
        stack.enter_context(celery(env, tmp_path / "worker.log", *worker))
        stack.enter_context(celery(env, tmp_path / "beat.log", *schedule))

        def judged() -> int:
            canary.send("migration_failed", clients=2)
            return Check.objects.filter(rollout=canary.rollout).count()

        eventually(judged)
        connection.close()  # ours would be lost too
        with psycopg.connect(database_url(), autocommit=True) as session:  # what a restart does to a client
            session.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name = 'fundapi' AND pid <> pg_backend_pid()"
            )

        def rolled_back() -> bool:
            canary.send("migration_failed", clients=2)
            return canary.rollout.percentage == 0

        eventually(rolled_back)
    reds = Check.objects.filter(rollout=canary.rollout, signal="red")
    assert reds.count() == 3
    assert Incident.objects.filter(rollout=canary.rollout).count() == 1


def test_an_hour_of_late_checks_is_one_check_and_takes_seconds(traffic: Judged, tmp_path: Path) -> None:
    """A worker was away, and finds the messages of an hour; none of them has a time by beat's clock to expire at."""
    canary = traffic()
    canary.send(clients=3)
    assert not [entry for entry in app.conf.beat_schedule.values() if "expires" in entry.get("options", {})]
    with private_valkey() as valkey, ExitStack() as stack:
        with app.connection_for_write(valkey.url.replace("unix://", "redis+socket://")) as broker:
            for _ in range(60):
                app.send_task("rollout.check", connection=broker)
        env = {"DATABASE_URL": database_url(), "REDIS_URL": valkey.url}
        queue = stack.enter_context(redis.Redis.from_url(valkey.url))

        def messages() -> int:
            waiting = [key for key in queue.scan_iter() if queue.type(key) == b"list"]
            return sum(int(queue.llen(key)) for key in waiting) + int(queue.hlen("unacked"))

        assert messages() == 60
        stack.enter_context(celery(env, tmp_path / "worker.log", "worker", "--concurrency", "1"))
        checks = Check.objects.filter(rollout=canary.rollout)
        eventually(checks.exists, timeout=60)
        began = time.monotonic()
        eventually(lambda: messages() == 0, timeout=60)
        took = time.monotonic() - began
    assert checks.count() == 1
    assert took < 20
