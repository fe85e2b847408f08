"""Stock DRF on the same table, without anything of ours: P0, and the view that every Django peer guards."""

from decimal import Decimal
from typing import Any

from django.utils import timezone
from rest_framework import serializers
from rest_framework.generics import CreateAPIView
from rest_framework.parsers import JSONParser
from rest_framework.permissions import DjangoModelPermissions
from rest_framework.renderers import JSONRenderer

from benchmarks.peers.funds.models import Fund


def _current_year() -> int:
    return timezone.now().year


class StockSerializer(serializers.ModelSerializer):
    """The product's rules of validation, in DRF's own words."""

    class Meta:
        model = Fund
        exclude = ["owner"]
        extra_kwargs = {
            "size": {"min_value": 0},
            "management_fee": {"min_value": 0, "max_value": Decimal("0.10"), "default": Decimal("0.02")},
            "carry_percentage": {"min_value": 0, "max_value": Decimal("0.50"), "default": Decimal("0.20")},
            "vintage_year": {"min_value": 2000, "max_value": 2100, "default": _current_year},
        }


class StockFundsView(CreateAPIView):
    queryset = Fund.objects.all()  # type: ignore[attr-defined]  # mypy reads the settings of the product
    serializer_class = StockSerializer
    parser_classes = [JSONParser]
    renderer_classes = [JSONRenderer]
    permission_classes = [DjangoModelPermissions]

    def perform_create(self, serializer: Any) -> None:
        serializer.save(owner=self.request.user)
