"""The product's addresses, and P1 beside them."""

from dataclasses import replace
from typing import cast

from django.urls import path

from fundapi.api.views import FundsView
from fundapi.urls import urlpatterns as product
from idempotency.marks import Mark, mark_of


class UnguardedFundsView(FundsView):
    """P1: our own view, with a mark that does not guard POST."""

    idempotent = replace(cast("Mark", mark_of(FundsView)), methods=frozenset({"PUT"}))


urlpatterns = [
    *product,
    path("bench/unguarded", UnguardedFundsView.as_view()),
]
