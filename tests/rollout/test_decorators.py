"""Views behind a flag: functions and classes, sync and async."""

import asyncio
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.http import Http404, HttpRequest, HttpResponse
from django.test import AsyncRequestFactory, RequestFactory
from django.utils.decorators import method_decorator
from django.views import View
from rest_framework.decorators import api_view
from rest_framework.response import Response
from rest_framework.views import APIView

from rollout import RequireFlagMixin, override_rollout, require_flag
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
