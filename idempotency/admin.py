"""Read-only pages for the support engineer: what a key was used for, and why a client got a 409.

Every query here is exact and on an index, so the pages are as quick with ten million keys as with ten.
"""

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth import get_user_model
from django.core.paginator import Paginator
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join

from idempotency import keys, store
from idempotency.admission import scope_of
from idempotency.bodies import unpack
from idempotency.explanations import (
    IN_PROGRESS,
    Explanation,
    KeyQuery,
    clean,
    conflicts,
    difference,
    life,
    owners_of,
    reasons_for_nothing,
    replays,
    running_requests,
    since,
)
from idempotency.models import IdempotencyKey

# Rows; counting ten million for a page footer takes seconds.
COUNT_MAX = 10_000
# Characters of a body on its page; its indentation makes it up to 60 times longer.
SHOWN_MAX = 20_000
# Marks a number among the strings of a document: a character without a meaning.
NUMBER = "\ue000"
ALIVE = ExpressionWrapper(Q(expires_at__gt=Now()), output_field=BooleanField())


class MoreThan(int):
    """A count that ended at its limit; pages show "more than 10,000"."""

    def __str__(self) -> str:
        return f"more than {int(self):,}"


class CappedPaginator(Paginator):
    """A paginator that counts up to 10,000 rows: no reader turns to page 101."""

    @cached_property
    def count(self) -> int:
        rows: QuerySet[IdempotencyKey] = self.object_list.order_by()  # type: ignore[attr-defined]
        counted = rows[: COUNT_MAX + 1].count()
        return MoreThan(COUNT_MAX) if counted > COUNT_MAX else counted


class LongList(admin.ModelAdmin):
    """A list of any length: no count of the whole table, neither for its pages nor beside a search."""

    paginator = CappedPaginator
    show_full_result_count = False

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist = super().get_changelist_instance(request)
        if not changelist.query and not changelist.has_active_filters:
            # No link to "show all" where all is shown.
            changelist.full_result_count = changelist.result_count
        return changelist


