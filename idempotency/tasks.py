from celery import shared_task

from idempotency.purge import purge_expired


@shared_task(name="idempotency.purge_expired", ignore_result=True)
def purge_expired_keys() -> int:
    """Delete expired keys; schedule it daily (runbook, "Cleanup"). May run twice, at once or again."""
    return purge_expired()
