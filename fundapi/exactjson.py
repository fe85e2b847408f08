"""JSON in and out without a float on the way: numbers are ``int`` or ``Decimal``, and stay exact."""

import json
from decimal import Decimal
from typing import IO, Any

import msgspec
from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer

from idempotency.fingerprint import is_json, parse_json

_encoder = msgspec.json.Encoder(
    decimal_format="number", enc_hook=str
)  # str: DRF's lazy texts and error details


class StrictJSONParser(BaseParser):
    """Reads a body as the idempotency fingerprint does; what that has parsed already is not parsed again."""

    media_type = "application/json"

    def parse(self, stream: IO[Any], media_type: str | None = None, parser_context: Any = None) -> Any:
        if not is_json(media_type or ""):  # DRF takes 'application/*' for JSON, and the fingerprint does not
            raise UnsupportedMediaType(media_type or "")
        request = parser_context["request"]._request  # noqa: SLF001 - DRF's only way to Django's request
        guarded = getattr(request, "idempotency", None)
        return guarded.document if guarded else parse_json(stream.read())


class ExactJSONRenderer(BaseRenderer):
    """Writes ``Decimal`` as a JSON number, digit by digit."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None
    ) -> bytes:
        return b"" if data is None else _encoder.encode(data)


class ExactEncoder(json.JSONEncoder):
    """For a ``JSONField``: what is stored is what was sent."""

    def encode(self, o: Any) -> str:
        return _encoder.encode(o).decode()


class ExactDecoder(json.JSONDecoder):
    def __init__(self) -> None:
        super().__init__(parse_float=Decimal)
