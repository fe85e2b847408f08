"""The channels of alerts: a webhook, signed as Standard Webhooks specifies, and e-mail.

Errors name no addresses: the URL of a webhook is a secret, and so are the credentials of a mail server.
"""

import smtplib
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parseaddr

import httpx
from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from standardwebhooks import Webhook

from rollout.alerts import messages
from rollout.alerts.messages import Message
from rollout.conf import conf

TIMEOUT = 5  # s to connect, and for the answer; no receiver needs longer to take a message
HEADERS = {"Content-Type": "application/json", "User-Agent": "rollout-alerts"}


class NotSent(Exception):
    """The channel did not accept the message. The text says why, without secrets."""


def send(channel: str, message: Message, *, at: datetime) -> str:
    """Send a message, and return the receiver's answer in a word or two.

    Args:
        at: time of the attempt by the database's clock, which signs: a receiver refuses a time that is minutes off.

    Raises:
        NotSent: the receiver did not accept it.
    """
    return CHANNELS[channel](message, at)


def _webhook(message: Message, at: datetime) -> str:
    body = messages.webhook(message)
    signed = signature_headers(conf.webhook_secret, message.id, at.astimezone(UTC), body)
    try:
        with (
            httpx.Client(timeout=TIMEOUT, follow_redirects=False) as client,
            # Streamed: only the status is read.
            client.stream("POST", conf.webhook_url, content=body, headers=HEADERS | signed) as answer,
        ):
            status = f"HTTP {answer.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise NotSent(describe(error)) from None  # the cause may name the URL
    if not answer.is_success:
        raise NotSent(status)
    return status


def signature_headers(secret: str, message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """Return the headers that sign a body. ``at`` must be in UTC: the library takes the clock time as it is."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, at, body.decode()),
    }


def _email(message: Message, _at: datetime) -> str:
    sender = settings.DEFAULT_FROM_EMAIL
    domain = parseaddr(sender)[1].rpartition("@")[2] or "localhost"
    headers = {
        "Message-ID": f"<{message.id}@{domain}>",  # the same at every attempt, so that mail programs show it once
        "Auto-Submitted": "auto-generated",  # RFC 3834: no absence notes
    }
    try:
        with get_connection() as connection:  # Django alone leaves a refused connection open
            EmailMessage(
                messages.headline(message),
                messages.email(message),
                sender,
                list(conf.alert_emails),
                connection=connection,
                headers=headers,
            ).send()
    except (smtplib.SMTPException, OSError) as error:
        raise NotSent(describe(error)) from None  # the cause may name the account
    return "taken by the mail server"


def describe(error: BaseException) -> str:
    """Return the kind of an error and the system's message, without text from the receiver or the URL."""
    name = type(error).__name__
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{name}: SMTP {error.smtp_code}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return f"{name}: {cause.strerror}"
        cause = cause.__cause__ or cause.__context__
    return name


CHANNELS: dict[str, Callable[[Message, datetime], str]] = {"webhook": _webhook, "email": _email}
