"""The admin site: Unfold's, with a second factor where one is set up or required."""

from functools import wraps
from typing import Any

from django import forms
from django.apps import apps
from django.conf import settings
from django.contrib.admin import ModelAdmin as DjangoModelAdmin
from django.contrib.admin import ShowFacets, SimpleListFilter
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import BadRequest, PermissionDenied, ValidationError
from django.core.paginator import InvalidPage
from django.db.models import Model
from django.db.models.base import ModelBase
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.templatetags.static import static
from django.urls import URLPattern, path, reverse
from django.utils.text import capfirst
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from unfold.admin import ModelAdmin
from unfold.dataclasses import Favicon
from unfold.forms import AuthenticationForm
from unfold.sites import UnfoldAdminSite
from unfold.widgets import BASE_INPUT_CLASSES

from fundapi.access.second_factor import (
    CodeForm,
    SetUpForm,
    has_authenticator,
    is_verified,
    qr_code,
    unconfirmed,
)
from fundapi.access.signins import lockout_response
from fundapi.web import assets

# Of Django's own filters (django.contrib.admin.filters, `date_hierarchy`).
FILTER_LOOKUPS = ("exact", "isnull", "gte", "lt", "year", "month", "day", "pk__exact", "id__exact")

# Of Django's own scripts, what a list and a form need. The rest fills in slugs, of which there are none.
LIST_MEDIA = forms.Media(js=["admin/js/actions.js"])
FORM_MEDIA = forms.Media(
    js=[
        "admin/js/vendor/jquery/jquery.min.js",
        "admin/js/jquery.init.js",
        "admin/js/core.js",
        "admin/js/admin/RelatedObjectLookups.js",
    ]
)


