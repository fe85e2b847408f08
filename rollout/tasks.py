from celery import Task, shared_task

from rollout import alerts
from rollout.purge import purge
from rollout.tick import tick


@shared_task(name="rollout.check", ignore_result=True)
def check_rollouts() -> None:
    """Judge every rollout; schedule it every ``ROLLOUT_CHECK_INTERVAL``. May run twice, at once or again."""
    tick()


@shared_task(name="rollout.purge", ignore_result=True)
def purge_rollout_data() -> None:
    """Delete telemetry and checks that are too old; schedule it hourly. May run twice, at once or again."""
    purge()


@shared_task(
    name=alerts.TASK, bind=True, max_retries=None, soft_time_limit=alerts.SEND_LIMIT, ignore_result=True
)
def deliver_alert(task: Task, alert_id: int) -> None:
    """Send an alert, and try again later where that fails. May run twice, at once or again."""
    try:
        alerts.deliver(alert_id)
    except alerts.NotDelivered as error:
        # A second late rather than early: before it is due, nobody may have it.
        raise task.retry(exc=error, countdown=error.pause.total_seconds() + 1) from None
