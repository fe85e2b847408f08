from celery import shared_task

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
