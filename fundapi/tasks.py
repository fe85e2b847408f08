from celery import shared_task

from fundapi.access.signins import purge


@shared_task(name="fundapi.purge_signins", ignore_result=True)
def purge_signins() -> None:
    """Delete records of sign-ins that are too old; schedule it daily. May run twice, at once or again."""
    purge()