class ReadOnly(admin.ModelAdmin):
    """A page without permission to add, change or delete."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class LifeFilter(admin.SimpleListFilter):
    title = "state"
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
class IdempotencyKeyAdmin(ReadOnly, LongList):
    list_display = [
        *("token", "operation", "user", "outcome", "replays", "conflicts"),
        *("created_at", "expires_at", "alive"),
    ]
    sortable_by = ["expires_at"]  # it has an index
    list_filter = [LifeFilter]
    search_fields = ["token"]
    search_help_text = "A key as the client sent it, or a user name"
    ordering = ["-expires_at"]
    fieldsets = [
        (None, {"fields": ["explanation"]}),
        (
            "The key",
            {
                "fields": [
                    *("token", "user", "operation", "environment", "created_at", "expires_at", "alive"),
                    "origin_shown",
                ]
            },
        ),
        ("Original response", {"fields": ["outcome", "content_type", "answer"]}),
        ("Replays", {"fields": ["replays", "last_replay_at"]}),
        ("Conflicts", {"fields": ["conflicts", "last_conflict_at", "differs", "conflict_origin"]}),
        ("For comparing", {"fields": ["fingerprint", "digest"]}),
    ]

    class Media:
        css = {"all": ["idempotency/admin.css"]}

    # --- Finding ------------------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[IdempotencyKey]:
        found: QuerySet[IdempotencyKey] = super().get_queryset(request)
        if scope := scope_of(request):
            found = found.filter(principal__startswith=scope)
        return found.defer("body", "parts").annotate(is_alive=ALIVE)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[IdempotencyKey], search_term: str
    ) -> tuple[QuerySet[IdempotencyKey], bool]:
        term = clean(search_term)
        if not term:
            return queryset, False
        meaning = self.meaning(term)
        if scope := scope_of(request):
            meaning |= Q(principal__in=[scope + principal for principal in self.principals(term)])
        return queryset.filter(meaning), False

    def meaning(self, term: str) -> Q:
        """Return what a search for ``term`` finds: a key in any accepted form, or all keys of a user."""
        return KeyQuery.read(term).condition | Q(principal__in=self.principals(term))

    def principals(self, term: str) -> list[str]:
        """Return the principals of the users whose name is ``term``."""
        user_model = get_user_model()
        users = user_model.objects.filter(**{f"{user_model.USERNAME_FIELD}__iexact": term})
        return [str(pk) for pk in users.values_list("pk", flat=True)]

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist = super().get_changelist_instance(request)
        changelist.result_list = with_owners(changelist.result_list)
        return changelist

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> IdempotencyKey | None:
        found = super().get_object(request, object_id, from_field)
        return with_owners([found])[0] if found else None

    # --- Explaining ---------------------------------------------------------------------------------------------

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        if isinstance(response, TemplateResponse) and response.context_data:
            changelist: ChangeList | None = response.context_data.get("cl")
            if changelist and (term := clean(changelist.query)):
                response.context_data["explanation"] = self.explain(
                    term,
                    found=changelist.result_count,
                    filtered=changelist.has_active_filters,
                    scope=scope_of(request),
                )
        return response

    def explain(self, term: str, *, found: int, filtered: bool, scope: str = "") -> Explanation | None:
        """Return what runs now with the key, or why the search found nothing."""
        running = running_requests(KeyQuery.read(term), scope)
        if found:
            return Explanation("Being processed right now", running) if running else None
        if filtered:
            return Explanation(
                f"Nothing matches “{term}” within the filter", ["Reset the filter to see all."]
            )
        if running:
            return Explanation(f"The key “{term}” is being processed right now", running)
        return Explanation(f"No stored key matches “{term}”", self.why_not(term))

    def why_not(self, term: str) -> list[str]:
        """Return the reasons why a search found nothing; projects add their own."""
        return reasons_for_nothing(term)

    # --- Columns and fields -------------------------------------------------------------------------------------

    @admin.display(description="user", ordering="principal")
    def user(self, key: IdempotencyKey) -> str:
        owner = getattr(key, "owner", None)
        if owner is None:
            return f"id {key.principal}, deleted"
        link = self.link_to(owner)
        label = f"{owner} (id {key.principal})"
        return format_html('<a href="{}">{}</a>', link, label) if link else label

    def link_to(self, instance: Any) -> str | None:
        """Return the address of an object's page in this admin, if it has one."""
        meta = instance._meta
        with suppress(NoReverseMatch):
            return reverse(
                f"{self.admin_site.name}:{meta.app_label}_{meta.model_name}_change", args=[instance.pk]
            )
        return None

    @admin.display(description="outcome")
    def outcome(self, key: IdempotencyKey) -> str:
        return f"{key.status} {key.location or ''}".strip()

    @admin.display(description="active", boolean=True)
    def alive(self, key: IdempotencyKey) -> bool:
        return bool(getattr(key, "is_alive", False))

    @admin.display(description="body")
    def answer(self, key: IdempotencyKey) -> str:
        text = unpack(bytes(key.body)).decode(errors="replace")
        return format_html('<pre class="idempotency-body">{}</pre>', readable(text))

    @admin.display(description="fields that differed")
    def differs(self, key: IdempotencyKey) -> str | None:
        return difference(key) or None

    @admin.display(description="first request")
    def origin_shown(self, key: IdempotencyKey) -> str | None:
        return self.describe_origin(key.origin or {}) or None

    @admin.display(description="last refused request")
    def conflict_origin(self, key: IdempotencyKey) -> str | None:
        return self.describe_origin((key.last_conflict or {}).get("origin") or {}) or None

    def describe_origin(self, origin: dict[str, str]) -> str:
        """Return what ``IDEMPOTENCY_ORIGIN`` told about a request, in a line; projects add links."""
        return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in origin.items())

    @admin.display(description="what happened")
    def explanation(self, key: IdempotencyKey) -> str:
        held = store.running()
        lock = keys.lock_id(key.digest)
        story = [life(key, alive=self.alive(key))]
        if lock in held and not self.alive(key):
            story.append(f"A new request with it is running{since(held[lock])}. {IN_PROGRESS}")
        story += [replays(key), conflicts(key)]
        return format_html_join(" ", "{}", ((sentence,) for sentence in story))


def readable(text: str) -> str:
    """Return the beginning of a body that is long; indent JSON that is not, and leave its numbers as they are."""
    if (more := len(text) - SHOWN_MAX) > 0:
        return f"{text[:SHOWN_MAX]}… ({more:,} more characters)"
    number = f"{NUMBER}{{}}".format
    try:
        document = json.loads(text, parse_float=number, parse_int=number, parse_constant=number)
    except (ValueError, RecursionError):
        return text
    return re.sub(f'"{NUMBER}([^"]*)"', r"\1", json.dumps(document, indent=2, ensure_ascii=False))


def with_owners(found: Iterable[IdempotencyKey]) -> list[IdempotencyKey]:
    """Give each key its ``owner``: one query for a page, not one a row."""
    rows = list(found)
    owners = owners_of(key.principal for key in rows)
    for key in rows:
        key.owner = owners.get(key.principal)  # type: ignore[attr-defined]
    return rows
