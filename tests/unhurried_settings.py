"""The project's own settings, and time for a test to look around while a guarded view is stopped."""

from datetime import timedelta

from fundapi.settings import *  # noqa: F403

IDEMPOTENCY_STATEMENT_TIMEOUT = timedelta(seconds=60)
