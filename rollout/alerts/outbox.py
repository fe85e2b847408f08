"""The outbox of alerts: rows in the database, sent through Celery.

The transaction that settles a check writes its alerts as rows, one for each channel: whoever makes the check may not
know which ones are set up, and the worker that sends does. A worker claims a row, sends it and marks it as sent, or as
skipped if its channel is not set up, with no transaction open in between. If that is interrupted, the row falls due
again: an alert is sent at least once, and a receiver recognises a repeated one by its id.
"""

import hashlib
import logging
from collections.abc import Collection
from datetime import UTC, timedelta
from functools import partial

from billiard.exceptions import SoftTimeLimitExceeded
from celery import current_app
from celery.utils.time import get_exponential_backoff_interval
from django.db import transaction
from django.db.models.functions import Now
from django.urls import NoReverseMatch, reverse
from django.utils.module_loading import import_string
from kombu.exceptions import OperationalError

from rollout import metrics, store
from rollout.alerts import channels, messages
from rollout.alerts.messages import Message
from rollout.conf import conf
from rollout.judge.decision import AlertKind, Decision
from rollout.models import Alert, Check, Rollout

logger = logging.getLogger(__name__)

TASK = "rollout.deliver_alert"
SEND_LIMIT = 20  # s for one attempt, over all time-outs of its steps
LEASE = timedelta(seconds=60)  # after that an attempt has ended or died, and another worker may try
ATTEMPTS_MAX = 16  # about two hours with the pauses below, at most four
AGE_MAX = timedelta(hours=24)  # older alerts are not sent
PAUSE_MIN = 2  # s
PAUSE_FACTOR = 5  # s, doubled with every attempt
PAUSE_MAX = 1800  # s; well under the hour after which a Redis broker delivers a waiting task again
OVERDUE = timedelta(minutes=2)  # then the message to Celery is lost, not slow
RESEND_MAX = 100  # per tick; the next one sends the rest
# s; of the broker, which a tick calls while other rollouts wait for their checks
BROKER = {
    "socket_connect_timeout": 2,
    "socket_timeout": 2,
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
}


class NotDelivered(Exception):
    """An attempt failed; the next one is due in ``pause``."""

    def __init__(self, why: str, pause: timedelta) -> None:
        self.pause = pause
        super().__init__(why)


def create(check: Check, decision: Decision) -> None:
    """Write the alerts of a check to the outbox, one for each channel, and send them on commit."""
    rows = [
        Alert(
            key=f"{event}:{channel}",
            rollout=check.rollout,
            kind=kind,
            channel=channel,
            payload=messages.plain(_message(kind, event, check, decision)),
        )
        for kind in decision.alerts
        for event in [_event(kind, check, decision)]
        for channel in channels.CHANNELS
    ]
    Alert.objects.bulk_create(rows, ignore_conflicts=True)
    transaction.on_commit(partial(_queue_keys, [row.key for row in rows]))


def resend() -> None:
    """Send overdue alerts: the broker was unreachable, or a worker died."""
    _queue(
        Alert.objects.filter(
            sent_at=None,
            skipped=False,
            attempts__lt=ATTEMPTS_MAX,
            created_at__gt=Now() - AGE_MAX,
            due_at__lt=Now() - OVERDUE,
        )
        .order_by("id")
        .values_list("pk", flat=True)[:RESEND_MAX]
    )


