"""Fingerprint a request: its method, path, query and body, where JSON bodies and forms compare by value.

Pure functions. JSON is read strictly (RFC 8259, I-JSON's stricter rules from RFC 7493): a body that two parsers could
read differently is refused, because its fingerprint would mean nothing.
"""

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any
from uuid import UUID

from idempotency.digests import digest128
from idempotency.problems import InvalidJSON, Text

# Levels of arrays and objects; a document that a person writes has fewer than ten.
DEPTH_MAX = 64
# Digits, or powers of ten, in one number; beyond IEEE doubles, well inside PostgreSQL's numeric.
DIGITS_MAX = 1000
TOO_LONG = Text("A number has more than %(digits)s digits: round it.", digits=DIGITS_MAX)
TOO_DEEP = Text(
    "Arrays and objects are nested deeper than %(levels)s levels: send a flatter document.", levels=DEPTH_MAX
)

# First bytes of UTF-16 with a byte order mark. Without one, and in UTF-32, a null is among the first four.
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
# The beginnings of Python's messages, which differ by its version, and what to do.
_REPAIRS = {
    "Expecting value": "put a value here",
    "Expecting property name": "put a key in double quotes here, or remove the comma before",
    "Expecting ':'": "put a colon here, after the key",
    "Expecting ','": "put a comma here, or close the array or object",
    "Illegal trailing comma": "remove this comma",
    "Unterminated string": "close the string that begins here",
    "Invalid control character": "write this control character as an escape, such as \\n",
    "Invalid \\": "correct the escape that begins here",
    "Extra data": "remove what follows the end of the document",
}

_MEDIA_TYPE_JSON = re.compile(r"\s*application/(?:[\w.-]+\+)?json\s*(?:;|$)", re.IGNORECASE)


def is_json(content_type: str) -> bool:
    """Return whether a ``Content-Type`` announces JSON, ``application/json`` or ``application/…+json``.

    JSON is UTF-8: a ``charset`` has no effect (RFC 8259, section 11).
    """
    return _MEDIA_TYPE_JSON.match(content_type) is not None


def parse_json(body: bytes) -> Any:
    """Read ``body`` as strict JSON; numbers come out exact, as ``int`` or ``Decimal``.

    Raises:
        InvalidJSON: not UTF-8, a byte order mark, not JSON, a key twice in one object, NaN or Infinity, a lone
            surrogate, a number of more than 1,000 digits, or more than 64 levels of nesting.
    """
    if body.startswith(b"\xef\xbb\xbf"):
        raise InvalidJSON("The body begins with a byte order mark (U+FEFF): send UTF-8 without it.")
    if body.startswith(_UTF_16) or b"\0" in body[:4]:
        raise InvalidJSON("The body looks like UTF-16 or UTF-32: send it as UTF-8.")
    try:
        text = body.decode()
        document = _decoder.decode(text)
        if "\\u" in text:  # only an escape can bring a lone surrogate through the UTF-8 decoder
            _refuse_lone_surrogates(document)
    except UnicodeDecodeError as error:
        raise InvalidJSON(
            Text("Send the body as UTF-8: its byte %(place)s is not.", place=error.start)
        ) from None
    except json.JSONDecodeError as error:
        raise InvalidJSON(_repair(error)) from None
    except RecursionError:
        raise InvalidJSON(TOO_DEEP) from None
    _refuse_deep_nesting(document)
    return document


def _repair(error: json.JSONDecodeError) -> Text:
    repairs = (repair for beginning, repair in _REPAIRS.items() if error.msg.startswith(beginning))
    return Text(
        "The body is not valid JSON at line %(line)s, column %(column)s: %(repair)s.",
        line=error.lineno,
        column=error.colno,
        repair=Text(next(repairs, "correct what stands here")),
    )


def _constant(literal: str) -> Any:
    raise InvalidJSON(Text("%(literal)s is not a JSON number: send a number, or null.", literal=literal))


def _integer(literal: str) -> int:
    if len(literal) > DIGITS_MAX:
        raise InvalidJSON(TOO_LONG)
    return int(literal)


