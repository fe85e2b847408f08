"""The admin site: every page is on Unfold and opens, in whatever order the apps register."""

import re
import uuid
from collections.abc import Callable
from contextlib import suppress
from itertools import permutations
from typing import Any

import pytest
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.db.models import Model
from django.test import Client, override_settings
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django_otp.plugins.otp_static.admin import StaticDeviceAdmin
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from knox.admin import AuthTokenAdmin
from knox.models import AuthToken
from unfold.admin import ModelAdmin

from fundapi.admin.tokens import TokenAdmin
from fundapi.models import Fund
from fundapi.site import AdminSite, OfferedFilters, environment_badge
from idempotency.models import IdempotencyKey
from rollout.models import Alert, Check, Deployment, Incident, Rollout, TelemetryEvent
from tests.canary import judged_rollouts
from tests.conftest import Api
from tests.fundapi.conftest import PASSWORD
from tests.servers import Server, printed

SHOWN = [
    *(Fund, IdempotencyKey),
    *(Rollout, Check, Incident, Alert, Deployment, TelemetryEvent),
    *(User, Group, AuthToken, TOTPDevice, AccessLog, AccessFailureLog, AccessAttempt),
]
of_each_model = pytest.mark.parametrize("model", SHOWN, ids=lambda model: model._meta.label)


# --- Registering ------------------------------------------------------------------------------------------------


def test_the_admin_shows_these_models_and_no_other() -> None:
    """Backup codes (``StaticDevice``) are not among them: they are shown once, when they are created."""
    assert {model for model in apps.get_models() if admin.site.is_registered(model)} == {*SHOWN}


def test_system_checks_look_at_every_page() -> None:
    """The pages are imported with their addresses, and the checks need no address."""
    program = """
import django
from fundapi.variables import name_settings
name_settings()
django.setup()
from django.contrib import admin
from django.core.checks import Tags, run_checks
print(run_checks(tags=[Tags.admin]), len(admin.site._registry))
"""
    assert printed(program) == f"[] {len(SHOWN)}\n"


@of_each_model
def test_every_page_is_on_unfold(model: type[Model]) -> None:
    assert isinstance(admin.site.get_model_admin(model), ModelAdmin)


def test_the_page_of_tokens_is_ours() -> None:
    """knox's own puts a new token into a message, hence into a cookie."""
    page = admin.site.get_model_admin(AuthToken)
    assert isinstance(page, TokenAdmin)
    assert not isinstance(page, AuthTokenAdmin)


class TheirPage(admin.ModelAdmin):
    """A page written for Django's own admin."""

    list_before_template = "their.html"


class OurPage(ModelAdmin):
    pass


@pytest.mark.parametrize("order", [*permutations(["ours", "knox", "otp"])])
def test_a_replaced_page_stays_replaced_in_any_order_of_apps(order: tuple[str, ...]) -> None:
    site = AdminSite()
    for app in order:
        match app:
            case "ours":
                site.replace(AuthToken, OurPage)
                site.replace(StaticDevice, None)
            case "knox":
                site.register(AuthToken, AuthTokenAdmin)
            case "otp":
                site.register([StaticDevice, TOTPDevice], StaticDeviceAdmin)
    assert isinstance(site.get_model_admin(AuthToken), OurPage)
    assert not site.is_registered(StaticDevice)
    assert site.is_registered(TOTPDevice)


def test_the_latest_replacement_counts() -> None:
    site = AdminSite()
    site.replace(AuthToken, None)
    site.replace(AuthToken, OurPage)
    assert isinstance(site.get_model_admin(AuthToken), OurPage)


def test_a_page_of_django_is_put_on_unfold_with_its_own_ways_first() -> None:
    site = AdminSite()
    site.register(Group, TheirPage)
    page: Any = site.get_model_admin(Group)
    assert type(page).__mro__[1:4] == (OfferedFilters, TheirPage, ModelAdmin)
    assert page.list_before_template == "their.html"
    assert type(page).__name__ == "TheirPage"


def test_a_page_without_a_class_is_unfolds() -> None:
    site = AdminSite()
    site.register(Group)
    assert type(site.get_model_admin(Group)).__mro__[1:3] == (OfferedFilters, ModelAdmin)


