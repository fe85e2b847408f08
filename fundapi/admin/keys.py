"""Page of idempotency keys: the app's own, with links to funds and users."""

from contextlib import suppress
from datetime import datetime
from urllib.parse import quote

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Q, QuerySet
from django.urls import Resolver404, resolve
from django.utils.html import format_html, format_html_join
from unfold.decorators import display

from fundapi.admin.funds import key_of, numbered
from fundapi.admin.links import away, link
from fundapi.models import Fund
from idempotency.admin import IdempotencyKeyAdmin, LifeFilter
from idempotency.conf import conf as idempotency
from idempotency.models import IdempotencyKey
from rollout.admin.export import Exported
from rollout.admin.periods import period

KEYS_MANY = 100_000  # keys that a filter by time reads one by one, in a tenth of a second
FUNDS_BY_NAME_MAX = 20  # funds of one name whose keys a search finds; newest first


def created(keys: QuerySet[IdempotencyKey], condition: dict[str, datetime]) -> QuerySet[IdempotencyKey]:
    """Return the keys created in a period; of very many, by the index of expiry, a TTL later.

    Of very many, keys that were stored with another TTL than the setting has now may be missing.
    """
    found = keys.filter(**condition)
    if IdempotencyKey.objects.order_by()[:KEYS_MANY].count() < KEYS_MANY:
        return found
    expiry = {
        name.replace("created_at", "expires_at"): at + idempotency.ttl for name, at in condition.items()
    }
    return found.filter(**expiry)


class KeyAdmin(Exported, IdempotencyKeyAdmin):
    """The app's page, which also finds a key by its fund."""

    change_form_template = "admin/rollout/record.html"
    list_filter = [*period("created_at", created), LifeFilter]
    # Neither the stored response nor anything from which a request could be guessed.
    export_fields = {
        "key": "token",
        "user_id": "principal",
        "operation": "operation",
        "environment": "environment",
        "status": "status",
        "location": "location",
        "created_at": "created_at",
        "expires_at": "expires_at",
        "request_id": "origin__request_id",
        "replays": "replays",
        "last_replay_at": "last_replay_at",
        "conflicts": "conflicts",
        "last_conflict_at": "last_conflict_at",
        "last_conflict_request_id": "last_conflict__origin__request_id",
        "last_conflict_differs": "last_conflict__differs",
    }

    list_display = [
        *("token", "user", "result", "fund", "replay_count", "conflict_count"),
        *("created_at", "expires_at", "state"),
    ]
    search_help_text = "Key, user, or number or name of a fund"
    fieldsets = [
        (None, {"fields": ["explanation"]}),
        (
            "The key",
            {
                "fields": [
                    *("token", "user", "operation", "environment", "created_at", "expires_at", "state"),
                    "origin_shown",
                ]
            },
        ),
        ("Original response", {"fields": ["result", "fund", "content_type", "answer"]}),
        ("Replays", {"fields": ["replays", "last_replay_at"]}),
        ("Conflicts", {"fields": ["conflicts", "last_conflict_at", "differs", "conflict_origin"]}),
        ("Identifiers", {"fields": ["fingerprint", "digest"]}),
    ]

    def meaning(self, term: str) -> Q:
        meaning = super().meaning(term) | key_of(_funds().filter(numbered(term)))
        if self.model.objects.filter(meaning).exists():
            return meaning
        return meaning | key_of(_funds().filter(name__iexact=term)[:FUNDS_BY_NAME_MAX])

    def why_not(self, term: str) -> list[str]:
        funds = _funds().filter(numbered(term) | Q(name__iexact=term))[:FUNDS_BY_NAME_MAX]
        sentences: list[str] = [
            format_html(
                "{} was created {}. Its key has expired and been deleted: "
                "a retry with it now would create a second fund.",
                link("fundapi_fund_change", f"Fund {fund.pk}, {fund.name},", fund.pk),
                f"{fund.created_at:%Y-%m-%d %H:%M} UTC",
            )
            for fund in funds
        ]
        if not sentences and (user := User.objects.filter(username__iexact=term).first()):
            sentences = [format_html("{} has no stored key.", link("auth_user_change", str(user), user.pk))]
        return sentences or super().why_not(term)

    @admin.display(description="outcome")
    def result(self, key: IdempotencyKey) -> str:
        return f"{key.status} created" if key.status == 201 else str(key.status)

    @admin.display(description="fund")
    def fund(self, key: IdempotencyKey) -> str:
        location = key.location or ""
        with suppress(Resolver404):
            match = resolve(location)
            if match.url_name == "fund":
                return link("fundapi_fund_change", f"Fund\u00a0{match.kwargs['pk']}", match.kwargs["pk"])
        return location

    @admin.display(description="user")
    def user(self, key: IdempotencyKey) -> str:
        owner = getattr(key, "owner", None)
        return link("auth_user_change", str(owner), owner.pk) if owner else super().user(key)

    def describe_origin(self, origin: dict[str, str]) -> str:
        """Return links to the log of a request and to the token that came with it."""
        parts = []
        if request_id := origin.get("request_id"):
            search = settings.LOG_SEARCH_URL.replace("{request_id}", quote(request_id, safe=""))
            parts.append(("request id ", away(search, request_id) if search else request_id))
        if token := origin.get("token"):
            label = f"{token}…"
            parts.append(("token ", link("knox_authtoken_changelist", label, query=f"?q={quote(token)}")))
        elif parts:
            parts.append(("", "signed in by session"))
        return format_html_join(", ", "{}{}", parts)

    @admin.display(description="replays")
    def replay_count(self, key: IdempotencyKey) -> str | None:
        return f"{key.replays:,}" if key.replays else None

    @display(description="conflicts", label={"some": "warning"})
    def conflict_count(self, key: IdempotencyKey) -> tuple[str, str] | None:
        return ("some", str(key.conflicts)) if key.conflicts else None

    @display(description="state", label={"active": "success", "expired": "default"})
    def state(self, key: IdempotencyKey) -> str:
        return "active" if self.alive(key) else "expired"


def _funds() -> QuerySet[Fund]:
    """Return all funds, newest first, without their results, which are large."""
    return Fund.objects.defer("engine_results").order_by("-pk")