def _decimal(literal: str) -> Decimal:
    if len(literal) > DIGITS_MAX:
        raise InvalidJSON(TOO_LONG)
    exponent = literal.lower().partition("e")[2]
    if exponent and abs(int(exponent)) > DIGITS_MAX:
        raise InvalidJSON(Text("A number has an exponent beyond ±%(most)s: round it.", most=DIGITS_MAX))
    return Decimal(literal)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InvalidJSON(
            Text("The key %(key)s appears twice in one object: send it once.", key=json.dumps(twice[:50]))
        )
    return result


# Not by json.loads(), which makes a decoder for each document.
_decoder = json.JSONDecoder(
    parse_int=_integer, parse_float=_decimal, parse_constant=_constant, object_pairs_hook=_object
)


def _refuse_lone_surrogates(document: Any) -> None:
    try:
        json.dumps(document, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        raise InvalidJSON(
            "A string has half of a surrogate pair (an escape from \\ud800 to \\udfff): send both halves, or neither."
        ) from None


def _refuse_deep_nesting(document: Any) -> None:
    level = [document]
    for _ in range(DEPTH_MAX + 1):
        containers = [node for node in level if isinstance(node, dict | list)]
        if not containers:
            return
        level = [
            child for node in containers for child in (node.values() if isinstance(node, dict) else node)
        ]
    raise InvalidJSON(TOO_DEEP)


def canonical(document: Any) -> str:
    """Return one text for all JSON documents of the same value, and different texts for different values.

    Keys sorted, no white space, numbers as ``<integer>e<power of ten>`` without trailing zeros: 1, 1.0 and
    10e-1 are one value, 0.1 and 0.10000000000000001 are two.
    """
    if isinstance(document, str):
        return str(encode_basestring(document))
    if document is None or isinstance(document, bool):
        return {None: "null", True: "true", False: "false"}[document]
    if isinstance(document, dict):
        return _joined({key: canonical(document[key]) for key in sorted(document)})
    if isinstance(document, list):
        return "[" + ",".join(map(canonical, document)) + "]"
    return _canonical_number(str(document))


def _joined(members: dict[str, str]) -> str:
    return "{" + ",".join(f"{encode_basestring(key)}:{text}" for key, text in members.items()) + "}"


def _canonical_number(literal: str) -> str:
    mantissa, _, exponent = literal.upper().partition("E")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).rstrip("0")
    if digits.strip("-0") == "":
        return "0e0"
    sign = "-" if digits[0] == "-" else ""
    power = int(exponent or 0) + len(whole) - len(digits)
    return f"{sign}{digits.lstrip('-0')}e{power}"


@dataclass(frozen=True, slots=True)
class Compared:
    """A request as it is compared: the fingerprint of all of it, and each part by its name."""

    fingerprint: UUID
    parts: dict[str, str | bytes]


def compared(
    *, method: str, path: str, query: str, document: Any = ..., form: Any = None, body: bytes = b""
) -> Compared:
    """Return the 128-bit fingerprint of a request, and its parts.

    Give ``document`` (from :func:`parse_json`; ``None`` is JSON's null) for a JSON body, ``form`` for fields and files,
    else ``body``, which compares byte for byte.
    """
    parts: dict[str, str | bytes] = {"the method": method, "the path": path, "the query": query}
    if form is not None:
        # A character set of the client's choice can bring lone surrogates into the name of a file.
        kind, content = b"form", canonical(form).encode(errors="surrogatepass")
        parts |= {name: canonical(value) for group in form.values() for name, value in group.items()}
    elif isinstance(document, dict):
        members = {key: canonical(document[key]) for key in sorted(document)}
        kind, content = b"json", _joined(members).encode()
        parts |= members
    elif document is not ...:
        kind, content = b"json", canonical(document).encode()
        parts["the body"] = content
    else:
        kind, content = b"raw", body
        parts["the body"] = content
    return Compared(digest128(method, path, query, kind, content), parts)
