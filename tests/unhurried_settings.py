"""The project's own settings, and time for a test to look around while a guarded view is stopped."""

import os
from datetime import timedelta

from fundapi.settings import *  # noqa: F403

IDEMPOTENCY_WAIT_MAX = int(os.environ.get("UNHURRIED_WAIT_MAX", "20"))  # s
IDEMPOTENCY_STATEMENT_TIMEOUT = timedelta(seconds=60)
