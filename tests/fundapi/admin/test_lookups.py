"""Nobody reads by a filter, an order or a completion what no page of the admin shows."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.admin.sites import site
from django.contrib.auth.models import Permission, User
from django.db.models import Model
from django.test import Client, RequestFactory
from django.urls import reverse
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from knox.models import AuthToken

from rollout.models import Alert
from tests.conftest import token_of

LISTS: list[type[Model]] = [*site._registry]
# The parameters of each list's filters. A list that is not named here has none.
PERIOD = {"since", "until"}
OFFERED = {
    "auth.User": {"is_active", "is_staff", "is_superuser"},
    "axes.AccessAttempt": PERIOD,
    "axes.AccessFailureLog": {*PERIOD, "locked_out"},
    "axes.AccessLog": PERIOD,
    "fundapi.Fund": PERIOD,
    "idempotency.IdempotencyKey": {*PERIOD, "life"},
    "rollout.Alert": {*PERIOD, "delivery", "channel", "rollout"},
    "rollout.Check": {*PERIOD, "signal", "rollout"},
    "rollout.Deployment": {*PERIOD, "state"},
    "rollout.Incident": {*PERIOD, "outcome", "rollout"},
    "rollout.Rollout": {"signal", "state"},
    "rollout.TelemetryEvent": {*PERIOD, "event", "flag", "from"},
}
TRANSFORMS = ["", "__exact", "__startswith", "__gt", "__regex", "__in", "__isnull", "__lower__startswith"]
SECRET = {"password", "key", "digest", "token", "token_key", "body", "session_data", "post_data", "get_data"}
NO_SECRET = {("idempotency.IdempotencyKey", "token")}  # a key as the client sent it, which the list shows
of_each_list = pytest.mark.parametrize("model", LISTS, ids=lambda model: model._meta.label)


def list_of(model: type[Model]) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def paths(model: type[Model], depth: int) -> Iterator[str]:
    """Yield the fields of a model, and those of its relations, in both directions."""
    yield "pk"
    for field in model._meta.get_fields():
        name = field.name
        yield name
        if depth and field.is_relation and isinstance(field.related_model, type):
            for path in paths(field.related_model, depth - 1):
                yield f"{name}__{path}"


@pytest.fixture
def request_of_superuser(administrator: User) -> Any:
    request = RequestFactory().get("/admin/")
    request.user = administrator
    return request


@of_each_list
def test_a_list_filters_by_what_it_offers_alone(model: type[Model], request_of_superuser: Any) -> None:
    page: Any = site.get_model_admin(model)
    offered = OFFERED.get(model._meta.label, set())
    allowed = {
        path
        for path in paths(model, depth=2)
        for transform in TRANSFORMS
        if page.lookup_allowed(path + transform, "a", request_of_superuser)
    }
    # Of a related record, its primary key alone.
    assert allowed <= offered | {f"{name}__{key}" for name in offered for key in ("pk", "id")}
    assert {*map(parameter, page.get_list_filter(request_of_superuser))} == offered


def parameter(item: Any) -> str:
    return str(getattr(item, "parameter_name", item))


@of_each_list
def test_a_lookup_that_is_not_offered_is_a_400(model: type[Model], support: Client) -> None:
    """The same whether it would find a row or not."""
    offered = OFFERED.get(model._meta.label, set())
    for field in model._meta.fields:
        if field.name not in offered:
            answers = {
                support.get(list_of(model), {f"{field.name}{of}": "a"}).status_code for of in ("__gt", "")
            }
            assert answers == {400}, field.name
    assert support.get(list_of(model), {"pk__gt": "0", "q": "a"}).status_code == 400


@of_each_list
def test_no_value_of_a_filter_is_an_error(model: type[Model], support: Client) -> None:
    for name in OFFERED.get(model._meta.label, {"q"}):
        for lookup in ("", "__exact", "__range", "__iexact"):
            assert support.get(list_of(model), {f"{name}{lookup}": "\0"}).status_code == 400, lookup
            answer = support.get(list_of(model), {f"{name}{lookup}": "a"}, follow=True)
            assert answer.status_code in {200, 400}, lookup


@of_each_list
def test_a_choice_that_no_filter_offers_is_a_400(model: type[Model], support: Client) -> None:
    """A list of everything, or an export of it, would look like what was asked for."""
    page: Any = site.get_model_admin(model)
    names = [each.parameter_name for each in page.list_filter if hasattr(each, "parameter_name")]
    for query in [*({name: "nonsense"} for name in names), {"e": "1", names[0]: "x"} if names else {}]:
        if query:
            assert support.get(list_of(model), query).status_code == 400, query
            if hasattr(page, "export"):
                assert support.get(f"{list_of(model)}export.csv", query).status_code == 400, query


def test_any_condition_of_an_address_narrows_a_list(support: Client) -> None:
    """As in ``?channel=email``: the filter's own links say ``channel__exact``."""
    for name in ("channel", "channel__exact"):
        shown = support.get(list_of(Alert), {name: "pigeon"}).text
        assert "No alert so far" not in shown
        assert "Nothing matches the search and the filters." in shown


