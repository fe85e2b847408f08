"""The bucket of a browser in a rollout. Pure, and the same in ``static/rollout/evaluation.js``.

Version 1 is the frontends' own (runbook, "Check FNV-1a hash consistency"): 100 buckets of
``fnv1a32(uuid + FEATURE)``. Its low bits depend only on the low bits of the uuid's own hash, so a browser in the first
buckets of one feature tends to be in the first of another. Version 2 finalises the hash, and has 10,000 buckets.
"""

import re
from decimal import Decimal

FEATURE = re.compile(r"[A-Z][A-Z0-9_]*")
HASH_VERSIONS = (1, 2)
BUCKETS = {1: 100, 2: 10_000}
_MASK = 0xFFFFFFFF


def fnv1a32(text: str) -> int:
    """Return the 32-bit FNV-1a hash over the UTF-16 code units of ``text``, as JavaScript's ``charCodeAt`` has them.

    Each unit is folded in whole, not byte by byte, as the frontends do.
    """
    value = 0x811C9DC5
    units = memoryview(text.encode("utf-16-le", "surrogatepass")).cast("H")
    for unit in units:
        value = (value ^ unit) * 0x01000193 & _MASK
    return value


def _finalise(value: int) -> int:
    """Spread every bit over all others: the finaliser of MurmurHash3 (Austin Appleby, public domain)."""
    value = (value ^ value >> 16) * 0x85EBCA6B & _MASK
    value = (value ^ value >> 13) * 0xC2B2AE35 & _MASK
    return value ^ value >> 16


def bucket(uuid: str, feature: str, *, hash_version: int) -> int:
    """Return the bucket of ``uuid``: 0-99 by version 1, 0-9999 by version 2."""
    value = fnv1a32(uuid + feature)
    return (value if hash_version == 1 else _finalise(value)) % BUCKETS[hash_version]


def is_exposed(uuid: str, feature: str, percentage: Decimal, *, hash_version: int) -> bool:
    """Return whether ``percentage`` (0-100) of the buckets include this one. A higher percentage takes nobody out.

    By a version that this release does not know, they never do, as in JavaScript: a newer release may have written it.
    """
    if hash_version not in BUCKETS:
        return False
    return bucket(uuid, feature, hash_version=hash_version) * 100 < percentage * BUCKETS[hash_version]