class AdminSignInForm(CodeForm, AuthenticationForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["otp_token"].widget.attrs["class"] = " ".join(BASE_INPUT_CLASSES)


class OfferedChoices(ChangeList):
    """A list that refuses what its filters do not offer, and knows that any condition of its address narrows it."""

    def get_filters(self, request: HttpRequest) -> Any:
        filters, *others, _ = super().get_filters(request)
        for each in filters:
            if isinstance(each, SimpleListFilter) and each.value() not in {None, *dict(each.lookup_choices)}:
                raise IncorrectLookupParameters(each.parameter_name)
        return filters, *others, bool(self.get_filters_params())


class OfferedFilters(DjangoModelAdmin):
    """Base of every page: a list filters by what it offers, and by nothing else.

    Django takes any lookup of a model's own fields: ``?key__startswith=a`` would read a column that no page shows,
    letter by letter. And some, as ``__range``, end in a 500 with most values.
    """

    show_facets = ShowFacets.NEVER  # counts beside each choice of a filter: seconds in a table of millions

    def lookup_allowed(self, lookup: str, value: Any, request: Any = None) -> bool:
        offered = [_parameter(item) for item in (*self.get_list_filter(request), self.date_hierarchy) if item]
        return any(
            lookup in {name, *(f"{name}__{of}" for of in FILTER_LOOKUPS)} for name in offered
        ) and bool(super().lookup_allowed(lookup, value, request))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return type("ChangeList", (OfferedChoices, super().get_changelist(request, **kwargs)), {})

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Make the list. A filter or page that is none is a 400; Django would show, and export, all rows."""
        try:
            return super().get_changelist_instance(request)
        except IncorrectLookupParameters as error:
            raise BadRequest(f"{error}") from error

    @property
    def media(self) -> forms.Media:
        """The page's own files, without those of every page and those of Django's forms and lists."""
        return assets.without(super().media, DjangoModelAdmin.media.fget(self))  # type: ignore[attr-defined]  # stubs: no property

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        own = {"title": capfirst(self.opts.verbose_name_plural), "media": self.media + LIST_MEDIA}
        return super().changelist_view(request, own | (extra_context or {}))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        context["media"] = FORM_MEDIA + context["media"]
        return super().render_change_form(request, context, *args, **kwargs)

    def response_action(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Do an action. An id that is none of this model is a 400; Django would look it up, and fail."""
        try:
            for key in request.POST.getlist(ACTION_CHECKBOX_NAME):
                self.model._meta.pk.clean(key, None)
        except ValidationError as error:
            raise BadRequest(f"{error}") from error
        return super().response_action(request, *args, **kwargs)


def _parameter(list_filter: Any) -> str:
    """Return the field or parameter of an item of ``list_filter``."""
    name = list_filter[0] if isinstance(list_filter, list | tuple) else list_filter
    return str(getattr(name, "parameter_name", name))


class AdminSite(UnfoldAdminSite):
    login_form = AdminSignInForm

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)
        self._replaced: set[type[Model]] = set()

    def register(
        self, model_or_iterable: Any, admin_class: type[DjangoModelAdmin] | None = None, **options: Any
    ) -> None:
        """Register a page for models, but for those that :meth:`replace` took over.

        Each page gets :class:`OfferedFilters`. One written for Django's own admin gets Unfold's as its base too, so
        apps need not know of Unfold.
        """
        models = [model_or_iterable] if isinstance(model_or_iterable, ModelBase) else model_or_iterable
        page = admin_class or ModelAdmin
        bases = (OfferedFilters, page) if issubclass(page, ModelAdmin) else (OfferedFilters, page, ModelAdmin)
        page = type(page.__name__, bases, {"__module__": page.__module__, "media": OfferedFilters.media})
        super().register([model for model in models if model not in self._replaced], page, **options)

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:  # noqa: FBT001, FBT002 - Django's signature
        """Refuse a null character in any address: PostgreSQL does, and Django makes a 500 of that."""

        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if "\0" in request.path or "%00" in request.META["QUERY_STRING"]:
                raise BadRequest("The address has a null character in it.")
            return view(request, *args, **kwargs)

        return super().admin_view(checked, cacheable)

    def replace(self, model: type[Model], page: type[DjangoModelAdmin] | None) -> None:
        """Show ``page`` for another app's model (``None``: no page), in whatever order the apps register."""
        self._replaced.discard(model)
        if self.is_registered(model):
            self.unregister(model)
        if page:
            self.register(model, page)
        self._replaced.add(model)

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """Add our style sheets and scripts; ``colors`` would be inline styles, which the policy refuses."""
        return super().each_context(request) | {
            # Of those who are not signed in; the menu of the others has the pages.
            "site_url": None if self.has_permission(request) else reverse("home"),
            "site_favicons": [
                Favicon(href=static("fundapi/favicon.svg"), rel="icon", type="image/svg+xml"),
            ],
            "styles": assets.addresses("fundapi/admin-bundle.css"),
            "scripts": assets.addresses("fundapi/admin-bundle.js"),
            "colors": None,
        }

    def app_index(
        self, request: HttpRequest, app_label: str, extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Show the lists of an app under its name alone, without "administration"."""
        app = apps.app_configs.get(app_label)
        own = {"title": app.verbose_name} if app else {}
        return super().app_index(request, app_label, own | (extra_context or {}))

    def search(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Search the names of lists. A page that is none is a 400; Unfold makes a 500 of it."""
        try:
            return super().search(request, extra_context)
        except (ValueError, InvalidPage) as error:
            raise BadRequest(f"{error}") from error

    def autocomplete_view(self, request: HttpRequest) -> HttpResponse:
        """Complete the fields that a form here offers. By any other, an answer could name another table's rows."""
        source = tuple(request.GET.get(name) for name in ("app_label", "model_name", "field_name"))
        offered = {
            (model._meta.app_label, model._meta.model_name, field)
            for model, page in self._registry.items()
            for field in page.get_autocomplete_fields(request)
        }
        if source not in offered:
            raise PermissionDenied
        return super().autocomplete_view(request)

    def has_permission(self, request: Any) -> bool:
        if not super().has_permission(request):
            return False
        if not hasattr(request, "second_factor"):  # a page calls this several times
            request.second_factor = is_verified(request)
        return bool(request.second_factor)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Sign in. A signed-in user who only lacks a required authenticator is sent to set one up."""
        lacking = super().has_permission(request) and not has_authenticator(request.user)
        if request.method == "GET" and settings.ADMIN_OTP_REQUIRED and lacking:
            return HttpResponseRedirect(reverse("admin:two_factor"))
        return lockout_response(super().login)(request, extra_context)

    def get_urls(self) -> list[URLPattern]:  # type: ignore[override]  # as Unfold has it
        return [path("two-factor/", two_factor, {"site": self}, name="two_factor"), *super().get_urls()]


@lockout_response
@never_cache  # it shows a secret of this user
@sensitive_post_parameters("password", "code")
def two_factor(request: HttpRequest, site: AdminSite) -> HttpResponse:
    """Set up an authenticator: show its secret, check a first code, show backup codes once."""
    if not UnfoldAdminSite.has_permission(site, request):
        return redirect_to_login(request.path, reverse("admin:login"))
    context = {**site.each_context(request), "title": "Two-factor authentication"}
    if has_authenticator(request.user):
        if not is_verified(request):
            return redirect_to_login(request.path, reverse("admin:login"))
        return TemplateResponse(request, "admin/fundapi/two_factor.html", context | {"is_set_up": True})
    device = unconfirmed(request.user)
    form = SetUpForm(request, device, request.POST if request.method == "POST" else None)
    if form.is_valid():
        response = TemplateResponse(
            request, "admin/fundapi/two_factor.html", context | {"codes": form.save()}
        )
    else:
        secret = device.config_url.partition("secret=")[2].partition("&")[0]
        extra = {"form": form, "qr_code": qr_code(device), "secret": secret}
        response = TemplateResponse(request, "admin/fundapi/two_factor.html", context | extra)
    response.headers["Cache-Control"] = "no-store"
    return response


def environment_badge(request: HttpRequest) -> tuple[str, str]:  # noqa: ARG001 - Unfold's signature
    """Return the environment's name and the colour of its badge; production is red."""
    name = settings.ENVIRONMENT
    for color, names in (("danger", ("prod", "live")), ("warning", ("stag", "pre", "uat"))):
        if name.lower().startswith(names):
            return name, color
    return name, "info"


# The sidebar: title, icon and model of each list.
NAVIGATION = {
    "Releases": [
        ("Rollouts", "rocket_launch", "rollout.rollout"),
        ("Incidents", "crisis_alert", "rollout.incident"),
        ("Deployments", "deployed_code", "rollout.deployment"),
        ("Checks", "monitoring", "rollout.check"),
        ("Alerts", "notifications", "rollout.alert"),
        ("Telemetry events", "sensors", "rollout.telemetryevent"),
    ],
    "Funds": [
        ("Funds", "account_balance", "fundapi.fund"),
        ("Idempotency keys", "key", "idempotency.idempotencykey"),
    ],
    "Access": [
        ("Users", "person", "auth.user"),
        ("Groups", "group", "auth.group"),
        ("Bearer tokens", "vpn_key", "knox.authtoken"),
        ("Authenticators", "phonelink_lock", "otp_totp.totpdevice"),
        ("Sign-ins", "login", "axes.accesslog"),
        ("Failed sign-ins", "no_accounts", "axes.accessfailurelog"),
        ("Lock-outs", "lock_clock", "axes.accessattempt"),
    ],
}


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the sidebar: the lists that the user may view, and the API's documentation."""
    groups = []
    for title, lists in NAVIGATION.items():
        items = []
        for name, icon, model in lists:
            app, model_name = model.split(".")
            if request.user.has_perm(f"{app}.view_{model_name}"):
                address = reverse(f"admin:{app}_{model_name}_changelist")
                items.append({"title": name, "icon": icon, "link": address})
        groups.append({"title": title, "items": items, "separator": title == "Access"})
    documentation = {"title": "API documentation", "icon": "menu_book", "link": reverse("docs")}
    return [*groups, {"title": "Help", "items": [documentation], "separator": True}]


def account_links(request: HttpRequest) -> list[dict[str, str]]:
    """Return the links of the account's menu."""
    links = [
        {"title": "Set up a fund", "link": reverse("fund-setup")},
        {"title": "Two-factor authentication", "link": reverse("admin:two_factor")},
    ]
    if request.user.is_authenticated and request.user.has_usable_password():
        links.append({"title": "Change password", "link": reverse("admin:password_change")})
    return links
