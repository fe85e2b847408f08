"""The product's addresses, and P1 beside them."""

from django.urls import path

from fundapi.api.views import FundsView
from fundapi.urls import urlpatterns as product


class UnguardedFundsView(FundsView):
    """P1: our own view, with ``@idempotent`` taken off."""

    idempotent = None


urlpatterns = [
    *product,
    path("bench/unguarded", UnguardedFundsView.as_view()),
]
