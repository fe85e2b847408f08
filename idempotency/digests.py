"""One hash for keys and fingerprints."""

import hashlib
from uuid import UUID


def digest128(*parts: str | bytes) -> UUID:
    """Return a 128-bit BLAKE2b digest of ``parts``, each with its length, so that no two lists read the same."""
    message = b""
    for part in parts:
        encoded = part.encode() if isinstance(part, str) else part
        message += len(encoded).to_bytes(8) + encoded
    return UUID(bytes=hashlib.blake2b(message, digest_size=16).digest())
