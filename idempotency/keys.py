"""The ``Idempotency-Key`` header: its accepted forms, and the digest under which a key is stored.

Pure functions. Accepted forms, which name the same key when environment and operation are the server's own:

* a bare token, ``9f86d081``
* the same token as an RFC 8941 string, ``"9f86d081"``
* namespaced, ``prod|fund-create|9f86d081`` (runbook, "Environment Scoping")
"""

import re
from uuid import UUID

from idempotency.digests import digest128
from idempotency.problems import EnvironmentMismatch, KeyInvalid, KeyMissing, OperationMismatch, Text

# Characters; the token column of idempotency_store holds as many.
TOKEN_LENGTH_MAX = 255
SEPARATOR = "|"
TOKEN = re.compile(rf"[A-Za-z0-9_.:~-]{{1,{TOKEN_LENGTH_MAX}}}")


def parse(header: str | None, *, environment: str, operation: str, name: str = "Idempotency-Key") -> str:
    """Return the token that ``header`` names for this environment and operation; ``name`` is the header's own.

    Raises:
        KeyMissing: there is no header.
        KeyInvalid: a character outside ``[A-Za-z0-9_.:~-]``, a part that is empty or over 255 characters,
            or a number of ``|``-separated parts other than one or three.
        EnvironmentMismatch, OperationMismatch: a namespaced key for another environment or operation.
    """
    if header is None:
        raise KeyMissing(name)
    parts = _unquote(header).split(SEPARATOR)
    if len(parts) not in (1, 3) or not all(TOKEN.fullmatch(part) for part in parts):
        raise KeyInvalid(_fault(header, parts))
    if len(parts) == 3:
        if parts[0] != environment:
            raise EnvironmentMismatch(sent=parts[0], expected=environment)
        if parts[1] != operation:
            raise OperationMismatch(sent=parts[1], expected=operation)
    return parts[-1]


def _unquote(header: str) -> str:
    """Strip the quotes of a bare token; a quoted namespaced key stays as it is, and is refused."""
    if len(header) >= 2 and header[0] == header[-1] == '"' and SEPARATOR not in header:
        return header[1:-1]
    return header


def _fault(header: str, parts: list[str]) -> Text:
    """Say what is wrong with a malformed header, without its text: a key may be a secret."""
    # Some servers, Granian too, hand over a header that is not ASCII as an empty one.
    if not header.strip(' "'):
        return Text("is empty, or not ASCII")
    if '"' in header and (SEPARATOR in header or '"' in parts[0]):
        return Text("has double quotes that are not one pair around a key without '|'")
    if len(parts) not in (1, 3):
        return Text("has %(count)s parts between '|' instead of one or three", count=len(parts))
    if "" in parts:
        return Text("has an empty part beside '|'")
    for character in "".join(parts):
        if not TOKEN.fullmatch(character):
            return Text("has %(character)s in it", character=_name(character))
    sentence = "has a part of %(count)s characters" if len(parts) == 3 else "has %(count)s characters"
    return Text(sentence, count=max(map(len, parts)))


def _name(character: str) -> Text:
    if character.isspace():
        return Text("white space")
    if not character.isascii():
        return Text("a character outside ASCII")
    if character.isprintable():
        return Text("the character '%(character)s'", character=character)
    return Text("a control character")


def format_key(*, environment: str, operation: str, token: str) -> str:
    """Return the namespaced form, ``environment|operation|token``; :func:`parse` gives the token back."""
    return SEPARATOR.join((environment, operation, token))


def digest(*, environment: str, operation: str, principal: str, token: str) -> UUID:
    """Return the 128-bit digest under which a key is stored and locked.

    The principal is part of it, so 128 bits are enough: a caller can look for collisions only among their own keys.
    """
    return digest128(environment, operation, principal, token)


def lock_id(key_digest: UUID) -> int:
    """Return the signed 64-bit number whose PostgreSQL advisory lock guards this digest."""
    return int.from_bytes(key_digest.bytes[:8], signed=True)
