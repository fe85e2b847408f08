"""The stock view with djangorestframework-idempotency-key's decorator on its method."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework_idempotency_key.decorators import simple_idempotency_key_method

from benchmarks.stock import StockFundsView


class FundsView(StockFundsView):
    @simple_idempotency_key_method
    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().post(request, *args, **kwargs)
