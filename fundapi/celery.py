"""The Celery application. It runs the purges and the judge; tasks are in each app's ``tasks.py``."""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import celery
from celery import Celery, bootsteps
from celery.beat import PersistentScheduler
from celery.schedules import crontab
from celery.signals import (
    beat_init,
    celeryd_after_setup,
    setup_logging,
    worker_before_create_process,
    worker_ready,
)
from django.conf import settings
from django.db import connection, connections
from kombu import Exchange, Queue
from prometheus_client import start_http_server

import fundapi.web.light  # noqa: F401 - before the settings import redis-py
from fundapi import watchdog
from fundapi.variables import exit_in_one_sentence, name_settings
from fundapi.web import demoted
from rollout.checks import check_seeds

logger = logging.getLogger(__name__)

name_settings()
with exit_in_one_sentence():
    beat_schedule = settings.CELERY_BEAT_SCHEDULE

from fundapi.metrics import registry  # noqa: E402 - reads a variable, which may be wrong

if settings.OTEL_SIGNALS:
    with exit_in_one_sentence():
        from fundapi.task_traces import trace_tasks
        from fundapi.web.tracing import check

        check()
    trace_tasks()

NEVER = datetime(2000, 1, 1, tzinfo=UTC)
# Times WATCHDOG_SECONDS for a process without its broker, or on its way to end: that is not hanging.
PATIENCE = 10
ALONE = 0x616C6F6E  # "alon": namespace of the advisory locks of tasks that run once at a time


class Task(celery.Task):
    """A task of the project. With ``alone`` (CELERY_TASK_ANNOTATIONS) a second run at the same time does nothing.

    So a purge that takes hours, or a revert that hangs, holds one of the worker's processes, however often it is sent.
    """

    alone = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            if not self.alone:
                return super().__call__(*args, **kwargs)
            with held(str(self.name)) as free:
                return super().__call__(*args, **kwargs) if free else None
        finally:
            demoted.leave(connections.all(initialized_only=True))


@contextmanager
def held(name: str) -> Iterator[bool]:
    """Hold the database's lock of a task, and yield whether it was free.

    A transaction of a connection of its own holds it: that ends with the process in any way, and a transaction pooler
    keeps it in one session. Without a snapshot it does not hold back vacuum.
    """
    holder = connection.copy()
    try:
        holder.set_autocommit(False)
        with holder.cursor() as cursor:
            # The task's own statements go over the other connection.
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s, hashtext(%s))", [ALONE, name])
            free: bool = cursor.fetchone()[0]
        yield free
    finally:
        holder.close()


class Scheduler(PersistentScheduler):
    """Beat's scheduler, which gives a sign of life each time that it looks for due tasks."""

    def tick(self, *args: Any, **kwargs: Any) -> float:
        watchdog.alive(settings.WATCHDOG_SECONDS)
        return float(super().tick(*args, **kwargs))

    def _ensure_connected(self) -> Any:
        watchdog.alive(settings.WATCHDOG_SECONDS, PATIENCE)
        return super()._ensure_connected()  # type: ignore[misc]  # celery-types lacks it


class Heartbeat(bootsteps.StartStopStep):
    """Signs of life of a worker, from the loop that takes messages; it starts anew with each connection."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **_: Any) -> None:
        self.stop(consumer)

    def start(self, consumer: Any) -> None:
        seconds = settings.WATCHDOG_SECONDS
        watchdog.alive(seconds)
        consumer.timer.call_repeatedly(settings.CELERY_BEAT_MAX_LOOP_INTERVAL, watchdog.alive, (seconds,))

    def stop(self, _consumer: Any) -> None:
        watchdog.alive(settings.WATCHDOG_SECONDS, PATIENCE)


app = Celery("fundapi", task_cls=Task)
app.steps["consumer"].add(Heartbeat)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


def queue(name: str, alias: str | None = None) -> Queue:
    """Return a queue with the exchange and key that Celery gives one that is not declared."""
    return Queue(name, Exchange(name), routing_key=name, alias=alias)


# A worker without --queues takes from both. Environments that share a Valkey have queues of their own; routes and
# command lines name them by the alias.
app.conf.task_queues = [queue(f"{settings.ENVIRONMENT}.{name}", alias=name) for name in ("celery", "checks")]
# "Never run": a beat without memory of earlier runs (a restart on a tmpfs) sends each task at once. Whatever makes beat
# restart, and however often, nothing starves.
app.conf.beat_schedule = {
    name: entry
    | ({"schedule": crontab(**entry["schedule"])} if isinstance(entry["schedule"], dict) else {})
    | {"last_run_at": NEVER}
    for name, entry in beat_schedule.items()
}


@setup_logging.connect
def keep_our_logs(**_: Any) -> None:
    """Keep Django's LOGGING in workers; without this handler Celery would set its own level."""


@worker_before_create_process.connect
def share_memory(**_: Any) -> None:
    """Keep the collector from writing to what a new process shares with its parent."""
    gc.collect()
    gc.freeze()


@celeryd_after_setup.connect
def take_from_earlier_queues(instance: Any, **_: Any) -> None:
    """Take also what an earlier beat sends, to queues without the name of an environment, in a rolling deployment."""
    taken = instance.app.amqp.queues.consume_from
    for name in [each.alias for each in taken.values() if each.alias]:
        taken[f"{name} of earlier versions"] = queue(name)


@worker_ready.connect
def serve_metrics(**_: Any) -> None:
    """Serve the worker's metrics on a port of their own, where worker and web share no disk."""
    if settings.WORKER_METRICS_PORT:
        try:
            start_http_server(settings.WORKER_METRICS_PORT, registry=registry())
        except OSError as error:  # another worker of this machine has it, and shows the metrics of both
            logger.warning("worker_metrics_not_served", extra={"reason": str(error)})


@beat_init.connect
def warn_of_ignored_seeds(**_: Any) -> None:
    """Warn of variables that the database overrules: beat starts once in a deployment, web workers many times."""
    for message in check_seeds(databases=["default"]):
        logger.warning("rollout_seed_ignored", extra={"reason": f"{message.msg}. {message.hint}"})
    connection.close()
