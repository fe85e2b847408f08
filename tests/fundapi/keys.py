"""The lock of an idempotency key, held by a test."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.contrib.auth.models import User
from django.db import connection

from idempotency import keys


@contextmanager
def being_processed(user: User, token: str) -> Iterator[None]:
    """Hold the lock of a key, as a running request does."""
    digest = keys.digest(environment="test", operation="fund-create", principal=str(user.pk), token=token)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [keys.lock_id(digest)])
        yield
        cursor.execute("SELECT pg_advisory_unlock(%s)", [keys.lock_id(digest)])
