"""Tickets: proof, made and checked without SQL, that telemetry comes from a signed-in user.

A ticket is ``<signer>.<expiry>.<signature>``, 87 characters that fit into a URL. The *signer* is a keyed digest of the
user in this environment: one voice for the judge, however many browsers and tickets. The signature, an HMAC, covers the
environment too. Neither tells who the user is.

While ``SECRET_KEY`` is changed, ``SECRET_KEY_FALLBACKS`` keeps old tickets valid. The signer's digest is made with the
*last* of the fallbacks, the oldest key, so users keep their voices until that key is removed; then each user may have
two voices once, in the stages that run at that time.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.signing import BadSignature, Signer
from django.utils.crypto import salted_hmac

from rollout.conf import conf

LENGTH_MAX = 200  # characters; longer ones are refused before any digest is computed


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket and the time until which it is accepted."""

    text: str
    expires_at: datetime


class Refused(Exception):
    """A ticket that cannot be accepted; the message is its code: ``expired`` or ``invalid``."""


def issue(user: object, *, now: float | None = None) -> Ticket:
    """Return a new ticket of a user.

    Args:
        user: its stable id, such as ``request.user.pk``.
        now: Unix time, by default of this machine's clock.
    """
    expiry = int((time.time() if now is None else now) + conf.ticket_ttl.total_seconds())
    text = _signer().sign(f"{signer_of(user).hex}.{expiry}")
    return Ticket(text, datetime.fromtimestamp(expiry, UTC))


def read(ticket: Any, *, now: float | None = None) -> UUID:
    """Return the signer of a ticket; any JSON value may come from a client.

    Raises:
        Refused: with ``invalid`` if it is no ticket of this environment, with ``expired`` if it was one.
    """
    if not isinstance(ticket, str) or len(ticket) > LENGTH_MAX or not ticket.isascii():
        raise Refused("invalid")
    try:
        signer, _, expiry = _signer().unsign(ticket).partition(".")
    except BadSignature:
        raise Refused("invalid") from None
    if int(expiry) <= (time.time() if now is None else now):
        raise Refused("expired")
    return UUID(signer)


def signer_of(user: object) -> UUID:
    """Return the digest of a user that the judge counts by: the same in each ticket of this environment."""
    oldest = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS][-1]
    salt = f"rollout.ticket.user:{conf.environment}"
    return UUID(bytes=salted_hmac(salt, str(user), secret=oldest, algorithm="sha256").digest()[:16])


def _signer() -> Signer:
    """Return Django's signer, which compares in constant time and knows the fallback keys."""
    return Signer(sep=".", salt=f"rollout.ticket:{conf.environment}")