# --- Opening ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows(server: Server) -> None:
    """Make a row of each model that the admin shows."""
    user = User.objects.create_superuser(f"user-{uuid.uuid4().hex[:12]}")
    with Api(server, user) as api:
        assert api.create().status_code == 201
    TOTPDevice.objects.create(user=user, name="authenticator", confirmed=False)
    who = {"username": user.username, "ip_address": "203.0.113.77"}
    AccessLog.objects.create(**who)
    AccessFailureLog.objects.create(**who)
    AccessAttempt.objects.create(**who, failures_since_start=1)
    with judged_rollouts(server) as make:
        canary = make()
        for _ in range(3):
            canary.send("migration_failed", clients=5)
            canary.check()
        Alert.objects.create(
            key=uuid.uuid4().hex,
            rollout=canary.rollout,
            kind="red",
            channel="email",
            payload={"text": "red"},
            sent_at=timezone.now(),
        )
    Deployment.objects.create(
        pull_request=1, title="A change", branch="main", commit="0" * 40, commits=1, environment="test",
        deployed_by=user.username, deployed_at=timezone.now(),
    )  # fmt: skip


def pages_of(row: Model) -> dict[str, str]:
    """Return the address of each page that the admin has for a row, by its name."""
    meta, reference = row._meta, row.pk[:32] if isinstance(row, AuthToken) else row.pk
    found = {}
    for page in ("changelist", "add", "change", "history", "delete"):
        args = [] if page in {"changelist", "add"} else [reference]
        with suppress(NoReverseMatch):
            found[page] = reverse(f"admin:{meta.app_label}_{meta.model_name}_{page}", args=args)
    return found


@of_each_model
@pytest.mark.usefixtures("rows")
def test_every_page_of_every_model_opens(model: type[Model]) -> None:
    client = Client()
    client.force_login(User.objects.filter(is_superuser=True).latest("pk"))
    row = model._default_manager.latest("pk")
    answers = {page: client.get(address) for page, address in pages_of(row).items()}
    assert all("fundapi/admin.css" in answer.text for answer in answers.values() if answer.status_code == 200)
    statuses = {page: answer.status_code for page, answer in answers.items()}
    assert statuses.pop("changelist") == 200
    assert statuses.pop("change") == 200
    assert {*statuses.values()} <= {200, 403}


@pytest.mark.parametrize(
    ("environment", "color"),
    [("prod", "danger"), ("Production", "danger"), ("prod-eu", "danger"), ("live", "danger"),
     ("staging", "warning"), ("dev", "info"), ("test", "info")],
)  # fmt: skip
def test_production_is_visibly_red(staff: User, environment: str, color: str) -> None:
    client = Client()
    client.force_login(staff)
    with override_settings(ENVIRONMENT=environment):
        assert environment_badge(None) == (environment, color)  # type: ignore[arg-type]
        assert f">\n\n{environment}\n" in client.get("/admin/").text
        assert environment in Client().get("/admin/login/").text


# --- The sidebar ------------------------------------------------------------------------------------------------


def test_the_sidebar_leads_to_every_list(staff: User) -> None:
    client = Client()
    client.force_login(staff)
    found = sidebar(client)
    for model in SHOWN:
        address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        assert found.count(f'<a href="{address}"') == 1
    assert f'<a href="{reverse("docs")}"' in found


def test_the_sidebar_has_only_what_the_user_may_view(make_user: Callable[..., User]) -> None:
    user = make_user(may_create=False, is_staff=True)
    user.user_permissions.set([Permission.objects.get(codename="view_rollout")])
    client = Client()
    client.force_login(user)
    assert re.findall(r'<a href="(/admin/\w+/\w+/)"', sidebar(client)) == ["/admin/rollout/rollout/"]


def test_the_search_of_the_sidebar_finds_pages(staff: User) -> None:
    client = Client()
    client.force_login(staff)
    assert reverse("admin:fundapi_fund_changelist") in client.get("/admin/search/", {"s": "funds"}).text


@pytest.mark.parametrize("number", ["zz", "99", "-1", ""])
def test_a_search_for_a_page_that_is_none_is_a_400(staff: User, number: str) -> None:
    client = Client()
    client.force_login(staff)
    assert client.get("/admin/search/", {"s": "funds", "page": number}).status_code == 400


