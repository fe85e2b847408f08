"""The stock view with drf-idempotency's decorator on its method: it asks who is calling before it replays."""

from typing import Any

from drf_idempotency import idempotent
from rest_framework.request import Request
from rest_framework.response import Response

from benchmarks.stock import StockFundsView


class FundsView(StockFundsView):
    @idempotent()
    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().post(request, *args, **kwargs)
