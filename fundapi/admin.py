"""The admin: what support and operators see. On Unfold; every page works with the keyboard and at phone width."""

from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from importlib import import_module
from typing import Any
from urllib.parse import urlencode

import knox.admin
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.models import ADDITION, DELETION, LogEntry
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import Resolver404, URLPattern, resolve, reverse
from django.utils import timezone
from django.utils.html import format_html
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from knox.models import AuthToken, get_digest_token
from knox.settings import CONSTANTS, knox_settings
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.views import ChangeList
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from fundapi.access.second_factor import remove
from fundapi.long_list import LongList
from fundapi.models import Fund
from fundapi.signins_admin import AccessAttemptList, AccessFailureList, AccessLogList
from idempotency.admin import COUNT_MAX, IdempotencyKeyAdmin, ReadOnly
from idempotency.conf import conf as idempotency
from idempotency.models import IdempotencyKey
from rollout.admin import (
    AlertAdmin,
    CheckAdmin,
    DeploymentAdmin,
    IncidentAdmin,
    RolloutAdmin,
    TelemetryEventAdmin,
)
from rollout.models import Alert, Check, Deployment, Incident, Rollout, TelemetryEvent

FUNDS_BY_NAME_MAX = 20  # funds of one name whose keys a search shows; newest first
CLOCK_SLACK = timedelta(minutes=2)  # a fund and its key are one transaction, but told by two clocks
EXPIRY_MAX = 3650  # days; a token that lives longer is one that nobody remembers
REFERENCE_LENGTH = 32  # characters of a digest in an address
PREFIX_SHOWN = 8  # characters of a token: enough to tell two apart, of no use to anybody else

for plugin in ("otp_static", "otp_totp"):
    import_module(f"django_otp.plugins.{plugin}.admin")  # later it would register what is taken back here
for model in (
    *(StaticDevice, TOTPDevice),
    *(AuthToken, Group, IdempotencyKey, User),
    *(Alert, Check, Deployment, Incident, Rollout, TelemetryEvent),
):
    admin.site.unregister(model)
del knox.admin.AuthTokenAdmin  # it puts a new token into a message, hence into a cookie


def environment_badge(request: HttpRequest) -> tuple[str, str]:  # noqa: ARG001 - Unfold's signature
    """Return the environment's name and the colour of its badge: nobody takes production for anything else."""
    name = settings.ENVIRONMENT
    for color, names in (("danger", ("prod", "live")), ("warning", ("stag", "pre", "uat"))):
        if name.lower().startswith(names):
            return name, color
    return name, "info"


def without_inline_styles(request: HttpRequest) -> dict[str, Any]:  # noqa: ARG001 - Unfold's signature
    """Keep Unfold from writing its colours into each page, where no policy allows them: they are in colors.css."""
    return {"colors": None}


def money(amount: Decimal) -> str:
    """``250000000`` → ``$250,000,000.00``."""
    return f"${amount:,.2f}"


def percent(ratio: Decimal) -> str:
    """``0.020000`` → ``2 %``."""
    return f"{(ratio * 100).normalize():f} %"


def link(view: str, label: str, *args: Any, query: str = "") -> str:
    """Return a link to a page of the admin."""
    return format_html(
        '<a class="text-primary-600 dark:text-primary-500" href="{}{}">{}</a>',
        reverse(f"admin:{view}", args=args),
        query,
        label,
    )


@admin.register(Fund)
class FundAdmin(ReadOnly, LongList):  # type: ignore[misc]  # Unfold's types differ from django-stubs'
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
        return percent(fund.management_fee)

    @admin.display(description="carry")
    def carry(self, fund: Fund) -> str:
        return percent(fund.carry_percentage)

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


