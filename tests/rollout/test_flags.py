"""``flag_is_active(request, "NAME")``: the browser's own decision, in Python."""

import asyncio
import logging
import unittest
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection
from django.http import HttpRequest, HttpResponse
from django.template import Context, Template, TemplateSyntaxError
from django.test import AsyncRequestFactory, RequestFactory, TestCase, override_settings
from django.test.utils import CaptureQueriesContext
from rest_framework.request import Request

import rollout as app
from fundapi.web.cache import FailOpenCache
from rollout import aflag_is_active, configuration, flag_is_active, flags, operations, people
from rollout.bucketing import is_exposed
from rollout.evaluation import Reason, override_name
from rollout.middleware import RolloutMiddleware
from rollout.models import Rollout
from tests.rollout.conftest import MakeRollout
from tests.threads import in_a_thread

HALF = {"percentage": Decimal(50)}


def asked(query: str = "", *, key: str = "", user: Any = None, **cookies: str) -> HttpRequest:
    request = RequestFactory().get(f"/{query}")
    request.COOKIES.update({flags.COOKIE: key} if key else {}, **cookies)
    request.user = user or AnonymousUser()
    return request


def why(feature: str, request: HttpRequest | None = None) -> tuple[bool, Reason]:
    found = flags.evaluation(request, feature)
    return found.on, found.reason


def keys_of(rollout: Rollout) -> tuple[str, str]:
    """Return a key that gets the rollout, and one that does not."""
    config, keys = rollout.config, [str(uuid.uuid4()) for _ in range(200)]
    found = [
        is_exposed(key, config.feature, config.percentage, hash_version=config.hash_version) for key in keys
    ]
    return keys[found.index(True)], keys[found.index(False)]


# --- The key ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hash_version", [1, 2])
def test_the_browsers_cookie_decides_the_bucket(make_rollout: MakeRollout, hash_version: int) -> None:
    rollout = make_rollout(**HALF, hash_version=hash_version)
    inside, outside = keys_of(rollout)
    assert flag_is_active(asked(key=inside), rollout.feature) is True
    assert flag_is_active(asked(key=outside), rollout.feature) is False


def test_the_cookie_comes_before_the_signed_in_users_id(make_rollout: MakeRollout, user: User) -> None:
    rollout = make_rollout(**HALF)
    inside, outside = keys_of(rollout)
    assert flag_is_active(asked(key=inside, user=user), rollout.feature) is True
    assert flag_is_active(asked(key=outside, user=user), rollout.feature) is False
    by_id = is_exposed(str(user.pk), rollout.feature, Decimal(50), hash_version=2)
    assert flag_is_active(asked(user=user), rollout.feature) is by_id


@pytest.mark.parametrize("cookie", ["x" * 129, "a b", "é", 'a"b', "a\n", "a;b"])
def test_a_cookie_that_no_browser_module_writes_is_none(make_rollout: MakeRollout, cookie: str) -> None:
    assert why(make_rollout(**HALF).feature, asked(key=cookie)) == (False, Reason.UNKNOWN)


def test_who_has_no_key_gets_a_feature_that_everybody_gets(make_rollout: MakeRollout) -> None:
    assert why(make_rollout(percentage=Decimal(100)).feature, asked()) == (True, Reason.PERCENTAGE)
    assert why(make_rollout(percentage=Decimal(99)).feature, asked()) == (False, Reason.UNKNOWN)
    assert why(make_rollout(percentage=Decimal(100)).feature, None) == (True, Reason.PERCENTAGE)
    assert flag_is_active(HttpRequest(), make_rollout(percentage=Decimal(100)).feature)


# --- Switches -----------------------------------------------------------------------------------------------------


