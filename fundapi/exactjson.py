"""Exact JSON: numbers are ``int`` or ``Decimal`` when read, stored and written, never ``float``."""

import json
from decimal import Decimal
from typing import IO, Any

import msgspec
from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer

from idempotency.fingerprint import is_json, parse_json

# enc_hook=str: for DRF's lazy texts and error details.
_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=str)


def written_size(document: Any) -> int:
    """Return the bytes of a document as JSON, each number written digit by digit, as PostgreSQL writes it.

    Counted, not written: 256 KiB of ``1e1000`` would take 37 MB.
    """
    text = _encoder.encode(document)
    return len(text) + (_digits_added(document) if b"E" in text else 0)


def _digits_added(value: Any) -> int:
    """Return how many characters longer the numbers in ``value`` are without their exponents."""
    if isinstance(value, dict):
        return sum(map(_digits_added, value.values()))
    if isinstance(value, list):
        return sum(map(_digits_added, value))
    if not isinstance(value, Decimal):
        return 0
    text = str(value)
    mantissa, _, exponent = text.partition("E")
    if not exponent:
        return 0
    # Digits after the point; a negative number of them are zeros before it.
    fraction = len(mantissa.partition(".")[2]) - int(exponent)
    whole = max(value.adjusted(), 0) + 1 if value else 1
    return max(value.is_signed() + whole + (fraction + 1 if fraction > 0 else 0) - len(text), 0)


class StrictJSONParser(BaseParser):
    """Parse a body as the idempotency fingerprint does, or reuse the document that it has parsed."""

    media_type = "application/json"

    def parse(self, stream: IO[Any], media_type: str | None = None, parser_context: Any = None) -> Any:
        if not is_json(media_type or ""):  # DRF accepts 'application/*' as JSON, the fingerprint does not
            raise UnsupportedMediaType(media_type or "")
        request = parser_context["request"]._request  # noqa: SLF001 - DRF's only way to Django's request
        guarded = getattr(request, "idempotency", None)
        return guarded.document if guarded else parse_json(stream.read())


class ExactJSONRenderer(BaseRenderer):
    """Write ``Decimal`` as a JSON number, digit by digit."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None
    ) -> bytes:
        return b"" if data is None else _encoder.encode(data)


class ExactEncoder(json.JSONEncoder):
    """Encode the value of a ``JSONField`` as it was sent."""

    def encode(self, o: Any) -> str:
        return _encoder.encode(o).decode()


class ExactDecoder(json.JSONDecoder):
    """Decode the value of a ``JSONField`` with exact numbers."""

    def __init__(self) -> None:
        super().__init__(parse_float=Decimal)
