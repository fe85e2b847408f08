"""A Django project of its own that marks views in every place where a mark may stand.

``python places.py URL HOST MODE [MODULE]`` migrates the database, sends each view one request twice and then another
one with the same key, and prints what happened as JSON. The module has further ``ADDRESSES`` and ``urlpatterns``.
"""

import gzip
import json
import sys
import uuid
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import django
from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse


class Domain(Exception):
    """An error that a middleware of the project answers."""


class ProjectMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, _request: HttpRequest, error: Exception) -> HttpResponse | None:
        return HttpResponse("domain", status=422) if isinstance(error, Domain) else None

    def process_template_response(self, _request: HttpRequest, response: Any) -> Any:
        if response.context_data is not None:
            response.context_data["by"] = "the middleware"
        return response


URL, HOST, MODE = urlsplit(sys.argv[1]), sys.argv[2], sys.argv[3]
settings.configure(
    SECRET_KEY="places " * 10,
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "rest_framework",
        "idempotency",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        f"{__name__}.ProjectMiddleware",
        "idempotency.middleware.IdempotencyMiddleware",
    ],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": URL.path[1:],
            "USER": URL.username or "",
            "PASSWORD": URL.password or "",
            "HOST": HOST,
            "PORT": URL.port or "",
            "ATOMIC_REQUESTS": MODE == "atomic requests",
        }
    },
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {
                "loaders": [
                    ("django.template.loaders.locmem.Loader", {"made.html": "{{ made }} by {{ by }}"})
                ]
            },
        }
    ],
    IDEMPOTENCY_ENVIRONMENT="places",
    IDEMPOTENCY_ADMIT="idempotency.contrib.drf.admit",
    USE_TZ=True,
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [f"{__name__}.HeaderAuthentication"],
        "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
        "DEFAULT_THROTTLE_CLASSES": [f"{__name__}.CountingThrottle"],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    },
)
django.setup()

from rest_framework.authentication import BaseAuthentication  # noqa: E402 - needs the settings
from rest_framework.throttling import BaseThrottle  # noqa: E402

throttled: list[str] = []


class HeaderAuthentication(BaseAuthentication):
    def authenticate(self, request: Any) -> Any:
        return (User.objects.get(username="me"), None) if "Authorization" in request.headers else None

    def authenticate_header(self, _request: Any) -> str:
        return "Header"


class CountingThrottle(BaseThrottle):
    def allow_request(self, request: Any, _view: Any) -> bool:
        throttled.append(request.path)
        return True


from django.contrib.auth.models import Group, User  # noqa: E402 - needs the settings
from django.db import connection  # noqa: E402
from django.template.response import TemplateResponse  # noqa: E402
from django.test import AsyncClient, Client  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils.decorators import method_decorator  # noqa: E402
from django.views import View  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402
from django.views.decorators.gzip import gzip_page  # noqa: E402
from django.views.generic import CreateView  # noqa: E402
from rest_framework import routers, serializers, viewsets  # noqa: E402
from rest_framework.decorators import action, api_view  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402

from idempotency import idempotent  # noqa: E402


def make() -> int:
    group: Group = Group.objects.create(name=uuid.uuid4().hex)
    return group.pk


async def make_async() -> int:
    group: Group = await Group.objects.acreate(name=uuid.uuid4().hex)
    return group.pk


def plain(_request: HttpRequest, **_: Any) -> HttpResponse:
    return HttpResponse(f"{make()}", status=201)


