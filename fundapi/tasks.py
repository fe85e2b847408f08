"""Celery tasks of the project."""

from celery import shared_task

from fundapi.access.signins import purge


@shared_task(name="fundapi.purge_signins", ignore_result=True)
def purge_signins() -> None:
    """Delete old records of sign-ins, sessions and tokens; schedule it daily. May run twice, at once or again."""
    purge()
