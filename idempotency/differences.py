"""Which fields of two requests differ, without keeping their values.

Pure functions. Of the first request the row keeps a digest of each field, salted by its key; of a request that was
refused, the names of the fields whose digests are others.
"""

import re
from collections.abc import Mapping
from hashlib import blake2b
from uuid import UUID
from zlib import crc32

# Parts of a request that are compared one by one: 512 bytes of digests.
PARTS_MAX = 64
# Parts that every request has; their names are ours.
OWN = frozenset({"the method", "the path", "the query", "the body"})
# Names in one difference.
NAMES_MAX = 20
# Bytes of the digests of a name and of a value: one change in four billion goes unnoticed, and the request is refused
# by its whole fingerprint all the same.
NAME, VALUE = 4, 4
# A name that a developer gave; of any other, which may hold data, only the existence is told.
PLAIN = re.compile(r"[A-Za-z_][\w.\[\]-]{0,63}")
UNNAMED = "a field with an unusual name"
MISSING = "a field that only the first request had"

Parts = Mapping[str, str | bytes]


def digests(parts: Parts, salt: UUID) -> bytes:
    """Return eight bytes for each part of a request: of its name, and of its value; none of more than 64 parts."""
    if len(parts) > PARTS_MAX:
        return b""
    salted = _salted(salt)
    return b"".join(_digest_of_name(name) + _digest(value, salted) for name, value in parts.items())


def differing(first: bytes, parts: Parts, salt: UUID) -> list[str]:
    """Return the names of the parts that a request has with another value than the first one, or alone; 20 at most.

    ``first`` is what :func:`digests` returned for the first request; without it nothing is known.
    """
    if not first:
        return []
    size = NAME + VALUE
    pieces = (first[start : start + size] for start in range(0, len(first), size))
    before, salted = {piece[:NAME]: piece[NAME:] for piece in pieces}, _salted(salt)
    names = {
        name if name in OWN or PLAIN.fullmatch(name) else UNNAMED
        for name, value in parts.items()
        if before.pop(_digest_of_name(name), None) != _digest(value, salted)
    }
    return sorted(names)[:NAMES_MAX] + ([MISSING] if before else [])


def _digest_of_name(name: str) -> bytes:
    return crc32(name.encode(errors="surrogatepass")).to_bytes(NAME)


def _salted(salt: UUID) -> blake2b:
    return blake2b(digest_size=VALUE, key=salt.bytes)


def _digest(value: str | bytes, salted: blake2b) -> bytes:
    digest = salted.copy()
    digest.update(value.encode(errors="surrogatepass") if isinstance(value, str) else value)
    return digest.digest()
