"""The stock view with drf-idempotencykey's mixin, as its quick start shows."""

from drf_idempotencykey.mixins import DrfIdempotencyKeyMixin

from benchmarks.stock import StockFundsView


class FundsView(DrfIdempotencyKeyMixin, StockFundsView):
    pass
