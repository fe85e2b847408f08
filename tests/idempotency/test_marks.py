"""A mark guards what it stands on, wherever that is; one that would guard nothing is refused."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from django.contrib.auth.models import Group, User
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import RequestFactory, override_settings
from django.urls import path, resolve
from django.views import View

from idempotency import idempotent
from idempotency.admission import signed_in_user
from idempotency.checks import check_marks
from idempotency.marks import marks, unreached
from idempotency.middleware import IdempotencyMiddleware
from idempotency.models import IdempotencyKey
from tests.servers import PROJECT, database_url

PLACES = [
    "function",
    "method",
    "class",
    "subclass of a marked class",
    "subclass with its own dispatch",
    "a method that calls super",
    "as_view()",
    "async function",
    "async method",
    "async class",
    "as_view() of async",
    "method_decorator of async dispatch",
    "partial",
    "dispatcher",
    "method_decorator of dispatch",
    "method_decorator of post",
    "method_decorator of a CreateView",
    "TemplateResponse",
    "below csrf_exempt",
    "above gzip_page",
    "below gzip_page",
    "select_for_update().iterator()",
]
DRF_PLACES = [
    "APIView",
    "APIView.post",
    "below api_view",
    "above api_view",
    "APIView.as_view()",
    "ViewSet.create",
    "above action",
    "below action",
    "ViewSet",
]


@pytest.fixture(scope="module", params=["wsgi", "asgi", "atomic requests"])
def places(request: pytest.FixtureRequest, database: None) -> Any:
    """Run ``places.py``, and return the outcome of each of its places."""
    name = f"places_{uuid.uuid4().hex}"
    with psycopg.connect(database_url(), autocommit=True) as owner:
        owner.execute(f"CREATE DATABASE {name}")
        host = owner.info.host
    url = urlsplit(database_url())._replace(path=f"/{name}").geturl()
    tidy = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DJANGO"))}
    run = subprocess.run(
        [sys.executable, Path(__file__).with_name("places.py"), url, host, request.param],
        env=tidy | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1]) | {"atomic requests": request.param == "atomic requests"}


@pytest.mark.parametrize("place", PLACES + DRF_PLACES)
def test_two_requests_make_one_row(places: Any, place: str) -> None:
    """And the second gets the first one's answer; a third with other content is a conflict."""
    tried = places[place]
    assert (tried["statuses"], tried["rows"], tried["same"]) == ([201, 200, 409], 1, True), tried
    assert not tried["left open"]


@pytest.mark.parametrize("place", DRF_PLACES)
def test_a_views_own_throttles_count_each_request_once(places: Any, place: str) -> None:
    assert places[place]["throttled"] == 3


def test_other_middlewares_answer_errors_and_complete_templates(places: Any) -> None:
    assert places["/raises"]["statuses"] == [422, 422, 422]
    assert places["/api-raises"]["statuses"] == [400, 400, 400]
    assert places["/raises"]["rows"] == places["/api-raises"]["rows"] == 0
    assert places["TemplateResponse"]["body"].endswith("by the middleware")


def test_what_is_not_guarded_stays_as_atomic_as_the_project_asks(places: Any) -> None:
    """A PUT beside a marked POST, and a request without an optional key: both write, and fail."""
    rows = 0 if places["atomic requests"] else 2
    assert places["unguarded"] == {"statuses": [422, 422], "rows": rows, "left open": False}


def test_nobody_gets_a_stored_answer(places: Any) -> None:
    assert places["nobody"] == {"function": 401, "APIView": 401}


# --- Marks that guard nothing ---------------------------------------------------------------------------------


def answer(request: HttpRequest) -> HttpResponse:
    return HttpResponse("done", status=201)


@pytest.fixture(autouse=True)
def no_marks_left() -> Iterator[None]:
    """Forget the marks of a test: the system checks of other tests would refuse them."""
    before = set(marks)
    yield
    marks.intersection_update(before)


def marked_view(name: str = "post") -> Any:
    """Return a class of views whose handler is marked."""

    def handler(_self: View, request: HttpRequest) -> HttpResponse:
        return answer(request)

    return type("Marked", (View,), {name: idempotent(operation="refused")(handler)})


def refused(*views: Any) -> list[str]:
    """Return the operations that no URL reaches in a project of these views."""
    patterns = [path(f"{number}", view) for number, view in enumerate(views)]
    return [mark.operation for mark in unreached(patterns) if __name__ in mark.place]


