"""The Celery application. It runs the purges and the judge; tasks are in each app's ``tasks.py``."""

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_ready
from django.conf import settings
from prometheus_client import start_http_server

from fundapi.metrics import registry

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fundapi.settings")

app = Celery("fundapi")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@setup_logging.connect
def keep_our_logs(**_: Any) -> None:
    """Keep Django's LOGGING in workers; without this handler Celery would set its own level."""


@worker_ready.connect
def serve_metrics(**_: Any) -> None:
    """Serve the worker's metrics on a port of their own, where worker and web share no disk."""
    if settings.WORKER_METRICS_PORT:
        start_http_server(settings.WORKER_METRICS_PORT, registry=registry())