@admin.register(IdempotencyKey)
class KeyAdmin(IdempotencyKeyAdmin, LongList):  # type: ignore[misc]  # Unfold's types differ from django-stubs'
    """The app's own admin, on Unfold and with funds."""

    list_display = ["token", "user", "result", "conflict_count", "created_at", "expires_at", "state"]
    search_help_text = "A key, a user, a fund's number or name"
    fieldsets = [
        (None, {"fields": ["explanation"]}),
        (
            "The key",
            {"fields": ["token", "user", "operation", "environment", "created_at", "expires_at", "state"]},
        ),
        ("What the first request got", {"fields": ["result", "fund", "content_type", "answer"]}),
        ("Later requests with other content", {"fields": ["conflicts", "last_conflict_at"]}),
        ("For comparing", {"fields": ["fingerprint", "digest"]}),
    ]

    def meaning(self, term: str) -> Q:
        meaning = super().meaning(term) | key_of(Fund.objects.filter(numbered(term)))
        if self.model.objects.filter(meaning).exists():
            return meaning
        return meaning | key_of(Fund.objects.filter(name__iexact=term).order_by("-pk")[:FUNDS_BY_NAME_MAX])

    def why_not(self, term: str) -> list[str]:
        funds = Fund.objects.filter(numbered(term) | Q(name__iexact=term)).order_by("-pk")[:FUNDS_BY_NAME_MAX]
        sentences: list[str] = [
            format_html(
                "{} was created {}. The key it was created under has expired and been deleted: "
                "a retry with it now would create a second fund.",
                link("fundapi_fund_change", f"Fund {fund.pk}, {fund.name},", fund.pk),
                f"{fund.created_at:%Y-%m-%d %H:%M} UTC",
            )
            for fund in funds
        ]
        if not sentences and (user := User.objects.filter(username__iexact=term).first()):
            sentences = [
                format_html("{} has used no key lately.", link("auth_user_change", str(user), user.pk))
            ]
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
                return link("fundapi_fund_change", location, match.kwargs["pk"])
        return location

    @admin.display(description="user")
    def user(self, key: IdempotencyKey) -> str:
        owner = getattr(key, "owner", None)
        return link("auth_user_change", str(owner), owner.pk) if owner else super().user(key)

    @display(description="conflicts", label={"some": "warning"})
    def conflict_count(self, key: IdempotencyKey) -> tuple[str, str] | None:
        return ("some", str(key.conflicts)) if key.conflicts else None

    @display(description="state", label={"active": "success", "expired": "default"})
    def state(self, key: IdempotencyKey) -> str:
        return "active" if self.alive(key) else "expired"


@admin.register(Rollout)
class RolloutScreen(RolloutAdmin, ModelAdmin):  # type: ignore[misc]  # Unfold's types differ from django-stubs'
    """The app's own admin, on Unfold."""


@admin.register(Check)
class CheckList(CheckAdmin, LongList):  # type: ignore[misc]
    """The app's own admin, on Unfold."""


@admin.register(Incident)
class IncidentList(IncidentAdmin, LongList):  # type: ignore[misc]
    """The app's own admin, on Unfold."""


@admin.register(Alert)
class AlertList(AlertAdmin, LongList):  # type: ignore[misc]
    """The app's own admin, on Unfold."""


@admin.register(TelemetryEvent)
class TelemetryList(TelemetryEventAdmin, LongList):  # type: ignore[misc]
    """The app's own admin, on Unfold."""


@admin.register(Deployment)
class DeploymentList(DeploymentAdmin, LongList):  # type: ignore[misc]
    """The app's own admin, on Unfold."""


# --- Bearer tokens ----------------------------------------------------------------------------------------------


