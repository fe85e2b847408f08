"""Celery tasks of the project."""

from celery import shared_task

from fundapi.access.signins import purge


@shared_task(name="fundapi.purge_signins", ignore_result=True)
def purge_signins() -> None:
    """Delete old records of sign-ins. Schedule it daily; it may run twice, also at the same time."""
    purge()