def test_the_switches_of_url_and_cookies_hold(make_rollout: MakeRollout) -> None:
    feature = make_rollout(percentage=Decimal(100)).feature
    name = override_name(feature)
    for request in (asked("?emergency_rollback=yes"), asked(emergency_rollback="true")):
        assert why(feature, request) == (False, Reason.EMERGENCY_STOP)
    for request in (asked(f"?{name}=0"), asked(f"?{name}=1&{name}=off"), asked(**{name: "0"})):
        assert why(feature, request) == (False, Reason.OPT_OUT)
    nobody = make_rollout().feature
    assert why(nobody, asked(f"?{override_name(nobody)}=1")) == (True, Reason.OPT_IN)


def test_a_stop_counts_before_everything(make_rollout: MakeRollout, user: User) -> None:
    rollout = make_rollout(percentage=Decimal(100), emergency_stop=True, always=f"user:{user.pk}")
    assert why(rollout.feature, asked(user=user)) == (False, Reason.EMERGENCY_STOP)


# --- People -------------------------------------------------------------------------------------------------------


def test_people_always_or_never_get_it(make_rollout: MakeRollout, make_user: Callable[..., User]) -> None:
    alice, bob, carol = make_user(), make_user(), make_user()
    group = Group.objects.create(name=uuid.uuid4().hex)
    carol.groups.add(group)
    always = make_rollout(always=people.read(f"user:{alice.username}, group:{group.name}")).feature
    never = make_rollout(never=f"user:{alice.pk} group:{group.pk}", percentage=Decimal(100)).feature
    found = {
        user: (why(always, asked(user=user)), why(never, asked(user=user))) for user in (alice, bob, carol)
    }
    assert found[alice] == found[carol] == ((True, Reason.ALWAYS), (False, Reason.NEVER))
    assert found[bob] == ((False, Reason.PERCENTAGE), (True, Reason.PERCENTAGE))
    assert why(always, asked()) == (False, Reason.UNKNOWN)


def test_of_always_and_never_the_safer_one_counts(make_rollout: MakeRollout, user: User) -> None:
    rollout = make_rollout(always=f"user:{user.pk}", never="authenticated")
    assert why(rollout.feature, asked(user=user)) == (False, Reason.NEVER)
    opted_in = asked(f"?{override_name(rollout.feature)}=1", user=user)
    assert why(rollout.feature, opted_in) == (False, Reason.NEVER)


def test_who_signs_in_within_a_request_is_the_person_from_then_on(
    make_rollout: MakeRollout, make_user: Callable[..., User]
) -> None:
    alice, bob = make_user(), make_user()
    feature = make_rollout(always=f"user:{alice.pk}", never=f"user:{bob.pk}").feature
    request = asked(user=alice)
    assert flags.assigned_to(request)[feature] is True
    request.user = bob
    assert flags.assigned_to(request)[feature] is False


@pytest.mark.parametrize(
    ("always", "attributes", "on"),
    [
        ("staff", {"is_staff": True}, True),
        ("staff", {"is_superuser": True}, False),
        ("superusers", {"is_superuser": True}, True),
        ("authenticated", {}, True),
    ],
)
def test_kinds_of_people(
    make_rollout: MakeRollout, make_user: Callable[..., User], always: str, attributes: Any, on: bool
) -> None:
    rollout = make_rollout(always=always)
    assert flag_is_active(asked(user=make_user(**attributes)), rollout.feature) is on


def test_people_stay_the_same_when_they_are_renamed(make_rollout: MakeRollout, user: User) -> None:
    kept = people.read(f"user:{user.username}")
    User.objects.filter(pk=user.pk).update(username=f"renamed-{uuid.uuid4().hex}")
    user.refresh_from_db()
    assert people.written(kept) == f"user:{user.username}"
    assert flag_is_active(asked(user=user), make_rollout(always=kept).feature)