class TokenForm(forms.ModelForm):
    days = forms.IntegerField(
        label="Days until it expires",
        min_value=1,
        max_value=EXPIRY_MAX,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="The shorter, the less a lost token can do.",
    )

    class Meta:
        model = AuthToken
        fields = ["user"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["days"].initial = knox_settings.TOKEN_TTL.days


class TokenList(ChangeList):
    def url_for_result(self, result: AuthToken) -> str:
        return reverse("admin:knox_authtoken_change", args=[_reference(result)])


@admin.register(AuthToken)
class TokenAdmin(LongList):
    """Made here, shown once, revoked here. Addresses have the beginning of the digest, which gives nothing away."""

    form = TokenForm
    fields = ["user", "days"]
    autocomplete_fields = ["user"]
    list_display = ["token", "owner", "created", "expiry", "state"]
    list_display_links = ["token"]
    list_select_related = ["user"]
    actions = None
    sortable_by = ["created", "expiry"]
    search_fields = ["user__username"]
    search_help_text = "A user, or how a token begins"
    ordering = ["-created"]

    def get_urls(self) -> list[URLPattern]:
        """A list, a form, a page: the others would show digests."""
        kept = ("_changelist", "_add", "_change")
        return [url for url in super().get_urls() if (url.name or "").endswith(kept)]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        return TokenList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AuthToken], search_term: str
    ) -> tuple[QuerySet[AuthToken], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        begins = Q(token_key__startswith=term[:PREFIX_SHOWN]) if len(term) >= PREFIX_SHOWN else Q(pk__in=[])
        return queryset.filter(begins | Q(user__username__iexact=term)), False

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        one_button = {"show_save_and_continue": False, "show_save_and_add_another": False}
        response: HttpResponse = super().add_view(request, form_url, {**(extra_context or {}), **one_button})
        return response

    def save_model(self, request: HttpRequest, obj: AuthToken, form: forms.Form, change: bool) -> None:  # noqa: FBT001
        obj.digest, obj.plaintext = get_digest_token()
        obj.token_key = obj.plaintext[: CONSTANTS.TOKEN_KEY_LENGTH]
        obj.expiry = timezone.now() + timedelta(days=form.cleaned_data["days"])
        obj.save(force_insert=True)

    def response_add(
        self, request: HttpRequest, obj: AuthToken, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Show the token, once. It is in this answer's body and nowhere else."""
        context = {"title": "New bearer token", "token": obj, "plaintext": obj.plaintext}
        response = self._page(request, "new_token", context)
        response.headers["Cache-Control"] = "no-store"
        return response

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show what is known of a token, and revoke it on a POST."""
        token = self.get_queryset(request).select_related("user").filter(digest__startswith=object_id).first()
        if not self.has_view_permission(request, token):
            raise PermissionDenied
        if token is None or len(object_id) != len(_reference(token)):
            raise Http404
        may_revoke = self.has_delete_permission(request, token)
        if request.method == "POST":
            if not may_revoke:
                raise PermissionDenied
            self._log(request, token, DELETION, "Revoked.")
            token.delete()
            self.message_user(request, f"{_name(token)} is revoked: the next request with it gets a 401.")
            return HttpResponseRedirect(reverse("admin:knox_authtoken_changelist"))
        context = {
            "title": _name(token),
            "token": token,
            "state": self.state(token),
            "may_revoke": may_revoke,
        }
        return self._page(request, "token", context)

    def _page(self, request: HttpRequest, name: str, context: dict[str, Any]) -> TemplateResponse:
        request.current_app = self.admin_site.name
        context = {**self.admin_site.each_context(request), **context}
        return TemplateResponse(request, f"admin/fundapi/{name}.html", context)

    def log_addition(self, request: HttpRequest, obj: AuthToken, message: Any) -> LogEntry:
        return self._log(request, obj, ADDITION, "Made.")

    @staticmethod
    def _log(request: HttpRequest, token: AuthToken, action: int, message: str) -> LogEntry:
        return LogEntry.objects.create(
            user_id=int(request.user.pk or 0),
            content_type=ContentType.objects.get_for_model(AuthToken),
            object_id=_reference(token),
            object_repr=_name(token),
            action_flag=action,
            change_message=message,
        )

    @admin.display(description="token")
    def token(self, token: AuthToken) -> str:
        return format_html("<code>{}…</code>", token.token_key[:PREFIX_SHOWN])

    @admin.display(description="user")
    def owner(self, token: AuthToken) -> str:
        return link("auth_user_change", str(token.user), token.user_id)

    @display(
        description="state", label={"active": "success", "expired": "danger", "user inactive": "warning"}
    )
    def state(self, token: AuthToken) -> str:
        if token.expiry is not None and token.expiry <= timezone.now():
            return "expired"
        return "active" if token.user.is_active else "user inactive"


def _name(token: AuthToken) -> str:
    return f"Token {token.token_key[:PREFIX_SHOWN]}… of {token.user}"


def _reference(token: AuthToken) -> str:
    return str(token.digest[:REFERENCE_LENGTH])


# --- People -----------------------------------------------------------------------------------------------------


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[misc]  # Unfold's types differ from django-stubs'
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ["username", "email", "is_active", "is_staff", "is_superuser", "last_login"]
    list_filter = ["is_active", "is_staff", "is_superuser"]
    readonly_fields = ["belongings", "last_login", "date_joined"]
    search_help_text = "A name or an address"

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        return [*fieldsets, ("Belongings", {"fields": ["belongings"]})] if obj else fieldsets

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: what somebody did would lose its author. Who leaves is made inactive."""
        return False

    @admin.display(description="look up")
    def belongings(self, user: User) -> str:
        query = "?" + urlencode({"q": user.get_username()})
        return format_html(
            "{} · {} · {}",
            link("fundapi_fund_changelist", "Funds", query=query),
            link("idempotency_idempotencykey_changelist", "Idempotency keys", query=query),
            link("knox_authtoken_changelist", "Bearer tokens", query=query),
        )


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):  # type: ignore[misc]  # Unfold's types differ from django-stubs'
    pass


@admin.register(TOTPDevice)
class AuthenticatorList(ReadOnly, LongList):  # type: ignore[misc]  # Unfold's types differ from django-stubs'
    """Who has one. Never its secret; to delete it is to let its user in with the password alone, or a new one."""

    list_display = ["user", "confirmed", "created_at", "last_used_at"]
    list_select_related = ["user"]
    fields = ["user", "confirmed", "created_at", "last_used_at"]
    search_fields = ["user__username"]
    actions = None
    has_delete_permission = ModelAdmin.has_delete_permission

    def delete_model(self, request: HttpRequest, obj: TOTPDevice) -> None:
        remove(obj.user)


# --- Sign-ins ---------------------------------------------------------------------------------------------------

for model, page in {
    AccessLog: AccessLogList,
    AccessFailureLog: AccessFailureList,
    AccessAttempt: AccessAttemptList,
}.items():
    admin.site.register(model, page)
