"""The admin as a whole: Unfold's, and a second factor where one is set up or required."""

from typing import Any

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django_otp import user_has_device
from unfold.forms import AuthenticationForm
from unfold.sites import UnfoldAdminSite
from unfold.widgets import BASE_INPUT_CLASSES

from fundapi.otp import CodeMixin, SetUpForm, is_verified, qr_code, unconfirmed


class AdminSignInForm(CodeMixin, AuthenticationForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["otp_token"].widget.attrs["class"] = " ".join(BASE_INPUT_CLASSES)


class AdminSite(UnfoldAdminSite):
    login_form = AdminSignInForm

    def has_permission(self, request: HttpRequest) -> bool:
        return super().has_permission(request) and is_verified(request)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Sign in; who is in already and lacks nothing but an authenticator is led to set one up."""
        lacking = super().has_permission(request) and not user_has_device(request.user)
        if request.method == "GET" and settings.ADMIN_OTP_REQUIRED and lacking:
            return HttpResponseRedirect(reverse("admin:two_factor"))
        response: HttpResponse = super().login(request, extra_context)
        return response

    def get_urls(self) -> list[URLPattern]:  # type: ignore[override]  # as Unfold has it
        return [path("two-factor/", two_factor, {"site": self}, name="two_factor"), *super().get_urls()]


@never_cache  # its secret is this user's alone
@sensitive_post_parameters("password", "code")
def two_factor(request: HttpRequest, site: AdminSite) -> HttpResponse:
    """Set up an authenticator: show its secret, take a first code, show backup codes once."""
    if not UnfoldAdminSite.has_permission(site, request):
        return redirect_to_login(request.path, reverse("admin:login"))
    context = {**site.each_context(request), "title": "Two-factor authentication"}
    if user_has_device(request.user):
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
