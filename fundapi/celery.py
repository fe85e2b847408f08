"""The Celery application. It runs the purges and the judge; tasks are in each app's ``tasks.py``."""

import logging
from typing import Any

from celery import Celery
from celery.schedules import crontab
from celery.signals import setup_logging, worker_ready
from django.conf import settings
from kombu import Exchange, Queue
from prometheus_client import start_http_server

from fundapi.metrics import registry
from fundapi.variables import exit_in_one_sentence, name_settings

logger = logging.getLogger(__name__)

name_settings()
with exit_in_one_sentence():
    beat_schedule = settings.CELERY_BEAT_SCHEDULE

app = Celery("fundapi")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
# A worker without --queues consumes all of these, so a deployment that starts only that one, as before there was a
# second queue, runs every task. Exchange and key are those that Celery gives a queue that is not declared here.
app.conf.task_queues = [Queue(name, Exchange(name), routing_key=name) for name in ("celery", "checks")]
app.conf.beat_schedule = {
    name: entry | ({"schedule": crontab(**entry["schedule"])} if isinstance(entry["schedule"], dict) else {})
    for name, entry in beat_schedule.items()
}


@setup_logging.connect
def keep_our_logs(**_: Any) -> None:
    """Keep Django's LOGGING in workers; without this handler Celery would set its own level."""


@worker_ready.connect
def serve_metrics(**_: Any) -> None:
    """Serve the worker's metrics on a port of their own, where worker and web share no disk."""
    if settings.WORKER_METRICS_PORT:
        try:
            start_http_server(settings.WORKER_METRICS_PORT, registry=registry())
        except OSError as error:  # another worker of this machine has it, and shows the metrics of both
            logger.warning("worker_metrics_not_served", extra={"reason": str(error)})
