"""The product's addresses."""

from collections.abc import Callable

from django.contrib.auth.views import LogoutView
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.urls import URLResolver, include, path
from django.urls.resolvers import RoutePattern
from django.utils.module_loading import import_string
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from fundapi.access.signins import lockout_response
from fundapi.api.telemetry import TelemetryView
from fundapi.api.throttling import TicketThrottle
from fundapi.api.views import FundsView, FundView
from fundapi.pages import SignInView, fund_setup, home
from fundapi.web.health import health, livez, metrics, readyz
from fundapi.web.problems import CATALOGUE, problem_response
from rollout.api.tickets import TicketView


def on_demand(path: str) -> Callable[..., HttpResponseBase]:
    """Return a view that its first request imports: the documentation takes 4 MiB, and few workers show it."""

    @csrf_exempt  # so that a POST gets 405, not 403
    def view(request: HttpRequest) -> HttpResponseBase:
        answer: HttpResponseBase = import_string(path).as_view()(request)
        return answer

    return view


@csrf_exempt  # so that a POST gets 405, not 403
@require_safe
def problem(_request: HttpRequest, code: str) -> HttpResponse:
    """Explain the problem that the ``type`` of an error points to."""
    if code not in CATALOGUE:
        return problem_response(
            "not_found", f"No problem has this code. Known: {', '.join(sorted(CATALOGUE))}."
        )
    return JsonResponse(CATALOGUE[code].body())


urlpatterns = [
    path("api/funds", FundsView.as_view(), name="funds"),
    path("api/funds/<int:pk>", FundView.as_view(), name="fund"),
    path("api/problems/<slug:code>", problem, name="problem"),
    path("api/schema", on_demand("fundapi.schema.document.SchemaView"), name="schema"),
    path("api/docs", on_demand("fundapi.schema.document.DocsView"), name="docs"),
    path("api/telemetry", TelemetryView.as_view(), name="telemetry"),
    path("api/telemetry/ticket", TicketView.as_view(throttle_classes=[TicketThrottle]), name="ticket"),
    path("", home, name="home"),
    path("fund-setup", fund_setup, name="fund-setup"),
    path("signin", lockout_response(SignInView.as_view()), name="signin"),
    path("signout", LogoutView.as_view(next_page="signin"), name="signout"),
    path("", include("rollout.urls")),
    path("health", health),
    path("livez", livez),
    path("readyz", readyz),
    path("metrics", metrics),
    # By name, where include() would import it: see fundapi.apps.SiteConfig.
    URLResolver(RoutePattern("admin/"), "fundapi.admin.urls", app_name="admin", namespace="admin"),
]
handler500 = "fundapi.web.problems.server_error"
