"""Forms compare by fields and files, may be as large as Django lets them be, and can carry their key in a field."""

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlencode

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse, RawPostDataException
from django.http.multipartparser import MultiPartParserError
from django.middleware.csrf import CsrfViewMiddleware, get_token
from django.template import Context, Template
from django.test import RequestFactory
from django.test.client import encode_multipart
from rest_framework.parsers import FormParser, MultiPartParser
from rest_framework.response import Response
from rest_framework.views import APIView

from idempotency import idempotent
from idempotency.formdata import KEY_FIELD
from idempotency.marks import marks
from idempotency.middleware import IdempotencyMiddleware

pytestmark = pytest.mark.usefixtures("database")

LARGE = b"0123456789" * 300_000  # 3 MB; DATA_UPLOAD_MAX_MEMORY_SIZE is 2.5
SECRET = "t" * 32


@pytest.fixture(autouse=True)
def no_marks_left() -> Iterator[None]:
    """Forget the marks of a test: the system checks of other tests would refuse them."""
    before = set(marks)
    yield
    marks.intersection_update(before)


def shown(fields: Any, files: Any) -> dict[str, Any]:
    """Return what a view finds in a form; a file that was not rewound would be empty."""
    contents = {name: hashlib.sha256(file.read()).hexdigest() for name, file in files.items()}
    return {"fields": {name: fields.getlist(name) for name in sorted(fields)}, "files": contents}


def view(request: HttpRequest) -> HttpResponse:
    return JsonResponse(shown(request.POST, request.FILES), status=201)


class Uploads(APIView):
    parser_classes = [MultiPartParser, FormParser]
    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []

    def post(self, request: Any) -> Response:
        data = request.data
        fields = {name: data.getlist(name) for name in sorted(data) if name not in request.FILES}
        return Response(shown(request.POST, request.FILES) | {"fields": fields}, status=201)

    put = post


def marked(handler: Any, **options: Any) -> Any:
    return idempotent(operation="form", admit=lambda _request, _view: "me", **options)(handler)


def behind_csrf(handler: Any) -> Any:
    """Return the view behind Django's check, which reads a form for its token."""
    check = CsrfViewMiddleware(handler)

    def checked(request: HttpRequest) -> Any:
        check.process_request(request)
        return check.process_view(request, handler, (), {}) or handler(request)

    return checked


def token() -> str:
    """Return the token of a page: another one for each, of the same secret."""
    page = HttpRequest()
    page.META["CSRF_COOKIE"] = SECRET
    return get_token(page)


def multipart(boundary: str = "one", **values: Any) -> dict[str, Any]:
    return {
        "data": encode_multipart(boundary, values),
        "content_type": f"multipart/form-data; boundary={boundary}",
    }


def urlencoded(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"data": urlencode(pairs), "content_type": "application/x-www-form-urlencoded"}


def file(content: bytes = b"some bytes", name: str = "a.txt", kind: str = "text/plain") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content, kind)


def send(handler: Any, form: dict[str, Any], key: str | None, method: str = "post") -> HttpResponse:
    headers = {"X-CSRFToken": SECRET} | ({"Idempotency-Key": key} if key else {})
    request = getattr(RequestFactory(), method)("/forms", headers=headers, **form)
    request.COOKIES["csrftoken"] = SECRET

    def rendered(request: HttpRequest) -> Any:
        answer = handler(request)
        return answer.render() if hasattr(answer, "render") else answer

    with closing(request):
        answer: HttpResponse = IdempotencyMiddleware(rendered)(request)
    return answer


def outcomes(handler: Any, *forms: dict[str, Any], method: str = "post") -> list[str]:
    """Send forms with one key."""
    key = uuid.uuid4().hex
    return [send(handler, form, key, method).headers["Idempotency-Status"] for form in forms]


