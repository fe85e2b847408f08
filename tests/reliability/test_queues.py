"""Checks are made on time, whatever else Celery does: real workers, a real broker, tasks that hang."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from celery import Celery

from fundapi.celery import app
from fundapi.embedded import run as make_run
from fundapi.embedded.home import Home
from rollout.models import Check
from tests.canary import Judged, judged_rollouts
from tests.eventually import eventually
from tests.reliability.test_purge_by_celery import celery
from tests.reliability.valkey import Valkey, private_valkey
from tests.servers import Server, database_url

HANGING = "fundapi.purge_signins"  # while its table is locked
BLOCKED = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    " AND query LIKE '%%axes_accesslog%%'"
)


@pytest.fixture
def traffic(server: Server) -> Iterator[Judged]:
    with judged_rollouts(server) as make:
        yield make


@pytest.fixture
def valkey(database: None) -> Iterator[Valkey]:
    with private_valkey() as running:
        yield running


@contextmanager
def purges_hang() -> Iterator[Callable[[], int]]:
    """Lock the table of a purge; yield a function that counts the purges that wait for it."""
    with psycopg.connect(database_url()) as locking, psycopg.connect(database_url(), autocommit=True) as look:
        locking.execute("LOCK TABLE axes_accesslog IN ACCESS EXCLUSIVE MODE")
        yield lambda: look.execute(BLOCKED).fetchone()[0]  # type: ignore[index]
        locking.rollback()


def environment(valkey: Valkey) -> dict[str, str]:
    # A purge that hangs for long: far longer than a test takes.
    patient = {"DATABASE_LOCK_TIMEOUT": "300", "DATABASE_STATEMENT_TIMEOUT": "300"}
    return {"DATABASE_URL": database_url(), "REDIS_URL": valkey.url, **patient}


def send(valkey: Valkey, *tasks: str) -> None:
    """Send tasks as beat does: by their names alone."""
    url = valkey.url.replace("unix://", "redis+socket://", 1)
    with app.connection_for_write(url) as connection:
        for task in tasks:
            app.send_task(task, connection=connection)


def program(name: str) -> list[str]:
    """The arguments of Celery in a program of `make run`."""
    [found] = [each for each in make_run.programs(Home.at(Path("/nowhere"))) if each.name == name]
    return list(found.command[found.command.index("--quiet") + 1 :])


def length(valkey: Valkey, queue: str) -> int:
    with redis.Redis(unix_socket_path=str(valkey.socket)) as client:
        return int(client.llen(queue))


def test_a_worker_whose_purges_hang_delays_no_check(traffic: Judged, valkey: Valkey, tmp_path: Path) -> None:
    canary = traffic()

    def made(count: int) -> bool:
        return Check.objects.filter(rollout=canary.pk).count() == count

    with ExitStack() as stack:
        for name in ("worker", "checks"):
            stack.enter_context(celery(environment(valkey), tmp_path / f"{name}.log", *program(name)))
        waiting = stack.enter_context(purges_hang())
        send(valkey, *[HANGING] * 6)
        eventually(lambda: waiting() == 2, timeout=60)  # both processes of the worker hang
        for number in (1, 2, 3):
            canary.send(clients=5)
            canary.rewind()
            send(valkey, "rollout.check")
            eventually(partial(made, number), timeout=20)
        assert waiting() == 2  # all the while


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
    with celery(environment(valkey), tmp_path / "worker.log", *program("worker")):
        eventually(lambda: Check.objects.filter(rollout=canary.pk).exists(), timeout=60)


def test_each_task_goes_into_one_queue(valkey: Valkey) -> None:
    app.loader.import_default_modules()
    tasks = [name for name in app.tasks if not name.startswith("celery.")]
    assert "rollout.check" in tasks
    send(valkey, *tasks)
    with redis.Redis(unix_socket_path=str(valkey.socket)) as client:
        queued: dict[str, list[Any]] = {
            queue: [json.loads(message)["headers"]["task"] for message in client.lrange(queue, 0, -1)]
            for queue in ("celery", "checks")
        }
    assert queued["checks"] == ["rollout.check"]
    assert sorted(queued["celery"]) == sorted(set(tasks) - {"rollout.check"})