def test_names_are_read_as_they_are_written(user: User) -> None:
    odd = Group.objects.create(name=f"A, B {uuid.uuid4().hex}")
    text = f"group:#{odd.pk}, staff, user:{user.username}"
    assert people.read(f" staff ,\n user:{user.username},staff,, group:#{odd.pk}\n") == (
        f"group:{odd.pk} staff user:{user.pk}"
    )
    assert people.written(people.read(text)) == text
    assert people.written("user:0") == "user:#0"
    for wrong in (
        "alice",
        "user:",
        "user:nobody-of-this-name",
        "group:#x",
        "Staff",
        "user:#999999999999999999999",
    ):
        with pytest.raises(people.NotPeople, match=r"Write user:NAME"):
            people.read(wrong)


def test_the_public_answer_names_no_people(make_rollout: MakeRollout, user: User) -> None:
    make_rollout(always=f"user:{user.pk}", never="staff")
    assert b"always" not in configuration.current().body
    assert b"user:" not in configuration.current().body


# --- One request --------------------------------------------------------------------------------------------------


def test_a_flag_does_not_change_within_a_request(make_rollout: MakeRollout) -> None:
    feature = make_rollout(percentage=Decimal(100)).feature
    request = asked()
    assert flag_is_active(request, feature)
    operations.stop(feature, reason="Test")
    assert flag_is_active(request, feature)
    assert flag_is_active(Request(request), feature)
    assert not flag_is_active(asked(), feature)


