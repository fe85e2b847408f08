"""The variants, all on one table, one server, one way to sign in."""

from typing import Any

from django.urls import path
from rest_framework import serializers
from rest_framework.generics import CreateAPIView
from rest_framework.parsers import JSONParser
from rest_framework.permissions import DjangoModelPermissions
from rest_framework.renderers import JSONRenderer
from rest_framework.throttling import BaseThrottle

from fundapi.models import Fund
from fundapi.throttling import FundCreateThrottle
from fundapi.urls import urlpatterns as product
from fundapi.views import FundsView


class UnguardedFundsView(FundsView):
    """P1: our own view, with ``@idempotent`` taken off."""

    idempotent = None


class StockSerializer(serializers.ModelSerializer):
    class Meta:
        model = Fund
        exclude = ["owner"]


class StockFundsView(CreateAPIView):
    """P0: what one writes without us: stock DRF, no idempotency."""

    queryset = Fund.objects.all()
    serializer_class = StockSerializer
    parser_classes = [JSONParser]
    renderer_classes = [JSONRenderer]
    permission_classes = [DjangoModelPermissions]

    def get_throttles(self) -> list[BaseThrottle]:
        return [FundCreateThrottle()]

    def perform_create(self, serializer: Any) -> None:
        serializer.save(owner=self.request.user)


urlpatterns = [
    *product,
    path("bench/unguarded", UnguardedFundsView.as_view()),
    path("bench/stock", StockFundsView.as_view()),
]
