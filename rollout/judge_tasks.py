"""Celery tasks of the judge, its alerts and reverts, which need the extra ``judge``."""

import logging
from io import StringIO

from billiard.exceptions import SoftTimeLimitExceeded
from celery import Task, shared_task
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db import connection

from rollout.alerts import outbox
from rollout.conf import conf
from rollout.extras import NotInstalled
from rollout.tick import EARLY, tick

logger = logging.getLogger(__name__)

# s; checks take milliseconds: one that hangs is killed, and the next one judges in its place.
CHECK_LIMIT = 120
REVERT_LIMIT = 100  # s; GitHub and git may hang
GRACE = 40  # s after a soft limit, which cannot interrupt everything, until the process is killed


@shared_task(name="rollout.check", time_limit=CHECK_LIMIT, ignore_result=True)
def check_rollouts() -> None:
    """Judge every rollout; schedule it every ``ROLLOUT_CHECK_INTERVAL``. May run twice, at once or again."""
    tick()


@shared_task(
    name=outbox.TASK,
    bind=True,
    max_retries=None,
    soft_time_limit=outbox.SEND_LIMIT,
    time_limit=outbox.SEND_LIMIT + GRACE,
    ignore_result=True,
)
def deliver_alert(task: Task, alert_id: int) -> None:
    """Send an alert, and retry later if that fails. May run twice, at once or again."""
    try:
        outbox.deliver(alert_id)
    except outbox.NotDelivered as error:
        # A second late: an alert that is not due yet cannot be claimed.
        raise task.retry(exc=error, countdown=error.pause.total_seconds() + 1) from None


@shared_task(
    name="rollout.revert", soft_time_limit=REVERT_LIMIT, time_limit=REVERT_LIMIT + GRACE, ignore_result=True
)
def open_revert() -> None:
    """Open the revert of the latest deployment if the judge has rolled back since; schedule it with the checks.

    Does nothing once that is settled, or just after another attempt: where GitHub hangs, an hour of late messages would
    keep the worker for an hour. May run twice, at once or again.
    """
    tried = f"rollout.revert.{connection.settings_dict['NAME']}"
    if cache.get(tried):
        return
    try:
        # By name: only the commands import GitHub and git.
        call_command("revert_deployment", "--after-rollback", stdout=StringIO(), stderr=StringIO())
    except (CommandError, NotInstalled, SoftTimeLimitExceeded) as error:
        logger.error("rollout_revert_failed", extra={"reason": str(error) or type(error).__name__})  # noqa: TRY400
    finally:
        cache.set(tried, b"1", EARLY * conf.policy.check_interval.total_seconds())
