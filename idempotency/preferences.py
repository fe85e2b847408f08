"""The ``Prefer: wait=N`` request header (RFC 7240). Pure."""

import re

_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(?=$|[,;])', re.IGNORECASE)


def wait_seconds(prefer: str | None, *, maximum: int) -> int:
    """Return the whole seconds that the client is willing to wait, capped; 0 without a readable preference.

    A preference that cannot be read is ignored, as RFC 7240 section 2 demands. The first one wins.
    """
    match = _WAIT.search(prefer) if prefer else None
    return min(int(match[1]), maximum) if match else 0
