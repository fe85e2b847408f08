"""Tells people what the judge saw and did: an outbox in the database, sent through Celery."""

from rollout.judge import Decision
from rollout.models import Check


def create(check: Check, decision: Decision) -> None:
    """Put the alerts of a check into the outbox, one for each channel that is configured."""


def resend() -> None:
    """Send again what should have been sent by now: the broker was away, or a worker died."""
