"""Where a support engineer sees what a key was used for, and why a client got a 409. Read-only."""

import json
from functools import cached_property
from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils.html import format_html

from idempotency.keys import SEPARATOR
from idempotency.models import IdempotencyKey

COUNT_MAX = 10_000  # rows; counting ten million for a page footer takes seconds


class CappedPaginator(Paginator):
    """Counts to 10,000 and no further: nobody turns to page 101."""

    @cached_property
    def count(self) -> int:
        rows: QuerySet[IdempotencyKey] = self.object_list.order_by()  # type: ignore[union-attr]
        return rows[:COUNT_MAX].count()


class LifeFilter(admin.SimpleListFilter):
    title = "life"
    parameter_name = "life"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("active", "Active"), ("expired", "Expired, not yet purged"), ("conflicts", "With conflicts")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[IdempotencyKey]) -> QuerySet[IdempotencyKey]:
        match self.value():
            case "active":
                return queryset.filter(expires_at__gt=Now())
            case "expired":
                return queryset.filter(expires_at__lte=Now())
            case "conflicts":
                return queryset.filter(conflicts__gt=0)
        return queryset


@admin.register(IdempotencyKey)
class IdempotencyKeyAdmin(admin.ModelAdmin):
    list_display = ["token", "operation", "user", "outcome", "conflicts", "created_at", "expires_at", "alive"]
    list_filter = [LifeFilter, "operation", "environment"]
    search_fields = ["token"]
    search_help_text = "A key as the client sent it, or a user name."
    paginator = CappedPaginator
    show_full_result_count = False
    ordering = ["-expires_at"]
    fieldsets = [
        (
            None,
            {"fields": ["token", "environment", "operation", "user", "alive", "created_at", "expires_at"]},
        ),
        ("What the first request got", {"fields": ["status", "location", "content_type", "answer"]}),
        ("Later requests with this key", {"fields": ["explanation", "conflicts", "last_conflict_at"]}),
        ("For comparing", {"fields": ["fingerprint", "digest"]}),
    ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: IdempotencyKey | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: IdempotencyKey | None = None) -> bool:
        return False

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[IdempotencyKey], search_term: str
    ) -> tuple[QuerySet[IdempotencyKey], bool]:
        """Exact matches only, each on an index: a key in any accepted form, else a user name."""
        term = search_term.strip().strip('"').rsplit(SEPARATOR, 1)[-1]
        if not term:
            return queryset, False
        by_key = queryset.filter(token=term)
        if by_key.exists():
            return by_key, False
        return queryset.filter(principal__in=self.principals(term)), False

    def principals(self, term: str) -> list[str]:
        """Return the principals that a search for ``term`` means: user names, by default."""
        users = get_user_model()._default_manager.filter(
            **{f"{get_user_model().USERNAME_FIELD}__iexact": term}
        )
        return [str(user.pk) for user in users]

    @admin.display(description="user", ordering="principal")
    def user(self, key: IdempotencyKey) -> str:
        user = get_user_model()._default_manager.filter(pk=key.principal).first()
        return f"{user} (id {key.principal})" if user else f"id {key.principal}, deleted"

    @admin.display(description="outcome")
    def outcome(self, key: IdempotencyKey) -> str:
        return f"{key.status} {key.location or ''}".strip()

    @admin.display(description="active", boolean=True)
    def alive(self, key: IdempotencyKey) -> bool:
        return bool(IdempotencyKey.objects.filter(pk=key.pk, expires_at__gt=Now()).exists())

    @admin.display(description="body")
    def answer(self, key: IdempotencyKey) -> str:
        text = bytes(key.body).decode(errors="replace")
        try:
            text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
        except ValueError:
            pass
        return format_html('<pre style="white-space: pre-wrap; margin: 0">{}</pre>', text)

    @admin.display(description="why a client gets 409")
    def explanation(self, key: IdempotencyKey) -> str:
        if not key.conflicts:
            return (
                "No request with other content has come with this key. A 409 idempotency_request_in_progress was "
                "sent while the first request was running; retries since then get the answer above."
            )
        return (
            f"{key.conflicts} request(s) came with this key and other content than the first one, and were refused "
            f"with 409 idempotency_key_reused. The answer above shows what the first request did. The client "
            f"must review its input, or use a new key for a new operation."
        )