def sidebar(client: Client) -> str:
    page = client.get("/admin/").text
    begin = page.index('id="nav-sidebar-apps"')
    return page[begin : page.index("</nav>", begin)]


# --- Signing in -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "leads_to"),
    [
        ("/admin/login/", "/admin/"),
        ("/admin/login/?next=/admin/fundapi/fund/", "/admin/fundapi/fund/"),
        ("/admin/login/?next=", "/"),
        ("/admin/login/?next=https://elsewhere.example/", "/"),
        ("/admin/login/?next=//elsewhere.example", "/"),
    ],
)
def test_signing_in_leads_to_the_page_that_was_asked_for(
    quick_passwords: None, staff: User, asked: str, leads_to: str
) -> None:
    """As a browser does it: the form is sent with its hidden fields. A lock-out page links to the first address."""
    client = Client()
    hidden = dict(re.findall(r'type="hidden" name="(next)" value="([^"]*)"', client.get(asked).text))
    form = {"username": staff.username, "password": PASSWORD, **hidden}
    assert client.post(asked, form).headers["Location"] == leads_to


def test_the_root_leads_operators_to_the_admin_and_shows_others_where_to_go(staff: User, user: User) -> None:
    operator, visitor = Client(), Client()
    operator.force_login(staff)
    assert operator.get("/").headers["Location"] == "/admin/"
    visitor.force_login(user)
    for client in (visitor, Client()):
        page = client.get("/")
        assert page.status_code == 200
        assert all(f'href="{path}"' in page.text for path in ("/fund-setup", "/admin/", "/api/docs"))


# --- The start page ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("rows")
def test_the_start_page_says_what_an_operator_asks_first(staff: User) -> None:
    client = Client()
    client.force_login(staff)
    page = client.get("/admin/").text
    for text in (
        "Rollouts, worst first",
        "Open incidents",
        "Judge",
        "All alerts",
        "Creates",
        "Replays",
        "Conflicts",
    ):
        assert text in page
    with override_settings(ROLLOUT_WEBHOOK_URL="", ROLLOUT_ALERT_EMAILS=[]):
        assert "No channel is set up: nobody is told." in client.get("/admin/").text


@of_each_model
@pytest.mark.usefixtures("rows")
def test_no_page_says_the_name_of_a_library(model: type[Model]) -> None:
    client = Client()
    client.force_login(User.objects.filter(is_superuser=True).latest("pk"))
    addresses = {
        "/admin/",
        f"/admin/{model._meta.app_label}/",
        *pages_of(model._default_manager.latest("pk")).values(),
    }
    for address in addresses:
        assert not re.findall(LIBRARIES, words(client.get(address).text)), address


def test_no_page_without_a_row_says_the_name_of_a_library(staff: User) -> None:
    client = Client()
    client.force_login(staff)
    for address in (
        *("/admin/password_change/", "/admin/password_change/done/", "/admin/two-factor/", "/admin/nothing/"),
        *(
            "/admin/search/?s=s",
            "/admin/search/?s=s&extended=1",
            "/admin/logout/",
            "/admin/login/",
            "/signin",
        ),
    ):
        page = client.post(address) if "logout" in address else client.get(address)
        assert not re.findall(LIBRARIES, words(page.text)), address


# In any text or attribute that is shown or read aloud; also phrases that a library's templates would show.
LIBRARIES = (
    r"(?i)\b(?:axes|knox|otp\w*|totp\w*|unfold\w*|django\w*|drf)\b"
    r"|yielded into|apps and models|quality time|access (?:log|attempt|failure)|auth token"
)
SAID = r'\b(?:title|aria-label|placeholder|alt|data-label)="([^"]*)"'


def words(page: str) -> str:
    """Return what a page shows and what is read aloud, without the names of icons."""
    page = re.sub(r"<span[^>]*material-symbols[^>]*>[^<]*</span>", " ", page)
    said = " ".join(re.findall(SAID, page))
    return re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL) + " " + said


def test_the_menu_of_the_account_leads_to_the_password(staff: User) -> None:
    client = Client()
    client.force_login(staff)
    page = client.get("/admin/").text
    assert 'href="/admin/password_change/"' in page
    assert 'href="/admin/two-factor/"' in page
    assert "View site" not in page
