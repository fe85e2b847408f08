"""Pages of sign-ins, failed sign-ins and lock-outs (docs/reference/security.md)."""

from contextlib import suppress
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from unfold.decorators import display

from fundapi.access.signins import network_of, with_sums
from rollout.admin.periods import period
from rollout.admin.records import ReadOnlyAdmin

# Not the username of a failure: people type passwords into its field.
EXPORTED = {name: name for name in ("id", "ip_address", "user_agent", "path_info", "attempt_time")}


class SignInList(ReadOnlyAdmin):
    """Base of the lists of django-axes' records. ``TRUSTED_PROXIES`` determines the addresses."""

    search_help_text = "Exact username or address"
    search_fields = ["username"]
    ordering = ["-attempt_time"]
    sortable_by = ["attempt_time"]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        address = Q(pk__in=[])
        with suppress(ValueError):
            address = Q(ip_address=network_of(term))
        return queryset.filter(Q(username__iexact=term) | address), False

    @admin.display(description="page")
    def page(self, record: Any) -> str:
        return str(record.path_info)


class AccessLogAdmin(SignInList):
    nothing = "Nobody has signed in so far."
    export_fields = {**EXPORTED, "username": "username", "logout_time": "logout_time"}
    list_display = ["username", "ip_address", "attempt_time", "logout_time", "page"]
    list_filter = [*period("attempt_time")]
    fields = ["username", "ip_address", "attempt_time", "logout_time", "page", "user_agent"]


class AccessFailureAdmin(SignInList):
    nothing = "No attempt to sign in has failed so far."
    export_fields = {**EXPORTED, "locked_out": "locked_out"}
    list_display = ["username", "ip_address", "attempt_time", "locked_out", "page"]
    list_filter = [*period("attempt_time"), "locked_out"]
    fields = ["username", "ip_address", "attempt_time", "locked_out", "page", "user_agent"]


class AccessAttemptAdmin(SignInList):
    """Failures that count now, a row for each browser. The limits apply to their sums."""

    nothing = "Nobody is locked out, and no failure counts now."
    export_fields = {**EXPORTED, "failures_since_start": "failures_since_start"}
    list_display = ["username", "ip_address", "failures_since_start", "attempt_time", "state"]
    list_filter = [*period("attempt_time")]
    fields = ["username", "ip_address", "failures_since_start", "attempt_time", "state", "page", "user_agent"]
    has_delete_permission = admin.ModelAdmin.has_delete_permission

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return with_sums(super().get_queryset(request))

    @display(
        description="state",
        label={"locked out": "danger", "address locked out": "danger", "may try": "default"},
    )
    def state(self, attempt: Any) -> str:
        most = settings.SIGNIN_ADDRESS_FAILURES_MAX
        if most and (attempt.of_address or 0) >= most:
            return "address locked out"
        return "locked out" if (attempt.of_pair or 0) >= settings.AXES_FAILURE_LIMIT else "may try"
