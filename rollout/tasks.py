"""The Celery tasks. Without the extra ``judge``, a worker has the purge alone, and says so."""

import logging

from celery import shared_task

from rollout import extras
from rollout.purge import purge

try:
    from rollout.judge_tasks import check_rollouts, deliver_alert, open_revert
except ModuleNotFoundError as error:
    if (sentence := extras.missing(error, "judge")) is None:
        raise
    logging.getLogger(__name__).warning("No rollout is judged by this worker. %s", sentence)

__all__ = ["check_rollouts", "deliver_alert", "open_revert", "purge_rollout_data"]


@shared_task(name="rollout.purge", ignore_result=True)
def purge_rollout_data() -> None:
    """Delete telemetry and checks that are too old; schedule it hourly. May run twice, at once or again."""
    purge()
