"""Pages of bearer tokens: create, show once, list, revoke."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.models import ADDITION, DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.db.models.functions import Now
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, reverse
from django.utils.html import format_html
from knox.models import AuthToken, get_digest_token
from knox.settings import CONSTANTS, knox_settings
from unfold.decorators import display
from unfold.views import ChangeList
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from fundapi.access.origin import PREFIX_SHOWN
from fundapi.admin.links import link
from idempotency.admin import LongList

EXPIRY_MAX = 3650  # days; nobody remembers a token that is older
REFERENCE_LENGTH = 32  # characters of a digest in an address
EXPIRED = ExpressionWrapper(Q(expiry__lte=Now()), output_field=BooleanField())


class TokenForm(forms.ModelForm):
    days = forms.IntegerField(
        label="Days until it expires",
        min_value=1,
        max_value=EXPIRY_MAX,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="A short life limits what a lost token can do.",
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


class TokenAdmin(LongList):
    """Pages of tokens. A page's address holds the beginning of the digest, which is no secret."""

    form = TokenForm
    fields = ["user", "days"]
    autocomplete_fields = ["user"]
    list_display = ["token", "owner", "created", "expiry", "state"]
    list_display_links = ["token"]
    list_select_related = ["user"]
    actions = None
    sortable_by = ["created", "expiry"]
    search_fields = ["user__username"]
    search_help_text = "Username, or the first 8 characters of a token"
    ordering = ["-created"]

    def get_urls(self) -> list[URLPattern]:
        """Return the list, the form and the page of a token; the other pages would show digests."""
        pages = ("_changelist", "_add", "_change")
        return [url for url in super().get_urls() if (url.name or "").endswith(pages)]

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuthToken]:
        tokens: QuerySet[AuthToken] = super().get_queryset(request).annotate(is_expired=EXPIRED)
        return tokens

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
        obj.expiry = Now() + timedelta(days=form.cleaned_data["days"])  # of the database, which judges it
        obj.save(force_insert=True)
        obj.refresh_from_db(fields=["expiry"])

    def response_add(
        self, request: HttpRequest, obj: AuthToken, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Show the token, once: it is in the body of this response and nowhere else."""
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
        """Show a token's record; revoke the token on a POST."""
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
            self.message_user(request, f"{_name(token)} is revoked. Requests with it get a 401.")
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
        return self._log(request, obj, ADDITION, "Created.")

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
        if getattr(token, "is_expired", False):
            return "expired"
        return "active" if token.user.is_active else "user inactive"


def _name(token: AuthToken) -> str:
    return f"Token {token.token_key[:PREFIX_SHOWN]}… of {token.user}"


def _reference(token: AuthToken) -> str:
    return str(token.digest[:REFERENCE_LENGTH])
