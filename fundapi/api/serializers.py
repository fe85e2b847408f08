"""A fund as JSON: camelCase, numbers as numbers, unknown fields refused."""

from copy import copy
from datetime import date
from decimal import Decimal
from typing import Any

from django.utils import timezone
from rest_framework import serializers

from fundapi.api.fields import ExactDecimalField, ObjectField, StrictCharField, StrictIntegerField
from fundapi.models import Fund


def _current_year() -> int:
    today: date = timezone.now().date()
    return today.year


class FundSerializer(serializers.Serializer):
    """The fields are written out, not derived: a ``ModelSerializer`` rebuilds them on every request."""

    name = StrictCharField(max_length=200)
    size = ExactDecimalField(minimum="0", maximum="999999999999999999.99", places=2)
    managementFee = ExactDecimalField(  # noqa: N815 - the API's own spelling
        source="management_fee", minimum="0", maximum="0.10", places=6, default=Decimal("0.02")
    )
    carryPercentage = ExactDecimalField(  # noqa: N815
        source="carry_percentage", minimum="0", maximum="0.50", places=6, default=Decimal("0.20")
    )
    vintageYear = StrictIntegerField(  # noqa: N815
        source="vintage_year", minimum=2000, maximum=2100, default=_current_year
    )
    modelVersion = StrictCharField(  # noqa: N815
        source="model_version", max_length=50, default=None, allow_null=True, allow_blank=True
    )
    engineResults = ObjectField(source="engine_results", default=None, allow_null=True)  # noqa: N815

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Copy the fields flatly: what they are made of does not change, and to make them anew costs 0.3 ms."""
        return {name: copy(field) for name, field in self._declared_fields.items()}

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := data.keys() - self.fields.keys()):
            detail = f"No such field. Known: {', '.join(self.fields)}."
            raise serializers.ValidationError(
                {name: [serializers.ErrorDetail(detail, code="unknown_field")] for name in sorted(unknown)}
            )
        return super().to_internal_value(data)

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

    def create(self, validated_data: dict[str, Any]) -> Fund:
        return Fund.objects.create(**validated_data)


def _number(value: Decimal) -> int | Decimal:
    """Write 100 and 0.02, not 100.00 and 0.020000: the same number, however many zeros the column keeps."""
    return int(value) if value == value.to_integral_value() else value.normalize()