class Plain(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return plain(request)


class PlainAPI(APIView):
    def post(self, _request: Any) -> Response:
        return Response({"made": make()}, status=201)


class MarkedMethod(View):
    @idempotent(operation="method")
    def post(self, request: HttpRequest) -> HttpResponse:
        return plain(request)


@idempotent(operation="class")
class MarkedClass(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return plain(request)


class Subclass(MarkedClass):
    def post(self, request: HttpRequest) -> HttpResponse:
        return plain(request)


class OwnDispatch(MarkedClass):
    def dispatch(self, request: Any, *_args: Any, **_kwargs: Any) -> HttpResponse:
        return self.post(request)


class Mixed(View):
    @idempotent(operation="mixed")
    def post(self, request: HttpRequest) -> HttpResponse:
        return plain(request)

    def put(self, _request: HttpRequest) -> HttpResponse:
        make()
        raise Domain


@idempotent(operation="without-a-key", required=False)
def without_a_key(_request: HttpRequest) -> HttpResponse:
    make()
    raise Domain


class CallsSuper(MarkedMethod):
    def post(self, request: HttpRequest) -> HttpResponse:
        return super().post(request)


@idempotent(operation="api-class")
class MarkedAPI(PlainAPI):
    pass


class MarkedAPIMethod(APIView):
    @idempotent(operation="api-method")
    def post(self, _request: Any) -> Response:
        return Response({"made": make()}, status=201)


@api_view(["POST"])
@idempotent(operation="below-api-view")
def below_api_view(_request: Any) -> Response:
    return Response({"made": make()}, status=201)


@idempotent(operation="above-api-view")
@api_view(["POST"])
def above_api_view(_request: Any) -> Response:
    return Response({"made": make()}, status=201)


@idempotent(operation="async")
async def asynchronous(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{await make_async()}", status=201)


class AsyncMethod(View):
    @idempotent(operation="async-method")
    async def post(self, _request: HttpRequest) -> HttpResponse:
        return HttpResponse(f"{await make_async()}", status=201)


class PlainAsync(View):
    async def post(self, _request: HttpRequest) -> HttpResponse:
        return HttpResponse(f"{await make_async()}", status=201)


@method_decorator(idempotent(operation="async-dispatch"), name="dispatch")
class DecoratedAsyncDispatch(PlainAsync):
    pass


@idempotent(operation="async-class")
class AsyncClass(View):
    async def post(self, _request: HttpRequest) -> HttpResponse:
        return HttpResponse(f"{await make_async()}", status=201)


HANDLERS = {"POST": idempotent(operation="dispatched")(plain)}


def dispatcher(request: HttpRequest) -> HttpResponse:
    return HANDLERS[str(request.method)](request)


@method_decorator(idempotent(operation="dispatch"), name="dispatch")
class DecoratedDispatch(Plain):
    pass


@method_decorator(idempotent(operation="decorated-post"), name="post")
class DecoratedPost(Plain):
    pass


@method_decorator(idempotent(operation="create-view"), name="dispatch")
class DecoratedCreateView(CreateView):
    model = Group
    fields = ()

    def form_valid(self, form: Any) -> HttpResponse:
        form.instance.name = uuid.uuid4().hex
        super().form_valid(form)
        return HttpResponse(f"{form.instance.pk}", status=201)

    def get_success_url(self) -> str:
        return "/"


@idempotent(operation="template")
def template(request: HttpRequest) -> TemplateResponse:
    return TemplateResponse(request, "made.html", {"made": make()}, status=201)


@idempotent(operation="compressed")
@gzip_page
def compressed(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{make()}" * 1000, status=201)


@idempotent(operation="locks-rows")
def locks_rows(request: HttpRequest) -> HttpResponse:
    list(Group.objects.select_for_update().iterator())
    return plain(request)


@idempotent(operation="raises")
def raises(_request: HttpRequest) -> HttpResponse:
    make()
    raise Domain


class RaisesAPI(APIView):
    @idempotent(operation="api-raises")
    def post(self, _request: Any) -> Response:
        make()
        raise serializers.ValidationError("no")


class Groups(viewsets.ViewSet):
    @idempotent(operation="create")
    def create(self, _request: Any) -> Response:
        return Response({"made": make()}, status=201)

    @idempotent(operation="above-action")
    @action(detail=False, methods=["post"])
    def above(self, _request: Any) -> Response:
        return Response({"made": make()}, status=201)

    @action(detail=False, methods=["post"])
    @idempotent(operation="below-action")
    def below(self, _request: Any) -> Response:
        return Response({"made": make()}, status=201)


@idempotent(operation="view-set")
class MarkedGroups(viewsets.ViewSet):
    def create(self, _request: Any) -> Response:
        return Response({"made": make()}, status=201)


VIEWS: dict[str, Any] = {
    "function": idempotent(operation="function")(plain),
    "method": MarkedMethod.as_view(),
    "class": MarkedClass.as_view(),
    "subclass of a marked class": Subclass.as_view(),
    "subclass with its own dispatch": OwnDispatch.as_view(),
    "a method that calls super": CallsSuper.as_view(),
    "as_view()": idempotent(operation="as-view")(Plain.as_view()),
    "async function": asynchronous,
    "async method": AsyncMethod.as_view(),
    "async class": AsyncClass.as_view(),
    "as_view() of async": idempotent(operation="async-as-view")(PlainAsync.as_view()),
    "method_decorator of async dispatch": DecoratedAsyncDispatch.as_view(),
    "partial": partial(idempotent(operation="partial")(plain), extra=1),
    "dispatcher": dispatcher,
    "method_decorator of dispatch": DecoratedDispatch.as_view(),
    "method_decorator of post": DecoratedPost.as_view(),
    "method_decorator of a CreateView": DecoratedCreateView.as_view(),
    "TemplateResponse": template,
    "below csrf_exempt": csrf_exempt(idempotent(operation="exempt")(plain)),
    "above gzip_page": compressed,
    "below gzip_page": gzip_page(idempotent(operation="below-gzip")(plain)),
    "select_for_update().iterator()": locks_rows,
    "APIView": MarkedAPI.as_view(),
    "APIView.post": MarkedAPIMethod.as_view(),
    "below api_view": below_api_view,
    "above api_view": above_api_view,
    "APIView.as_view()": idempotent(operation="api-as-view")(PlainAPI.as_view()),
}
router = routers.SimpleRouter()
router.register("groups", Groups, basename="groups")
router.register("marked", MarkedGroups, basename="marked")
ADDRESSES = {name: f"/{number}" for number, name in enumerate(VIEWS)} | {
    "ViewSet.create": "/groups/",
    "above action": "/groups/above/",
    "below action": "/groups/below/",
    "ViewSet": "/marked/",
}
urlpatterns = [
    *(path(ADDRESSES[name][1:], view) for name, view in VIEWS.items()),
    *router.urls,
    path("raises", raises),
    path("api-raises", RaisesAPI.as_view()),
    path("mixed", Mixed.as_view()),
    path("without-a-key", without_a_key),
]
for further in map(import_module, sys.argv[4:]):
    ADDRESSES |= further.ADDRESSES
    urlpatterns += further.urlpatterns


def body(response: Any) -> str:
    content = response.content
    if response.headers.get("Content-Encoding") == "gzip":
        content = gzip.decompress(content)
    text: str = content.decode()
    return text


def tried(post: Callable[..., Any], address: str) -> dict[str, Any]:
    """Send one request twice, and another one with the same key."""
    rows, counted = Group.objects.count(), len(throttled)
    headers = {"Idempotency-Key": uuid.uuid4().hex, "Authorization": "Bearer me", "Accept-Encoding": "gzip"}
    answers = [
        post(address, content, content_type="text/plain", headers=headers) for content in ("a", "a", "b")
    ]
    return {
        "statuses": [answer.status_code for answer in answers],
        "rows": Group.objects.count() - rows,
        "same": body(answers[0]) == body(answers[1]),
        "body": body(answers[0])[:100],
        "throttled": len(throttled) - counted,
        "left open": connection.in_atomic_block,
    }


def main() -> None:
    call_command("migrate", verbosity=0)
    call_command("check")
    user, _ = User.objects.get_or_create(username="me")
    client = Client(raise_request_exception=False)
    async_client = AsyncClient(raise_request_exception=False)
    client.force_login(user)
    async_client.force_login(user)
    post: Any = async_to_sync(async_client.post) if MODE == "asgi" else client.post
    result = {name: tried(post, address) for name, address in ADDRESSES.items()}
    result |= {address: tried(post, address) for address in ("/raises", "/api-raises")}
    rows = Group.objects.count()
    unguarded = [client.put("/mixed"), client.post("/without-a-key")]
    result["unguarded"] = {
        "statuses": [answer.status_code for answer in unguarded],
        "rows": Group.objects.count() - rows,
        "left open": connection.in_atomic_block,
    }
    nobody = Client()
    headers = {"Idempotency-Key": "k"}
    result["nobody"] = {
        name: nobody.post(ADDRESSES[name], headers=headers).status_code for name in ("function", "APIView")
    }
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main()
