"""One Django project for P0 and for every Django peer: the product's settings, with BENCH_PEER in our place."""

import os

from benchmarks.peers.catalog import PEERS
from benchmarks.settings import *  # noqa: F403
from benchmarks.settings import INSTALLED_APPS, MIDDLEWARE, REDIS_URL, REST_FRAMEWORK

PEER = PEERS[os.environ["BENCH_PEER"]]
OURS = "idempotency.middleware.IdempotencyMiddleware"

ROOT_URLCONF = "benchmarks.peers.urls"
INSTALLED_APPS = [*INSTALLED_APPS, *PEER.apps]
MIDDLEWARE = [*(name for name in MIDDLEWARE if name != OURS), *PEER.middleware]
REST_FRAMEWORK = {**REST_FRAMEWORK, "EXCEPTION_HANDLER": "rest_framework.views.exception_handler"}
globals().update(PEER.settings(REDIS_URL))
