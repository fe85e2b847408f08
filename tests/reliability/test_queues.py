"""Checks are made on time, whatever else Celery does: real workers, a real broker, tasks that hang."""

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import redis
from celery import Celery

from fundapi.addresses import broker
from fundapi.celery import app
from rollout.alerts import outbox
from rollout.models import Alert, Check
from tests.canary import Judged
from tests.eventually import eventually
from tests.reliability.valkey import Valkey
from tests.servers import celery, celery_arguments, database_url

HANGING = ("idempotency.purge_expired", "rollout.purge", "fundapi.purge_signins", "rollout.revert")
BLOCKED = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    " AND query ~ '^\\s*(WITH|DELETE|SELECT .* FROM \"rollout_deployment\")'"
)
HANG = """
CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NULL; END $$;
CREATE TRIGGER hang BEFORE DELETE ON idempotency_store FOR EACH STATEMENT EXECUTE FUNCTION hang();
CREATE TRIGGER hang BEFORE DELETE ON rollout_telemetry FOR EACH STATEMENT EXECUTE FUNCTION hang();
CREATE TRIGGER hang BEFORE DELETE ON axes_accesslog FOR EACH STATEMENT EXECUTE FUNCTION hang();
"""


@contextmanager
def everything_hangs() -> Iterator[Callable[[], int]]:
    """Make purges wait at their first DELETE, and reverts at their table; yield a function that counts who waits."""
    with psycopg.connect(database_url()) as locking, psycopg.connect(database_url(), autocommit=True) as look:
        look.execute(HANG)
        try:
            locking.execute("SELECT pg_advisory_xact_lock(4711)")
            locking.execute("LOCK TABLE rollout_deployment IN ACCESS EXCLUSIVE MODE")
            yield lambda: look.execute(BLOCKED).fetchone()[0]  # type: ignore[index]
        finally:
            locking.rollback()
            look.execute("DROP FUNCTION hang CASCADE")


def environment(valkey: Valkey) -> dict[str, str]:
    # A purge that hangs for long: far longer than a test takes.
    patient = {"DATABASE_LOCK_TIMEOUT": "300", "DATABASE_STATEMENT_TIMEOUT": "300"}
    github = {"GITHUB_TOKEN": "none", "GITHUB_REPOSITORY": "acme/funds", "ROLLOUT_AUTO_REVERT": "on"}
    return {"DATABASE_URL": database_url(), "REDIS_URL": valkey.url, **patient, **github}


def send(valkey: Valkey, *tasks: str, args: tuple[int, ...] = ()) -> None:
    """Send tasks as beat does: by their names alone."""
    with app.connection_for_write(broker(valkey.url)[0]) as connection:
        for task in tasks:
            app.send_task(task, args, connection=connection)


def length(valkey: Valkey, queue: str) -> int:
    with redis.Redis(unix_socket_path=str(valkey.socket)) as client:
        return int(client.llen(queue))


def test_purges_and_a_revert_that_hang_delay_no_check_no_alert_and_not_each_other(
    traffic: Judged, valkey: Valkey, tmp_path: Path
) -> None:
    canary = traffic()
    alert = Alert.objects.create(
        key=uuid.uuid4().hex, rollout=canary.rollout, kind="red", channel="email", payload={}
    )

    def made(count: int) -> bool:
        return Check.objects.filter(rollout=canary.pk).count() == count

    with ExitStack() as stack:
        for name in ("worker", "checks"):
            stack.enter_context(
                celery(environment(valkey), tmp_path / f"{name}.log", *celery_arguments(name))
            )
        waiting = stack.enter_context(everything_hangs())
        for _ in range(6):  # a purge that is sent again while it hangs takes no further process
            send(valkey, *HANGING)
        eventually(lambda: waiting() == len(HANGING), timeout=60)
        send(valkey, outbox.TASK, args=(alert.pk,))
        eventually(lambda: Alert.objects.filter(pk=alert.pk, skipped=True).exists(), timeout=20)
        for number in (1, 2, 3):
            canary.send(clients=5)
            canary.rewind()
            send(valkey, "rollout.check")
            eventually(partial(made, number), timeout=20)
        assert waiting() == len(HANGING)  # all the while


def test_the_worker_has_a_process_more_than_there_are_tasks_that_may_hang() -> None:
    app.loader.import_default_modules()
    alone = {name for name, task in app.tasks.items() if getattr(task, "alone", False)}
    assert alone == set(HANGING)
    arguments = celery_arguments("worker")
    assert int(arguments[arguments.index("--concurrency") + 1]) > len(alone)


def test_every_task_ends_in_time() -> None:
    """Each periodic one before the broker would deliver it again, but the purges, which run once at a time."""
    app.loader.import_default_modules()
    limits = {
        name: task.time_limit or app.conf.task_time_limit
        for name, task in app.tasks.items()
        if not name.startswith("celery.")
    }
    assert {name for name, limit in limits.items() if limit > 300} == {n for n in HANGING if "purge" in n}
    assert all(limits.values())


def test_a_worker_for_everything_makes_checks_too(traffic: Judged, valkey: Valkey, tmp_path: Path) -> None:
    """A deployment whose command is that of an earlier version, without --queues."""
    canary = traffic()
    canary.send(clients=5)
    with celery(environment(valkey), tmp_path / "worker.log", "worker", "--concurrency", "1"):
        send(valkey, "rollout.check")
        eventually(lambda: Check.objects.filter(rollout=canary.pk).exists(), timeout=60)


def test_a_check_that_an_earlier_beat_sent_is_made(traffic: Judged, valkey: Valkey, tmp_path: Path) -> None:
    """It lies in the only queue that there was; the worker of purges takes it."""
    canary = traffic()
    canary.send(clients=5)
    earlier = Celery(broker=valkey.url.replace("unix://", "redis+socket://", 1))
    earlier.send_task("rollout.check")
    assert (length(valkey, "celery"), length(valkey, "checks")) == (1, 0)
    with celery(environment(valkey), tmp_path / "worker.log", *celery_arguments("worker")):
        eventually(lambda: Check.objects.filter(rollout=canary.pk).exists(), timeout=60)


def test_each_task_goes_into_one_queue(valkey: Valkey) -> None:
    app.loader.import_default_modules()
    tasks = [name for name in app.tasks if not name.startswith("celery.")]
    assert "rollout.check" in tasks
    send(valkey, *tasks)
    with redis.Redis(unix_socket_path=str(valkey.socket)) as client:
        queued: dict[str, list[Any]] = {
            queue: [
                json.loads(message)["headers"]["task"] for message in client.lrange(f"test.{queue}", 0, -1)
            ]
            for queue in ("celery", "checks")
        }
        assert not client.exists("celery", "checks")  # where other environments would take them
    assert queued["checks"] == ["rollout.check"]
    assert sorted(queued["celery"]) == sorted(set(tasks) - {"rollout.check"})
