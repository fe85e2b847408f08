"""Celery: cleans up and judges. Tasks live in each app's ``tasks.py``."""

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
    """Django's LOGGING holds for workers too; Celery would set its own level."""


@worker_ready.connect
def serve_metrics(**_: Any) -> None:
    """Where worker and web do not share a disk, the worker's metrics have a port of their own."""
    if settings.WORKER_METRICS_PORT:
        start_http_server(settings.WORKER_METRICS_PORT, registry=registry())
