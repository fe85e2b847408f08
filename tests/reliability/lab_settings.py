"""The project's own settings, with a URLconf of views that misbehave and time-outs that a test can afford."""

import os
from datetime import timedelta

from fundapi.settings import *  # noqa: F403
from fundapi.settings import DATABASE, MIDDLEWARE

ROOT_URLCONF = "tests.reliability.lab"
MIDDLEWARE = ["tests.reliability.lab.StopAfterCommit", *MIDDLEWARE]
IDEMPOTENCY_ADMIT = "tests.reliability.lab.admit"
IDEMPOTENCY_STATEMENT_TIMEOUT = timedelta(seconds=float(os.environ.get("LAB_STATEMENT_TIMEOUT", "60")))
IDEMPOTENCY_IDLE_TIMEOUT = timedelta(seconds=float(os.environ.get("LAB_IDLE_TIMEOUT", "60")))
DATABASE["OPTIONS"]["application_name"] = f"lab-{os.getpid()}"  # a test kills the process behind a session
if search_path := os.environ.get("LAB_SEARCH_PATH"):
    DATABASE["OPTIONS"]["options"] += f" -c search_path={search_path}"
