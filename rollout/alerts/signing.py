"""Signatures of webhooks, as Standard Webhooks has them (standardwebhooks.com, "Signature scheme"). Pure."""

import hashlib
import hmac
from base64 import b64decode, b64encode

PREFIX = "whsec_"  # marks a secret for people and for scanners of leaked ones


def key_of(secret: str) -> bytes:
    """Return the key that a secret (base64, ``whsec_`` before it or not) stands for.

    Raises:
        ValueError: it is not base64.
    """
    return b64decode(secret.removeprefix(PREFIX), validate=True)


def headers(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers that sign a body; ``timestamp`` is in seconds since 1970."""
    signed = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    signature = b64encode(hmac.digest(key_of(secret), signed, hashlib.sha256)).decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
    }