def test_a_mark_that_no_url_reaches_is_refused() -> None:
    view = marked_view()
    assert refused(answer) == ["refused"]
    assert refused(answer, view.as_view()) == []


def test_the_check_names_the_operation_and_its_place() -> None:
    view = marked_view()
    messages = [error.msg for error in check_marks()]
    assert any("operation='refused'" in message and __name__ in message for message in messages), view


def test_a_proxy_that_is_bound_to_nothing_leads_nowhere() -> None:
    class Unbound:
        @property
        def __dict__(self) -> Any:  # type: ignore[override]  # as Flask's current_app has it
            raise RuntimeError("Working outside of application context.")

    proxy, view = Unbound(), marked_view()

    def asks_a_proxy(request: HttpRequest) -> HttpResponse:
        return answer(request) if proxy else HttpResponse()

    assert refused(asks_a_proxy) == ["refused"]
    assert refused(asks_a_proxy, view.as_view()) == []


def test_a_subclass_that_overrides_the_marked_method_is_refused() -> None:
    class Overridden(marked_view()):  # type: ignore[misc]  # made at run time
        def post(self, request: HttpRequest) -> HttpResponse:
            return answer(request)

    assert refused(Overridden.as_view()) == ["refused"]


def test_a_class_without_a_handler_of_the_marked_methods_is_refused() -> None:
    @idempotent(operation="refused")
    class OnlyPut(View):
        def put(self, request: HttpRequest) -> HttpResponse:
            return answer(request)

    assert refused(OnlyPut.as_view()) == ["refused"]


def test_what_no_check_can_see_raises_when_it_is_called() -> None:
    with pytest.raises(TypeError, match="no class of views"):
        idempotent(operation="refused")(dict)
    mistakes: list[Any] = [None, "answer", uuid, property(answer)]
    for mistake in mistakes:
        with pytest.raises(TypeError, match="no view"):
            idempotent(operation="refused")(mistake)
    marked: Any = idempotent(operation="refused")(answer)
    with pytest.raises(TypeError, match="without a request"):
        marked("no request")
    with pytest.raises(ImproperlyConfigured, match=r"without idempotency\.middleware"):
        marked(RequestFactory().post("/"))


def test_a_caller_whom_no_middleware_knows_is_an_error_of_the_settings() -> None:
    request = RequestFactory().post("/", headers={"Idempotency-Key": uuid.uuid4().hex})
    view: Any = idempotent(operation="refused", admit=signed_in_user)(answer)
    with pytest.raises(ImproperlyConfigured, match="AuthenticationMiddleware"):
        IdempotencyMiddleware(view)(request)


def test_a_dispatch_that_passes_the_marked_handler_by_is_refused(user: User) -> None:
    @idempotent(operation="refused")
    class ByName(View):
        def dispatch(self, request: Any, *_args: Any, **_kwargs: Any) -> Any:
            return answer(request)

        def post(self, request: HttpRequest) -> HttpResponse:
            return answer(request)

    request = RequestFactory().post("/", headers={"Idempotency-Key": uuid.uuid4().hex})
    request.user = user
    view: Any = ByName.as_view()
    with pytest.raises(ImproperlyConfigured, match="without the method 'post'"):
        IdempotencyMiddleware(view)(request)


def test_two_marks_for_one_request_are_refused(user: User) -> None:
    inner = idempotent(operation="inner")(answer)
    request = RequestFactory().post("/", headers={"Idempotency-Key": uuid.uuid4().hex})
    request.user = user
    request.idempotency = None  # type: ignore[attr-defined]  # as the middleware does
    outer = idempotent(operation="outer", admit=signed_in_user)(inner)
    with pytest.raises(ImproperlyConfigured, match="both are marked"):
        outer(request)


# --- Arguments ------------------------------------------------------------------------------------------------


def posted(mark: Any, user: User, **headers: str) -> HttpResponse:
    """Send a request to a view with a mark."""
    request = RequestFactory().post("/", b"x", content_type="text/plain", headers=headers)
    request.user = user
    response: HttpResponse = IdempotencyMiddleware(mark(answer))(request)
    return response


