"""Pages for fund managers: where to go, sign in, set up a fund."""

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse_lazy
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_safe

from fundapi.access.second_factor import SignInForm
from fundapi.access.tokens import may_create_funds
from fundapi.web import assets
from rollout import tickets


@never_cache
@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Lead operators to the admin, and show everybody else where they can go."""
    if admin.site.has_permission(request):
        return redirect("admin:index")
    return render(request, "fundapi/home.html")


class SignInView(LoginView):
    template_name = "fundapi/signin.html"
    authentication_form = SignInForm
    next_page = "fund-setup"
    redirect_authenticated_user = True


@never_cache  # it holds the session's CSRF token and the user's ticket
@login_required(login_url=reverse_lazy("signin"))
@require_safe
@ensure_csrf_cookie
def fund_setup(request: HttpRequest) -> HttpResponse:
    """Show the form. The browser does the rest: ``fund-setup.js``."""
    now = timezone.now()
    context = {
        "script": assets.module("fundapi/fund-setup-bundle.js"),
        "environment": settings.ENVIRONMENT,
        # Texts: a template would write numbers as its language does.
        "key_ttl": f"{settings.IDEMPOTENCY_TTL.total_seconds():.0f}",
        "now": f"{now.timestamp() * 1000:.0f}",
        "may_create": may_create_funds(request.user.pk),
        "ticket": tickets.issue(request.user.pk),
        "this_year": now.year,
    }
    return render(request, "fundapi/fund_setup.html", context)