def test_a_request_asks_the_cache_once_and_the_database_not_at_all(
    make_rollout: MakeRollout, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = [make_rollout(**HALF).feature for _ in range(3)]
    flag_is_active(asked(user=user), features[0])
    gets: list[str] = []

    def get(self: Any, key: str) -> Any:
        gets.append(key)
        return original(self, key)

    original = FailOpenCache.get
    monkeypatch.setattr(FailOpenCache, "get", get)
    request = asked(key="k")
    with CaptureQueriesContext(
        connection,
    ) as queries:
        for feature in features * 3:
            flag_is_active(request, feature)
    assert len(queries) == 0
    assert len(gets) == 1


def test_while_the_database_is_away_the_last_answer_counts(
    make_rollout: MakeRollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    feature = make_rollout(percentage=Decimal(100)).feature
    assert flag_is_active(asked(), feature)

    def away(*_: Any) -> Any:
        raise OperationalError

    monkeypatch.setattr(configuration, "_ask", away)
    assert flag_is_active(asked(), feature)
    configuration._copies.clear()
    assert why(feature, asked()) == (False, Reason.UNKNOWN)
    assert why(feature, asked("?emergency_rollback=1")) == (False, Reason.EMERGENCY_STOP)
    configuration.forget()


def test_an_unknown_flag_is_off_and_logged_once(database: None, caplog: pytest.LogCaptureFixture) -> None:
    feature = f"NO_SUCH_{uuid.uuid4().hex.upper()}"
    with caplog.at_level(logging.WARNING, "rollout.flags"):
        assert why(feature, asked()) == why(feature, asked()) == (False, Reason.UNKNOWN)
    assert [(record.message, record.__dict__["feature"]) for record in caplog.records] == [
        (f"rollout_unknown: {feature}", feature)
    ]
    with (
        override_settings(ROLLOUT_RAISE_UNKNOWN=True),
        pytest.raises(app.UnknownFlag, match=f"manage.py rollout create {feature}"),
    ):
        flag_is_active(asked(), feature)


def test_async_code_asks_too(make_rollout: MakeRollout) -> None:
    rollout = make_rollout(**HALF)
    request = AsyncRequestFactory().get("/")
    request.COOKIES[flags.COOKIE] = keys_of(rollout)[0]
    assert in_a_thread(lambda: asyncio.run(aflag_is_active(request, rollout.feature))) is True


# --- The middleware -----------------------------------------------------------------------------------------------


def answer(request: HttpRequest, feature: str, seen: list[bool]) -> HttpResponse:
    def view(request: HttpRequest) -> HttpResponse:
        seen.append(flag_is_active(request, feature))
        return HttpResponse()

    response: HttpResponse = RolloutMiddleware(view)(request)
    return response


def test_the_middleware_gives_a_browser_the_key_that_its_first_page_was_made_with(
    make_rollout: MakeRollout,
) -> None:
    feature, seen = make_rollout(**HALF).feature, list[bool]()
    for _ in range(30):
        response = answer(asked(), feature, seen)
        morsel = response.cookies[flags.COOKIE]
        assert (morsel["samesite"], morsel["path"], morsel["max-age"]) == ("Lax", "/", 31_536_000)
        assert not morsel["httponly"]
        assert not morsel["secure"]
        assert response.headers["Vary"] == "Cookie"
        assert "private" in response.headers["Cache-Control"]
        assert flags.COOKIE not in answer(asked(key=morsel.value), feature, seen).cookies
    assert seen[::2] == seen[1::2]
    assert set(seen) == {True, False}


def test_the_middleware_leaves_other_answers_alone(make_rollout: MakeRollout, user: User) -> None:
    response = RolloutMiddleware(lambda _: HttpResponse())(asked())
    assert (dict(response.cookies), response.has_header("Vary")) == ({}, False)
    signed_in = answer(asked(user=user), make_rollout(**HALF).feature, [])
    assert (dict(signed_in.cookies), signed_in.headers["Vary"]) == ({}, "Cookie")


def test_over_https_the_cookie_is_secure(make_rollout: MakeRollout) -> None:
    request = RequestFactory().get("/", secure=True)
    response = answer(request, make_rollout(**HALF).feature, [])
    assert response.cookies[flags.COOKIE]["secure"]


def test_the_middleware_runs_async_too(make_rollout: MakeRollout) -> None:
    feature = make_rollout(**HALF).feature

    async def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(str(await aflag_is_active(request, feature)))

    request = AsyncRequestFactory().get("/")
    response = in_a_thread(lambda: asyncio.run(RolloutMiddleware(view)(request)))
    assert flags.COOKIE in response.cookies


@pytest.mark.parametrize("is_first", [True, False])
def test_a_cache_that_would_share_the_key_is_refused(is_first: bool) -> None:
    both = ["rollout.middleware.RolloutMiddleware", "django.middleware.cache.UpdateCacheMiddleware"]
    with override_settings(MIDDLEWARE=both if is_first else both[::-1]):
        found = [message for message in run_checks() if message.id == "rollout.E016"]
    assert len(found) == is_first


# --- Templates ----------------------------------------------------------------------------------------------------


def rendered(text: str, request: HttpRequest | None, **context: Any) -> str:
    return Template("{% load rollout %}" + text).render(Context({"request": request, **context}))


def test_templates_ask(make_rollout: MakeRollout) -> None:
    rollout = make_rollout(**HALF)
    inside, outside = keys_of(rollout)
    for text in (
        f'{{% flag "{rollout.feature}" %}}new{{% else %}}old{{% endflag %}}',
        "{% flag name %}new{% else %}old{% endflag %}",
        f'{{% flag_is_active "{rollout.feature}" as on %}}{{% if on %}}new{{% else %}}old{{% endif %}}',
    ):
        assert rendered(text, asked(key=inside), name=rollout.feature) == "new"
        assert rendered(text, asked(key=outside), name=rollout.feature) == "old"
    alone = f'{{% flag "{rollout.feature}" %}}new{{% endflag %}}.'
    assert [rendered(alone, asked(key=key)) for key in (inside, outside)] == ["new.", "."]
    nested = f'{{% flag "{rollout.feature}" %}}{{% if 1 %}}a{{% else %}}b{{% endif %}}{{% endflag %}}'
    assert rendered(nested, asked(key=inside)) == "a"


def test_a_template_without_what_it_needs_says_so(database: None) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"context_processors\.request"):
        rendered('{% flag "A" %}{% endflag %}', None)
    with pytest.raises(TemplateSyntaxError, match=r'Write {% flag "NAME" %}'):
        rendered("{% flag %}{% endflag %}", asked())


def test_a_page_tells_the_browser_about_its_person(make_rollout: MakeRollout, user: User) -> None:
    always, never = make_rollout(always=f"user:{user.pk}"), make_rollout(never="authenticated")
    text = rendered("{% rollout_assigned %}", asked(user=user))
    assert text.startswith('<script id="rollouts-assigned" type="application/json">{')
    assert f'"{always.feature}": true' in text
    assert f'"{never.feature}": false' in text
    assert rendered("{% rollout_assigned %}", asked()).endswith("{}</script>")


# --- Tests of a project -------------------------------------------------------------------------------------------


def test_overrides_nest_and_end(make_rollout: MakeRollout, user: User) -> None:
    feature = make_rollout(never="authenticated").feature
    request = asked(user=user)
    with app.override_rollout(feature, active=True):
        assert flag_is_active(request, feature)
        with app.override_rollout(feature, active=False):
            assert not flag_is_active(request, feature)
        assert flag_is_active(request, feature)
        assert configuration.current().by_feature[feature].percentage == 100
    assert why(feature, request) == (False, Reason.NEVER)


def test_an_override_makes_what_is_not_there_at_any_percentage(database: None) -> None:
    with app.override_rollout("NOT_THERE", percentage=50, hash_version=1):
        found = {flag_is_active(asked(key=str(uuid.uuid4())), "NOT_THERE") for _ in range(60)}
        assert configuration.current().by_feature["NOT_THERE"].hash_version == 1
    assert found == {True, False}
    with pytest.raises(TypeError, match="either active or percentage"):
        app.override_rollout("NOT_THERE")
    with pytest.raises(ValueError, match="between 0 and 100"):
        app.override_rollout("NOT_THERE", percentage=101)


@pytest.mark.parametrize(
    ("feature", "fields"),
    [
        ("NOT_THERE", {"active": "no"}),
        ("NOT_THERE", {"active": 0}),
        ("NOT_THERE", {"percentage": "50"}),
        ("NOT_THERE", {"percentage": True}),
        ("NOT_THERE", {"active": True, "hash_version": 3}),
        ("NOT_THERE", {"active": True, "hash_version": True}),
        ("NOT_THERE", {"active": True, "hash_version": "1"}),
        ("not-there", {"active": True}),
        (None, {"active": True}),
    ],
    ids=str,
)
def test_an_override_refuses_wrong_values_in_one_sentence(feature: Any, fields: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=r"(, and should be |: write )[^\n]*\.$"):
        app.override_rollout(feature, **fields)


def test_a_kill_switch_holds_in_an_override(database: None) -> None:
    with app.override_rollout("NOT_THERE", active=True):
        assert why("NOT_THERE", asked("?ff_notThere=0")) == (False, Reason.OPT_OUT)


@app.override_rollout("BY_DECORATOR", active=True)
def test_functions_are_decorated(database: None) -> None:
    assert flag_is_active(asked(), "BY_DECORATOR")


def test_async_functions_are_decorated(database: None) -> None:
    @app.override_rollout("BY_DECORATOR", active=True)
    async def ask() -> bool:
        return await aflag_is_active(AsyncRequestFactory().get("/"), "BY_DECORATOR")

    assert in_a_thread(lambda: asyncio.run(ask())) is True
    assert not flag_is_active(asked(), "BY_DECORATOR")


def test_test_cases_are_decorated(database: None) -> None:
    seen: list[bool] = []

    @app.override_rollout("BY_DECORATOR", active=True)
    class Decorated(TestCase):
        def test_it(self) -> None:
            seen.append(flag_is_active(asked(), "BY_DECORATOR"))

        async def test_async(self) -> None:
            seen.append(await aflag_is_active(AsyncRequestFactory().get("/"), "BY_DECORATOR"))

    result = unittest.TestResult()
    in_a_thread(lambda: unittest.defaultTestLoader.loadTestsFromTestCase(Decorated).run(result))
    assert result.wasSuccessful(), result.errors + result.failures
    assert seen == [True, True]
    assert not flag_is_active(asked(), "BY_DECORATOR")