def test_a_key_may_be_optional(user: User) -> None:
    mark = idempotent(operation="optional", required=False)
    first = posted(mark, user)
    assert (first.status_code, "Idempotency-Status" in first.headers) == (201, False)
    key = {"Idempotency-Key": uuid.uuid4().hex}
    statuses = [posted(mark, user, **key).headers["Idempotency-Status"] for _ in range(2)]
    assert statuses == ["created", "replayed"]


def origin_of_odd_values(request: HttpRequest) -> dict[str, Any]:
    return {"source": "a\0\ud800" + "b" * 300, "attempt": 2, "nothing": None}


def origin_that_fails(request: HttpRequest) -> dict[str, str]:
    raise KeyError("X-Missing")


@pytest.mark.parametrize(
    ("origin", "kept"),
    [
        ("origin_of_odd_values", {"source": "a\ufffd?" + "b" * 197, "attempt": "2"}),
        ("origin_that_fails", {}),
    ],
)
def test_no_origin_fails_a_request(origin: str, kept: dict[str, str], user: User) -> None:
    key, mark = uuid.uuid4().hex, idempotent(operation="origin")
    with override_settings(IDEMPOTENCY_ORIGIN=f"{__name__}.{origin}"):
        statuses = [posted(mark, user, **{"Idempotency-Key": key}).status_code for _ in range(2)]
    assert statuses == [201, 200]
    assert (IdempotencyKey.objects.get(token=key).origin or {}) == kept


def test_a_replay_may_have_the_original_status(user: User) -> None:
    mark = idempotent(operation="original", replay_status="original")
    key = {"Idempotency-Key": uuid.uuid4().hex}
    answers = [posted(mark, user, **key) for _ in range(2)]
    assert [each.status_code for each in answers] == [201, 201]
    assert answers[1].headers["Idempotency-Status"] == "replayed"


def test_the_key_may_come_in_another_header(user: User) -> None:
    mark = idempotent(operation="header", header="X-Request-Key")
    refused = posted(mark, user, **{"Idempotency-Key": "k"})
    assert (refused.status_code, b"needs the header X-Request-Key." in refused.content) == (400, True)
    key = {"X-Request-Key": uuid.uuid4().hex}
    first, again = (posted(mark, user, **key) for _ in range(2))
    assert [each.headers["Idempotency-Status"] for each in (first, again)] == ["created", "replayed"]
    assert again.headers["X-Request-Key"] == key["X-Request-Key"]


LATE = """
from django.http import HttpResponse
from django.urls import path, resolve
from idempotency import idempotent
view = idempotent(operation="late", header="Late-Key")(lambda request: HttpResponse(request.body))
urlpatterns = [path("", view)]
"""