def test_a_null_character_in_an_address_is_a_400(support: Client) -> None:
    assert support.get("/admin/knox/authtoken/%00/change/").status_code == 400
    assert complete(support, "knox", "authtoken", "user", "\0").status_code == 400


@pytest.mark.parametrize("key", ["x", "", "1,2", "\0"])
def test_an_action_on_what_is_no_id_is_a_400(key: str, support: Client) -> None:
    form = {"action": "delete_selected", "_selected_action": key}
    assert support.post("/admin/auth/group/", form).status_code == 400


@of_each_list
def test_a_list_is_not_ordered_by_a_secret(model: type[Model], request_of_superuser: Any) -> None:
    changelist = site.get_model_admin(model).get_changelist_instance(request_of_superuser)
    for column in changelist.list_display:
        order: Any = changelist.get_ordering_field(column)
        name = str(order.expression.name if hasattr(order, "expression") else order).lstrip("-")
        assert is_no_secret(model, name), column


@of_each_list
def test_a_search_does_not_look_into_a_secret(model: type[Model], request_of_superuser: Any) -> None:
    for path in site.get_model_admin(model).get_search_fields(request_of_superuser):
        assert is_no_secret(model, path), path


def is_no_secret(model: type[Model], path: str) -> bool:
    return SECRET.isdisjoint(path.split("__")) or (model._meta.label, path) in NO_SECRET


def test_no_prefix_of_an_authenticators_secret_is_confirmed(
    support: Client, make_user: Callable[..., User]
) -> None:
    device = TOTPDevice.objects.create(user=make_user(), name="authenticator")
    right, wrong = device.key[0], "0" if device.key[0] != "0" else "1"
    for path in (list_of(TOTPDevice), list_of(User), list_of(AuthToken)):
        name = "key" if path == list_of(TOTPDevice) else "user__totpdevice__key"
        answers = [support.get(path, {f"{name}__startswith": guess}) for guess in (right, wrong)]
        assert [answer.status_code for answer in answers] == [400, 400]
        assert answers[0].content == answers[1].content


# --- Completion -------------------------------------------------------------------------------------------------


def complete(client: Client, app: str, model: str, field: str, term: str = "") -> Any:
    query = {"app_label": app, "model_name": model, "field_name": field, "term": term}
    return client.get("/admin/autocomplete/", query)


def test_a_form_completes_what_it_offers(support: Client, make_user: Callable[..., User]) -> None:
    user = make_user()
    found = complete(support, "knox", "authtoken", "user", user.username).json()["results"]
    assert found == [{"id": str(user.pk), "text": user.username}]


def test_a_completion_names_no_digest_of_a_token(support: Client, make_user: Callable[..., User]) -> None:
    """By the way back from a user to their tokens."""
    user = make_user()
    token_of(user)
    answer = complete(support, "auth", "user", "auth_token_set", user.username)
    assert answer.status_code == 403
    assert user.auth_token_set.get().digest[:8] not in answer.text  # type: ignore[attr-defined]


def test_no_other_relation_is_completed(support: Client) -> None:
    for model in [*LISTS, StaticDevice, Permission]:
        for field in model._meta.get_fields():
            asked = (model._meta.app_label, str(model._meta.model_name), field.name)
            if field.is_relation and asked != ("knox", "authtoken", "user"):
                assert complete(support, *asked).status_code == 403, asked
