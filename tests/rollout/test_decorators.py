"""Views behind a flag: functions and classes, sync and async."""

import asyncio
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ImproperlyConfigured
from django.http import Http404, HttpRequest, HttpResponse
from django.test import AsyncRequestFactory, RequestFactory
from django.utils.decorators import method_decorator
from django.views import View
from rest_framework.decorators import api_view
from rest_framework.response import Response
from rest_framework.views import APIView

from rollout import RequireFlagMixin, flag_is_active, override_rollout, require_flag
from tests.threads import in_a_thread

NAME = "BEHIND_A_FLAG"


@require_flag(NAME)
def function(request: HttpRequest) -> HttpResponse:
    return HttpResponse("seen")


@require_flag(NAME)
async def async_function(request: HttpRequest) -> HttpResponse:
    return HttpResponse("seen")


class Method(View):
    @method_decorator(require_flag(NAME))
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("seen")


@method_decorator(require_flag(NAME), name="dispatch")
class Dispatch(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("seen")


class AsyncMethod(View):
    @method_decorator(require_flag(NAME))
    async def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("seen")


class Mixed(RequireFlagMixin, View):
    required_flag = NAME

    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("seen")


class AsyncMixed(RequireFlagMixin, View):
    required_flag = NAME

    async def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("seen")


class Api(RequireFlagMixin, APIView):
    authentication_classes = ()
    permission_classes = ()
    required_flag = NAME

    def get(self, request: HttpRequest) -> Response:
        return Response("seen")


@require_flag(NAME)
@api_view()
def api_function(request: HttpRequest) -> Response:
    return Response("seen")


api_function.cls.authentication_classes = ()  # type: ignore[attr-defined]  # DRF puts the class there
api_function.cls.permission_classes = ()  # type: ignore[attr-defined]

VIEWS = {
    "a function": function,
    "a method": Method.as_view(),
    "a dispatch": Dispatch.as_view(),
    "a mixin": Mixed.as_view(),
    "a mixin of DRF": Api.as_view(),
    "DRF's function": api_function,
    "an async function": async_function,
    "an async method": AsyncMethod.as_view(),
    "an async mixin": AsyncMixed.as_view(),
}


def get(view: Any) -> HttpResponse:
    is_async = asyncio.iscoroutinefunction(view) or getattr(view, "view_class", None) in (
        AsyncMethod,
        AsyncMixed,
    )
    request = (AsyncRequestFactory if is_async else RequestFactory)().get("/")
    request.user = AnonymousUser()

    async def answer() -> HttpResponse:
        response: HttpResponse = await view(request)
        return response

    response: HttpResponse = in_a_thread(lambda: asyncio.run(answer())) if is_async else view(request)
    return response


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_view_is_seen_with_the_feature_and_not_found_without_it(database: None, view: Any) -> None:
    with override_rollout(NAME, active=True):
        assert get(view).status_code == 200
    with override_rollout(NAME, active=False), pytest.raises(Http404):
        get(view)


def test_a_browser_without_it_is_redirected(database: None) -> None:
    @require_flag(NAME, redirect_to="signin")
    def to_a_view(request: HttpRequest) -> HttpResponse:
        return HttpResponse("seen")

    class ToAnAddress(Mixed):
        required_flag_redirect_to = "/elsewhere?a=1"

    with override_rollout(NAME, active=False):
        found = [get(view) for view in (to_a_view, ToAnAddress.as_view())]
    assert [(response.status_code, response.headers["Location"]) for response in found] == [
        (302, "/signin"),
        (302, "/elsewhere?a=1"),
    ]


def test_it_can_be_turned_round(database: None) -> None:
    @require_flag(NAME, active=False)
    def old(request: HttpRequest) -> HttpResponse:
        return HttpResponse("seen")

    with override_rollout(NAME, active=False):
        assert get(old).status_code == 200
    with override_rollout(NAME, active=True), pytest.raises(Http404):
        get(old)


def test_the_name_of_a_view_stays(database: None) -> None:
    assert (function.__name__, async_function.__name__) == ("function", "async_function")
    assert asyncio.iscoroutinefunction(async_function)


# --- Marks that would guard nothing -------------------------------------------------------------------------------


def unguarded(request: HttpRequest) -> HttpResponse:
    return HttpResponse("seen")


def test_a_mark_without_a_name_is_refused_where_it_stands() -> None:
    with pytest.raises(TypeError, match='Write @require_flag\\("NAME"\\)'):
        require_flag(unguarded)  # type: ignore[arg-type]


def test_a_mark_on_a_class_is_refused_where_it_stands() -> None:
    with pytest.raises(TypeError, match="give View RequireFlagMixin"):
        require_flag(NAME)(View)


def test_a_mark_on_a_bare_method_says_how() -> None:
    class Bare(View):
        @require_flag(NAME)
        def get(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse("seen")

    with pytest.raises(TypeError, match="method_decorator"):
        Bare.as_view()(RequestFactory().get("/"))


def test_a_mixin_behind_the_view_is_refused() -> None:
    with pytest.raises(TypeError, match="must name RequireFlagMixin first"):

        class Behind(View, RequireFlagMixin):
            required_flag = NAME


def test_a_mixin_needs_a_name_which_as_view_may_give() -> None:
    class Named(RequireFlagMixin, View):
        def get(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse("seen")

    request = RequestFactory().get("/")
    with pytest.raises(ImproperlyConfigured, match='Named needs required_flag = "NAME"'):
        Named.as_view()(request)
    with override_rollout(NAME, active=True):
        assert Named.as_view(required_flag=NAME)(request).status_code == 200


@pytest.mark.parametrize(("request_", "name"), [(NAME, RequestFactory().get("/")), ({}, NAME), (None, None)])
def test_a_question_with_wrong_arguments_says_how_to_ask(request_: Any, name: Any) -> None:
    with pytest.raises(TypeError, match='Write flag_is_active\\(request, "NAME"\\)'):
        flag_is_active(request_, name)