SAME: dict[str, Callable[[], tuple[dict[str, Any], dict[str, Any]]]] = {
    "another boundary": lambda: (multipart("one", a="1", f=file()), multipart("two", a="1", f=file())),
    "another csrf token": lambda: (
        multipart("one", a="1", csrfmiddlewaretoken=token()),
        multipart("one", a="1", csrfmiddlewaretoken=token()),
    ),
    "another order of fields": lambda: (
        urlencoded(("a", "1"), ("b", "2"), ("a", "3")),
        urlencoded(("b", "2"), ("a", "1"), ("a", "3")),
    ),
    "another spelling": lambda: (
        urlencoded(("a", "two words")),
        urlencoded(("a", "two words")) | {"data": "a=two%20words"},
    ),
    "the other encoding": lambda: (urlencoded(("a", "1")), multipart(a="1")),
    "large files": lambda: (multipart("one", f=file(LARGE)), multipart("two", f=file(LARGE))),
}
OTHER: dict[str, Callable[[], tuple[dict[str, Any], dict[str, Any]]]] = {
    "another value": lambda: (urlencoded(("a", "1")), urlencoded(("a", "2"))),
    "another order of values": lambda: (
        urlencoded(("a", "1"), ("a", "2")),
        urlencoded(("a", "2"), ("a", "1")),
    ),
    "a field more": lambda: (urlencoded(("a", "1")), urlencoded(("a", "1"), ("b", ""))),
    "another content of a file": lambda: (multipart(f=file()), multipart(f=file(b"other byte"))),
    "the last byte of a large file": lambda: (
        multipart(f=file(LARGE)),
        multipart(f=file(LARGE[:-1] + b"x")),
    ),
    "another name of a file": lambda: (multipart(f=file()), multipart(f=file(name="b.txt"))),
    "another type of a file": lambda: (multipart(f=file()), multipart(f=file(kind="text/html"))),
    "a file instead of a field": lambda: (multipart(f="some bytes"), multipart(f=file())),
}
PLACES: dict[str, Callable[[], Any]] = {
    "a view": lambda: marked(view),
    "behind the csrf check": lambda: behind_csrf(marked(view)),
    "REST framework": lambda: marked(Uploads.as_view()),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("case", SAME)
def test_these_are_one_form(place: str, case: str) -> None:
    assert outcomes(PLACES[place](), *SAME[case]()) == ["created", "replayed"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("case", OTHER)
def test_these_are_two_forms(place: str, case: str) -> None:
    assert outcomes(PLACES[place](), *OTHER[case]()) == ["created", "conflict"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("content", [b"some bytes", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("by", ["header", "field"])
def test_the_view_finds_fields_and_files(place: str, content: bytes, by: str) -> None:
    key = uuid.uuid4().hex
    field = {KEY_FIELD: key} if by == "field" else {}
    form = multipart(a="1", f=file(content), **field)
    answer = send(PLACES[place](), form, key if by == "header" else None)
    assert answer.status_code == 201, answer.content
    found = json.loads(answer.content)
    assert found["fields"] == {"a": ["1"]} | {name: [value] for name, value in field.items()}
    assert found["files"] == {"f": hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize("size", [1000, len(LARGE)])
def test_another_method_may_have_a_form_too(size: int) -> None:
    forms = [multipart(boundary, a="1", f=file(LARGE[:size])) for boundary in ("one", "two")]
    assert outcomes(marked(Uploads.as_view()), *forms, method="put") == ["created", "replayed"]


def test_a_large_file_goes_to_disk() -> None:
    """The body stays out of memory, as it does without a mark."""
    seen: list[HttpRequest] = []

    def keep(request: HttpRequest) -> HttpResponse:
        seen.append(request)
        return HttpResponse(type(request.FILES["f"]).__name__, status=201)

    assert send(marked(keep), multipart(f=file(LARGE)), "k").content == b"TemporaryUploadedFile"
    assert not hasattr(seen[0], "_body")


def test_a_view_may_read_the_bytes_of_a_form_that_fits_into_memory() -> None:
    def raw(request: HttpRequest) -> HttpResponse:
        return HttpResponse(request.body, status=201)

    form = multipart(a="1", f=file())
    assert send(marked(raw), form, uuid.uuid4().hex).content == form["data"]
    with pytest.raises(RawPostDataException):
        send(marked(raw), multipart(f=file(LARGE)), uuid.uuid4().hex)


def test_a_middleware_may_have_read_the_form_before() -> None:
    request = RequestFactory().post("/", {"f": file()}, headers={"Idempotency-Key": uuid.uuid4().hex})
    assert list(request.POST) == []
    assert IdempotencyMiddleware(marked(view))(request).status_code == 201


def test_fields_beyond_djangos_limits_are_refused() -> None:
    too_much = "x" * 3_000_000
    for form in (urlencoded(("a", too_much)), multipart(a=too_much)):
        answer = send(marked(view), form, uuid.uuid4().hex)
        assert (answer.status_code, json.loads(answer.content)["code"]) == (413, "body_too_large")


def test_a_form_that_cannot_be_read_is_djangos_own_error() -> None:
    broken = {"data": b"--x", "content_type": "multipart/form-data"}
    with pytest.raises(MultiPartParserError):
        send(marked(view), broken, uuid.uuid4().hex)


# --- The hidden field -----------------------------------------------------------------------------------------


def test_a_form_carries_its_key_in_a_field() -> None:
    text = Template("{% load idempotency %}{% idempotency_key %}{% idempotency_key %}").render(Context())
    first, second = re.findall(rf'<input type="hidden" name="{KEY_FIELD}" value="([0-9a-f-]{{36}})">', text)
    assert first != second
    handler = marked(view)
    sent = [urlencoded(("a", "1"), (KEY_FIELD, key)) for key in (first, first, second)]
    assert [send(handler, form, None).headers["Idempotency-Status"] for form in sent] == [
        "created",
        "replayed",
        "created",
    ]


def test_the_header_wins_over_the_field() -> None:
    key = uuid.uuid4().hex
    answer = send(marked(view), urlencoded((KEY_FIELD, "of the field!")), key)
    assert (answer.status_code, answer.headers["Idempotency-Key"]) == (201, key)


def test_a_field_makes_an_optional_key_present() -> None:
    handler, key = marked(view, required=False), uuid.uuid4().hex
    with_key = urlencoded((KEY_FIELD, key))
    assert send(handler, with_key, None).headers["Idempotency-Status"] == "created"
    assert send(handler, with_key, None).headers["Idempotency-Status"] == "replayed"
    assert "Idempotency-Status" not in send(handler, urlencoded(("a", "1")), None).headers


def test_a_redirect_replays_as_a_redirect() -> None:
    def elsewhere(_request: HttpRequest) -> HttpResponse:
        return HttpResponseRedirect("/done")

    handler, form = marked(elsewhere), urlencoded((KEY_FIELD, uuid.uuid4().hex))
    answers = [send(handler, form, None) for _ in range(2)]
    assert [(each.status_code, each.headers["Location"]) for each in answers] == [(302, "/done")] * 2
    assert answers[1].headers["Idempotency-Status"] == "replayed"
