"""Funds, for reading; and how a fund and the key that made it are found from each other."""

from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal

from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse

from fundapi.admin.links import link
from fundapi.models import Fund
from idempotency.admin import COUNT_MAX, LongList, ReadOnly
from idempotency.conf import conf as idempotency
from idempotency.models import IdempotencyKey
from rollout.units import ratio

CLOCK_SLACK = timedelta(minutes=2)  # a fund and its key are one transaction, but told by two clocks


def money(amount: Decimal) -> str:
    """``250000000`` → ``$250,000,000.00``."""
    return f"${amount:,.2f}"


class FundAdmin(ReadOnly, LongList):
    list_display = ["name", "id", "owner_link", "dollars", "fee", "carry", "vintage_year", "created_at"]
    sortable_by = ["id"]
    list_select_related = ["owner"]
    search_fields = ["name"]
    search_help_text = "A name, a number or an owner"
    ordering = ["-id"]
    fieldsets = [
        (None, {"fields": ["name", "id", "owner_link", "created_at", "key"]}),
        ("Terms", {"fields": ["dollars", "fee", "carry", "vintage_year"]}),
        ("Model", {"fields": ["model_version", "engine_results"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Fund]:
        found: QuerySet[Fund] = super().get_queryset(request)
        return found.select_related("owner")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Fund], search_term: str
    ) -> tuple[QuerySet[Fund], bool]:
        """A number finds that fund and an owner's exact name their funds, by index; else names are searched."""
        term = search_term.strip()
        if not term:
            return queryset, False
        exact = queryset.filter(numbered(term) | Q(owner__in=User.objects.filter(username__iexact=term)))
        return (exact if exact.exists() else queryset.filter(name__icontains=term)), False

    @admin.display(description="owner")
    def owner_link(self, fund: Fund) -> str:
        return link("auth_user_change", str(fund.owner), fund.owner_id)

    @admin.display(description="size")
    def dollars(self, fund: Fund) -> str:
        return money(fund.size)

    @admin.display(description="management fee")
    def fee(self, fund: Fund) -> str:
        return ratio(fund.management_fee)

    @admin.display(description="carry")
    def carry(self, fund: Fund) -> str:
        return ratio(fund.carry_percentage)

    @admin.display(description="idempotency key")
    def key(self, fund: Fund) -> str:
        key = IdempotencyKey.objects.filter(key_of([fund])).only("digest", "token").first()
        if key is None:
            return "Expired and deleted: a key is kept for a day after the fund was created."
        return link("idempotency_idempotencykey_change", key.token, key.pk)


def numbered(term: str) -> Q:
    """Return what finds the fund that ``term`` numbers, as ``12``, ``#12`` or ``/api/funds/12``; else nothing."""
    number = term.removeprefix("#").rpartition("/api/funds/")[2].rstrip("/")
    return Q(pk=int(number)) if number.isdecimal() and len(number) < 19 else Q(pk__in=[])


def key_of(funds: Iterable[Fund]) -> Q:
    """Return what finds the keys that ``funds`` were created under: those of the owner with the fund's address.

    Of an owner with very many keys only those of the fund's own minutes are looked at, by when they expire.
    """
    condition = Q(pk__in=[])
    for fund in funds:
        key = Q(principal=str(fund.owner_id), location=reverse("fund", args=[fund.pk]))
        others = IdempotencyKey.objects.filter(principal=str(fund.owner_id))
        if others.order_by()[:COUNT_MAX].count() == COUNT_MAX:
            expiry = fund.created_at + idempotency.ttl
            key &= Q(expires_at__range=(expiry - CLOCK_SLACK, expiry + CLOCK_SLACK))
        condition |= key
    return condition
