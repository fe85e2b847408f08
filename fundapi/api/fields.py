"""Serializer fields that accept a JSON value of the right type only: no number in quotes, no 1 for true."""

from decimal import Decimal
from typing import Any

from rest_framework import serializers

from rollout.blank import is_blank

NULL_CHARACTER = "The character U+0000 cannot be stored: remove it."
ABSENT = {"required": "Send this field.", "null": "Send a value instead of null."}


class ExactDecimalField(serializers.Field):
    """A JSON number within bounds, with at most ``places`` decimals; trailing zeros do not count."""

    default_error_messages = {
        **ABSENT,
        "invalid": "Send a JSON number, without quotes.",
        "min_value": "Must be at least {minimum}.",
        "max_value": "Must be at most {maximum}.",
        "max_decimal_places": "At most {places} decimals are kept: round the number.",
    }

    def __init__(self, *, minimum: str, maximum: str, places: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.minimum, self.maximum, self.places = Decimal(minimum), Decimal(maximum), places

    def to_internal_value(self, data: Any) -> Decimal:
        if isinstance(data, bool) or not isinstance(data, int | Decimal):
            self.fail("invalid")
        if data < self.minimum:
            self.fail("min_value", minimum=self.minimum)
        if data > self.maximum:
            self.fail("max_value", maximum=self.maximum)
        value = Decimal(data).quantize(Decimal(1).scaleb(-self.places))
        if value != data:
            self.fail("max_decimal_places", places=self.places)
        return abs(value)  # -0 is 0


class StrictIntegerField(serializers.Field):
    """A whole JSON number within bounds; 2025.0 is 2025."""

    default_error_messages = {
        **ABSENT,
        "invalid": "Send a whole JSON number, without quotes.",
        "min_value": "Must be at least {minimum}.",
        "max_value": "Must be at most {maximum}.",
    }

    def __init__(self, *, minimum: int, maximum: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.minimum, self.maximum = minimum, maximum

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int | Decimal):
            self.fail("invalid")
        if data < self.minimum:
            self.fail("min_value", minimum=self.minimum)
        if data > self.maximum:
            self.fail("max_value", maximum=self.maximum)
        if data != int(data):  # after the bounds, or 1e1000 would be written out
            self.fail("invalid")
        return int(data)


class StrictCharField(serializers.CharField):
    """A JSON string; numbers are not turned into text."""

    default_error_messages = {
        **ABSENT,
        "invalid": "Send a JSON string.",
        "blank": "Send at least one visible character.",
        "max_length": "Send at most {max_length} characters.",
        "null_characters_not_allowed": NULL_CHARACTER,
    }

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        if "\0" in data:  # before DRF's validator of the same code
            self.fail("null_characters_not_allowed")
        if not self.allow_blank and is_blank(data):
            self.fail("blank")
        return super().to_internal_value(data)


class ObjectField(serializers.Field):
    """A JSON object, stored as it is sent."""

    default_error_messages = {
        "invalid": "Send a JSON object, or null.",
        "null_character": NULL_CHARACTER,
    }

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fail("invalid")
        if _has_null_character(data):
            self.fail("null_character")
        return data


def _has_null_character(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any("\0" in key or _has_null_character(member) for key, member in value.items())
    return isinstance(value, list) and any(map(_has_null_character, value))