def deliver(alert_id: int) -> None:
    """Make one attempt to send an alert, unless it is sent, skipped, not due, or claimed by another worker.

    Raises:
        NotDelivered: try again later.
    """
    claim = store.claim_alert(alert_id, lease=LEASE, attempts_max=ATTEMPTS_MAX, age_max=AGE_MAX)
    if claim is None:
        return
    context = {"channel": claim.channel, "attempt": claim.attempt}
    if claim.channel not in conf.alert_channels:
        store.alert_skipped(alert_id, attempt=claim.attempt, age_max=AGE_MAX)
        metrics.alerts.labels(claim.channel, "skipped").inc()
        logger.info("rollout_alert_skipped", extra=context)
        return
    try:
        channels.send(claim.channel, messages.restore(claim.payload), at=claim.at)
    except (channels.NotSent, SoftTimeLimitExceeded) as error:
        why = str(error) if isinstance(error, channels.NotSent) else f"took longer than {SEND_LIMIT} s"
        last = claim.attempt == ATTEMPTS_MAX
        pause = pause_after(claim.attempt)
        store.alert_failed(alert_id, attempt=claim.attempt, error=why, pause=pause)
        metrics.alerts.labels(claim.channel, "given_up" if last else "failed").inc()
        logger.log(
            logging.ERROR if last else logging.WARNING,
            "rollout_alert_given_up" if last else "rollout_alert_failed",
            extra={**context, "reason": why},
        )
        if not last:
            raise NotDelivered(why, pause) from None
        return
    Alert.objects.filter(pk=alert_id).update(sent_at=Now(), error="")
    metrics.alerts.labels(claim.channel, "sent").inc()
    logger.info("rollout_alert_sent", extra=context)


def pause_after(attempt: int) -> timedelta:
    """Return how long to wait after a failed attempt (1 is the first): exponential, with full jitter."""
    seconds = get_exponential_backoff_interval(PAUSE_FACTOR, attempt - 1, PAUSE_MAX, full_jitter=True)
    return timedelta(seconds=PAUSE_MIN + seconds)


def admin_url(rollout: Rollout | None = None) -> str:
    """Return the URL of the operator's screen (of the list without a rollout); "" if it is not configured."""
    try:
        page = (
            reverse("admin:rollout_rollout_change", args=[rollout.pk])
            if rollout
            else reverse("admin:rollout_rollout_changelist")
        )
    except NoReverseMatch:
        return ""
    return conf.admin_url.rstrip("/") + page if conf.admin_url else ""


def message_id(event: str, moment: str) -> str:
    """Return an id that is unique to an event, also among several sites."""
    text = f"{conf.environment}\0{event}\0{moment}"
    return f"msg_{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"


def _event(kind: AlertKind, check: Check, decision: Decision) -> str:
    """Return the key of an event. A time without data is one event, whichever check reports it."""
    since = decision.carry.hold_since
    which = since.isoformat() if kind is AlertKind.NO_DATA and since else check.pk
    return f"{check.rollout.feature}:{kind}:{which}"


def _message(kind: AlertKind, event: str, check: Check, decision: Decision) -> Message:
    since = decision.carry.hold_since
    return Message(
        id=message_id(event, check.at.isoformat()),
        kind=kind,
        feature=check.rollout.feature,
        environment=conf.environment,
        percentage=float(check.percentage),
        signal=decision.signal,
        reason=decision.reason,
        evidence=tuple(f"{cell.name}: {cell.says} ({cell.signal})" for cell in decision.cells),
        next=messages.NEXT.get(kind, decision.next),
        at=check.at.astimezone(UTC),
        since=since.astimezone(UTC) if since else None,
        url=admin_url(check.rollout),
    )


def _queue_keys(keys: Collection[str]) -> None:
    _queue(Alert.objects.filter(key__in=keys, sent_at=None).values_list("pk", flat=True))


def _queue(alert_ids: Collection[int]) -> None:
    """Queue alerts in Celery. If the broker is unreachable, a later tick queues them."""
    if not alert_ids:
        return
    app = import_string(conf.celery_app) if conf.celery_app else current_app
    try:
        with app.connection_for_write(transport_options=BROKER) as connection:
            for alert_id in alert_ids:
                # By name: the tasks import this module. Once: :func:`resend` retries.
                app.send_task(TASK, (alert_id,), connection=connection, retry=False)
    except OperationalError as error:
        logger.warning("rollout_alerts_not_queued", extra={"reason": type(error).__name__})
