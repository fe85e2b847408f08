"""A fund as JSON: camelCase, numbers as numbers, unknown fields refused."""

from datetime import UTC, date, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from django.utils import timezone
from django.utils.functional import cached_property
from rest_framework import serializers
from rest_framework.fields import empty

from fundapi import models
from fundapi.api.fields import ExactDecimalField, ObjectField, StrictCharField, StrictIntegerField
from fundapi.exactjson import written_size
from fundapi.models import Fund

# Bytes of a fund's own answer: as many as a request may have, so that no answer is much larger than its request.
ANSWER_MAX = 256 * 1024
# Of the widest id and createdAt.
WIDEST = {"pk": 2**63 - 1, "created_at": datetime(2000, 1, 1, microsecond=123456, tzinfo=UTC)}

# Unknown fields that an answer names, and the characters of their names: 256 KiB of them were an answer of 5 MB.
UNKNOWN_SHOWN, FIELD_NAME_SHOWN = 20, 100


def _current_year() -> int:
    today: date = timezone.now().date()
    return today.year


class FundSerializer(serializers.Serializer):
    """Serializer of a fund. The fields are written out: a ``ModelSerializer`` would rebuild them on every request."""

    name = StrictCharField(
        max_length=models.NAME_LENGTH_MAX,
        help_text="Name of the fund, visible; white space around it is trimmed.",
    )
    size = ExactDecimalField(
        minimum="0", maximum=models.SIZE_MAX, places=2, help_text="Dollars, exact: at most 2 decimals."
    )
    managementFee = ExactDecimalField(  # noqa: N815 - the API's own spelling
        source="management_fee",
        minimum="0",
        maximum=models.MANAGEMENT_FEE_MAX,
        places=6,
        default=Decimal("0.02"),
        help_text="Ratio: 0.02 is 2 %. At most 6 decimals.",
    )
    carryPercentage = ExactDecimalField(  # noqa: N815
        source="carry_percentage",
        minimum="0",
        maximum=models.CARRY_PERCENTAGE_MAX,
        places=6,
        default=Decimal("0.20"),
        help_text="Ratio: 0.2 is 20 %. At most 6 decimals.",
    )
    vintageYear = StrictIntegerField(  # noqa: N815
        source="vintage_year",
        minimum=models.VINTAGE_YEAR_MIN,
        maximum=models.VINTAGE_YEAR_MAX,
        default=_current_year,
        help_text="The current year when left out.",
    )
    modelVersion = StrictCharField(  # noqa: N815
        source="model_version",
        max_length=models.MODEL_VERSION_LENGTH_MAX,
        default=None,
        allow_null=True,
        allow_blank=True,
        help_text="Version of the model that computed the results.",
    )
    engineResults = ObjectField(  # noqa: N815
        source="engine_results",
        default=None,
        allow_null=True,
        help_text=(
            "Results of the model; stored as they are sent, numbers exact. With each number written digit by digit, "
            "the fund has at most 256 KiB."
        ),
    )

    default_error_messages = {"invalid": "Send one JSON object with the fields of a fund."}

    def run_validation(self, data: Any = empty) -> dict[str, Any]:
        """Return the values of a fund by the model's names. DRF does as much for more kinds of serializers.

        Raises ValidationError.
        """
        self._refuse_unknown_fields(data)
        values, errors = {}, {}
        for name, field in self._by_name.items():
            try:
                values[field.source] = field.run_validation(data.get(name, empty))
            except serializers.ValidationError as error:
                errors[name] = error.detail
        if errors:
            raise serializers.ValidationError(errors)
        return self.validate(values)

    @cached_property
    def _by_name(self) -> dict[str, Any]:
        """The fields in a plain mapping: reading DRF's takes as long as checking most of them."""
        return dict(self.fields)

    def _refuse_unknown_fields(self, data: Any) -> None:
        if not isinstance(data, dict):
            self.fail("invalid")
        if unknown := data.keys() - self._by_name.keys():
            detail = f"No such field. Known: {', '.join(self._by_name)}."
            raise serializers.ValidationError(
                {
                    name[:FIELD_NAME_SHOWN]: [serializers.ErrorDetail(detail, code="unknown_field")]
                    for name in sorted(unknown)[:UNKNOWN_SHOWN]
                }
            )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse a fund whose answer would be too large. Every field but the results is short."""
        if attrs["engine_results"]:
            widest: Any = SimpleNamespace(**attrs, **WIDEST)
            size = written_size(self.to_representation(widest))
            if size > ANSWER_MAX:
                detail = (
                    f"With its numbers written digit by digit, the fund has {size} bytes; "
                    f"at most {ANSWER_MAX} are accepted: send less."
                )
                raise serializers.ValidationError(
                    {"engineResults": [serializers.ErrorDetail(detail, code="too_large")]}
                )
        return attrs

    def to_representation(self, fund: Fund) -> dict[str, Any]:
        return {
            "id": fund.pk,
            "name": fund.name,
            "size": _number(fund.size),
            "managementFee": _number(fund.management_fee),
            "carryPercentage": _number(fund.carry_percentage),
            "vintageYear": fund.vintage_year,
            "modelVersion": fund.model_version,
            "engineResults": fund.engine_results,
            "createdAt": fund.created_at,
        }


def _number(value: Decimal) -> int | Decimal:
    """Return the number without the column's trailing zeros: 100 and 0.02, not 100.00 and 0.020000."""
    return int(value) if value == value.to_integral_value() else value.normalize()
