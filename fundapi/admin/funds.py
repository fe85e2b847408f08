"""Read-only pages of funds; look-ups from a fund to its idempotency key and back."""

from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal

from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Q, QuerySet, TextField
from django.db.models.functions import Cast, Left
from django.http import HttpRequest
from django.urls import reverse

from fundapi.admin.links import link
from fundapi.models import Fund
from idempotency.admin import COUNT_MAX
from idempotency.conf import conf as idempotency
from idempotency.models import IdempotencyKey
from rollout.admin.periods import period
from rollout.admin.records import ReadOnlyAdmin
from rollout.units import ratio

CLOCK_SLACK = timedelta(minutes=2)  # the web server dates a fund, the database its key
RESULTS_SHOWN = 20_000  # characters of a fund's results on its page


def money(amount: Decimal) -> str:
    """``250000000`` → ``$250,000,000.00``."""
    return f"${amount:,.2f}"


class FundAdmin(ReadOnlyAdmin):
    list_display = ["name", "id", "owner_link", "dollars", "fee", "carry", "vintage_year", "created_at"]
    list_filter = [*period("created_at")]
    nothing = "No fund so far: the page /fund-setup and POST /api/funds create them."
    sortable_by = ["id"]
    list_select_related = ["owner"]
    search_fields = ["name"]
    search_help_text = "Name, number or owner of a fund"
    ordering = ["-id"]
    fieldsets = [
        (None, {"fields": ["name", "id", "owner_link", "created_at", "key"]}),
        ("Terms", {"fields": ["dollars", "fee", "carry", "vintage_year"]}),
        ("Model", {"fields": ["model_version", "results"]}),
    ]
    # Without the results, which are megabytes.
    export_fields = {
        "id": "id",
        "name": "name",
        "owner_id": "owner_id",
        "owner": "owner__username",
        "size": "size",
        "management_fee": "management_fee",
        "carry_percentage": "carry_percentage",
        "vintage_year": "vintage_year",
        "model_version": "model_version",
        "created_at": "created_at",
    }

    def get_queryset(self, request: HttpRequest) -> QuerySet[Fund]:
        funds: QuerySet[Fund] = super().get_queryset(request)
        # Up to 256 KiB each, and megabytes in funds of older releases; only the page of one fund shows them.
        return funds.select_related("owner").defer("engine_results")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Fund], search_term: str
    ) -> tuple[QuerySet[Fund], bool]:
        """Search by number or exact name of the owner, by index; if nothing matches, by part of a fund's name."""
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

    @admin.display(description="engine results")
    def results(self, fund: Fund) -> str:
        """Return the results, or their beginning; PostgreSQL cuts them, so that no more is read."""
        text = Cast("engine_results", TextField())
        found = Fund.objects.filter(pk=fund.pk).values_list(Left(text, RESULTS_SHOWN + 1), flat=True).get()
        if found is None or len(found) <= RESULTS_SHOWN:
            return found or "-"
        return (
            f"{found[:RESULTS_SHOWN]}… (the beginning; GET {reverse('fund', args=[fund.pk])} has all of it)"
        )

    @admin.display(description="idempotency key")
    def key(self, fund: Fund) -> str:
        key = IdempotencyKey.objects.filter(key_of([fund])).only("digest", "token").first()
        if key is None:
            return "Expired and deleted. A key is stored for a day after its fund was created."
        return link("idempotency_idempotencykey_change", key.token, key.pk)


def numbered(term: str) -> Q:
    """Return the condition for the fund of this number (``12``, ``#12``, ``/api/funds/12``), else a false one."""
    number = term.removeprefix("#").rpartition("/api/funds/")[2].rstrip("/")
    return Q(pk=int(number)) if number.isdecimal() and len(number) < 19 else Q(pk__in=[])


def key_of(funds: Iterable[Fund]) -> Q:
    """Return the condition for the keys that created ``funds``: the owner's keys with the fund's address.

    For an owner with very many keys, it reads only those that expire a TTL after the fund was created.
    """
    condition = Q(pk__in=[])
    for fund in funds:
        key = Q(principal=str(fund.owner_id), location=reverse("fund", args=[fund.pk]))
        keys = IdempotencyKey.objects.filter(principal=str(fund.owner_id))
        if keys.order_by()[:COUNT_MAX].count() == COUNT_MAX:
            expiry = fund.created_at + idempotency.ttl
            key &= Q(expires_at__range=(expiry - CLOCK_SLACK, expiry + CLOCK_SLACK))
        condition |= key
    return condition