def test_the_first_request_of_a_process_finds_the_marks(
    user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that runs no checks imports the URLs with its first request; others may read its body then."""
    (tmp_path / "late_urls.py").write_text(LATE)
    monkeypatch.syspath_prepend(tmp_path)

    def read_and_answer(request: Any) -> Any:
        request.read()
        return resolve("/", request.urlconf).func(request)

    request: Any = RequestFactory().post("/", b"x", content_type="text/plain", headers={"Late-Key": "late"})
    request.user, request.urlconf = user, "late_urls"
    response = IdempotencyMiddleware(read_and_answer)(request)
    assert (response.content, response.headers["Late-Key"]) == (b"x", "late")


def test_a_view_may_have_keys_of_another_life(user: User) -> None:
    key = uuid.uuid4().hex
    posted(idempotent(operation="short", ttl=timedelta(minutes=1)), user, **{"Idempotency-Key": key})
    stored = IdempotencyKey.objects.get(token=key)
    assert stored.expires_at - stored.created_at == timedelta(minutes=1)
    assert stored.status == 201


def test_a_view_may_have_an_admission_of_its_own(user: User) -> None:
    key = uuid.uuid4().hex
    mark = idempotent(operation="own-admission", admit=lambda _request, _view: "partner")
    posted(mark, user, **{"Idempotency-Key": key})
    assert IdempotencyKey.objects.get(token=key).principal == "partner"


WRONG: list[tuple[str, Any]] = [
    *(("operation", value) for value in ("", "a|b", "two words", "é", "x" * 256, None, 5)),
    *(("methods", value) for value in ("PSOT", [], ["POST,PUT"], [None], [5], 5, True, [["POST"]])),
    *(("required", value) for value in (None, "yes")),
    *(("ttl", value) for value in (86_400, timedelta(0), timedelta(seconds=-1), timedelta.max)),
    *(("admit", value) for value in ("project.admit", 5)),
    *(("header", value) for value in ("", "HTTP_KEY", "Idempotency Key", "Key:", "é", None, 5)),
    *(
        ("stored_errors", value)
        for value in ([200], [401], [429], ["402"], [503], [402, 700], 402, None, "402", [[402]], [402, "x"])
    ),
    *(("replay_status", value) for value in (404, 302, 100, "200", "first", None, True)),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=str)
def test_a_wrong_argument_is_refused_where_it_stands(name: str, value: Any) -> None:
    arguments: dict[str, Any] = {"operation": "wrong", name: value}
    with pytest.raises(ImproperlyConfigured, match=rf"test_marks\.answer: {name} is .*, and should be "):
        idempotent(**arguments)(answer)


@pytest.mark.parametrize("methods", [["put"], ("PUT",), "put"], ids=str)
def test_methods_may_be_one_word_and_in_lower_case(methods: Any) -> None:
    marked: Any = idempotent(operation="lower", methods=methods)(answer)
    assert marked.idempotent.methods == {"PUT"}


@pytest.mark.parametrize("operation", ["order.pay", "order-pay", "1st", "~"])
def test_an_operation_may_have_every_character_of_a_key(operation: str, user: User) -> None:
    mark, key = idempotent(operation=operation), {"Idempotency-Key": uuid.uuid4().hex}
    assert [posted(mark, user, **key).status_code for _ in range(2)] == [201, 200]


@pytest.mark.parametrize("principal", [5, None, "", b"me", "x" * 256, "a\0b"], ids=repr)
def test_an_admission_that_names_nobody_is_refused(user: User, principal: Any) -> None:
    def admit(_request: HttpRequest, _view: Any) -> Any:
        return principal

    with pytest.raises(ImproperlyConfigured, match=r"admit returned .*, and should return the caller's id"):
        posted(idempotent(operation="nobody", admit=admit), user, **{"Idempotency-Key": "k"})


# --- Answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        (lambda: None, "returned NoneType"),
        (lambda: {"made": 1}, "returned dict"),
        (lambda: StreamingHttpResponse([b"a"]), "streams its answer"),
        (lambda: FileResponse(BytesIO(b"a")), "streams its answer"),
    ],
    ids=["None", "dict", "StreamingHttpResponse", "FileResponse"],
)
def test_an_answer_that_cannot_be_stored_raises_and_leaves_nothing(
    user: User, key: str, returned: Any, says: str
) -> None:
    """Of what was no response, the writes were once committed without an answer, and so again by each retry."""

    def view(_request: HttpRequest) -> Any:
        Group.objects.create(name=key)
        return returned()

    request = RequestFactory().post("/", b"x", content_type="text/plain", headers={"Idempotency-Key": key})
    request.user = user
    guarded = IdempotencyMiddleware(idempotent(operation="unstorable")(view))
    with pytest.raises(TypeError, match=says) as raised:
        guarded(request)
    assert "view" in str(raised.value)
    assert not Group.objects.filter(name=key).exists()
    assert posted(idempotent(operation="unstorable"), user, **{"Idempotency-Key": key}).status_code == 201


def test_a_template_is_rendered_before_a_block_around_the_mark_ends(user: User, key: str) -> None:
    """Rendered later, it would hold the transaction open after that block."""

    def view(request: HttpRequest) -> HttpResponse:
        return TemplateResponse(request, engines["django"].from_string("made"), status=201)

    request = RequestFactory().post("/", b"x", content_type="text/plain", headers={"Idempotency-Key": key})
    request.user = user
    request.idempotency = None  # type: ignore[attr-defined]  # as the middleware does
    with transaction.atomic():
        answer: Any = idempotent(operation="late")(view)(request)
    assert not connection.in_atomic_block
    assert answer.content == b"made"
    assert posted(idempotent(operation="late"), user, **{"Idempotency-Key": key}).content == b"made"


def test_an_error_may_be_streamed(user: User, key: str) -> None:
    def view(_request: HttpRequest) -> Any:
        return StreamingHttpResponse([b"no"], status=422)

    request = RequestFactory().post("/", b"x", content_type="text/plain", headers={"Idempotency-Key": key})
    request.user = user
    answer: Any = IdempotencyMiddleware(idempotent(operation="refuses")(view))(request)
    assert (answer.status_code, answer.getvalue()) == (422, b"no")
