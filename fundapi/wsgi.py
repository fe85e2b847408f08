"""The WSGI application that Granian serves."""

import gc

# What a start makes is there to stay: collections, which find nothing, take a fourth of its time.
gc.disable()

from importlib import import_module

import django
from django.conf import settings

from fundapi.variables import name_settings

name_settings()

import fundapi.web.light  # noqa: F401 - before the settings import structlog

if settings.OTEL_SIGNALS:
    from fundapi.web import tracing

    tracing.start()
    tracing.trace_requests()

django.setup(set_prefix=False)

# These need the settings.
from fundapi.web import affinity
from fundapi.web.answers import Answers
from fundapi.web.handler import Handler
from fundapi.web.overload import OverloadControl
from fundapi.web.vitals import Vitals

application = OverloadControl(Answers(Handler()))
import_module(settings.ROOT_URLCONF)  # with all views: the first request would wait for them
# From now on, the collector looks only at what requests make: a create takes a tenth less.
gc.freeze()
gc.enable()
Vitals(
    application.held,
    hung=settings.WEB_HUNG_SECONDS,
    connections_max=settings.WEB_CONNECTIONS,
    affinity=affinity.start() if settings.WEB_CPU_AFFINITY else None,
).start()
