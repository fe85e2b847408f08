"""The daily purge, with real Celery: beat sends it, a worker runs it, a metric counts it."""

import json
import uuid
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import redis
from django.utils import timezone

from benchmarks.servers import free_port
from fundapi.celery import app
from idempotency.models import IdempotencyKey
from tests.eventually import eventually
from tests.reliability.valkey import private_valkey
from tests.servers import celery, database_url


def keys(principal: str, count: int, *, hours: float) -> None:
    """Keys of one principal that expire ``hours`` from now."""
    now = timezone.now()
    IdempotencyKey.objects.bulk_create(
        IdempotencyKey(
            digest=uuid.uuid4(),
            environment="test",
            operation="fund-create",
            principal=principal,
            token=uuid.uuid4().hex,
            fingerprint=uuid.uuid4(),
            status=201,
            content_type="application/json",
            body=b"{}",
            created_at=now - timedelta(hours=24),
            expires_at=now + timedelta(hours=hours),
        )
        for _ in range(count)
    )


def purged(port: int) -> float:
    """Return the number of purged keys by the worker's metrics; nothing before they are served."""
    try:
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
    except httpx.TransportError:
        return 0
    found = [line for line in text.splitlines() if line.startswith("idempotency_purged_keys_total")]
    return sum(float(line.rpartition(" ")[2]) for line in found)


@pytest.mark.parametrize(
    ("name", "hours"),
    [("purge-expired-idempotency-keys", 24), ("purge-signins", 24), ("purge-rollout-data", 1)],
)
def test_a_beat_that_restarts_before_its_interval_is_over_still_purges(name: str, hours: int) -> None:
    """Restarts do not push its time away, as they would with an interval."""
    schedule, period = app.conf.beat_schedule[name]["schedule"], timedelta(hours=hours)

    def due(started: datetime) -> datetime:
        at: datetime = datetime.now(UTC) + schedule.remaining_estimate(started)
        return at.replace(second=0, microsecond=0) + timedelta(minutes=at.second >= 30)

    starts = [datetime(2026, 3, 1, 3, 15, tzinfo=UTC) + period * number / 8 for number in range(8)]
    assert all(timedelta(0) < due(started) - started <= period for started in starts)
    assert len({due(started) for started in starts}) <= 2


def test_a_beat_without_memory_sends_every_task_at_once_and_one_with_it_does_not(tmp_path: Path) -> None:
    """However short each life of beat is, and whenever it is away, no task starves."""
    every = sorted(entry["task"] for entry in app.conf.beat_schedule.values())
    with private_valkey() as valkey, redis.Redis(unix_socket_path=str(valkey.socket)) as client:

        def sent() -> list[str]:
            messages = [
                each for queue in ("test.celery", "test.checks") for each in client.lrange(queue, 0, -1)
            ]
            return sorted(json.loads(message)["headers"]["task"] for message in messages)

        env = {"REDIS_URL": valkey.url, "ROLLOUT_CHECK_INTERVAL": "3600", "LOG_LEVEL": "DEBUG"}
        for life in (1, 2):
            log = tmp_path / f"{life}.log"
            with celery(env, log, "beat", "--schedule", str(tmp_path / "schedule")):
                eventually(lambda: sent() == every, timeout=30)
                eventually(log.read_text, lambda text: "Waking up in" in text, timeout=30)
        assert sent() == every


def last_success(port: int) -> float:
    """Return when keys were last purged, by the worker's metrics."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
    name = 'idempotency_purge_last_success_timestamp_seconds{table="idempotency_store"}'
    (line,) = [line for line in text.splitlines() if line.startswith(name)]
    return float(line.rpartition(" ")[2])


def test_beat_sends_the_purge_a_worker_runs_it_and_a_metric_counts_it(database: None, tmp_path: Path) -> None:
    expired, live = uuid.uuid4().hex, uuid.uuid4().hex
    keys(expired, 25, hours=-1)
    keys(live, 3, hours=1)
    metrics, port = tmp_path / "metrics", free_port()
    metrics.mkdir()
    with private_valkey() as valkey, ExitStack() as stack:
        env = {
            "DATABASE_URL": database_url(),
            "REDIS_URL": valkey.url,
            "IDEMPOTENCY_PURGE_INTERVAL": "1",
            "PROMETHEUS_MULTIPROC_DIR": str(metrics),
            "WORKER_METRICS_PORT": str(port),
        }
        schedule = str(tmp_path / "schedule")
        stack.enter_context(celery(env, tmp_path / "worker.log", "worker", "--concurrency", "1"))
        stack.enter_context(celery(env, tmp_path / "beat.log", "beat", "--schedule", schedule))
        eventually(lambda: not IdempotencyKey.objects.filter(principal=expired).exists(), timeout=60)
        eventually(lambda: purged(port) >= 25)
        assert timezone.now().timestamp() - last_success(port) < 60
        # And again: it is a schedule, not a single shot.
        keys(expired, 4, hours=-1)
        eventually(lambda: not IdempotencyKey.objects.filter(principal=expired).exists(), timeout=60)
        eventually(lambda: purged(port) >= 29)
    assert IdempotencyKey.objects.filter(principal=live).count() == 3
