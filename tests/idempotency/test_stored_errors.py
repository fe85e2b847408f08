"""An error that a mark names is stored like a success; nothing that led to it stays."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from rest_framework.exceptions import APIException
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.views import APIView, exception_handler

from idempotency import idempotent
from idempotency.marks import marks
from idempotency.middleware import IdempotencyMiddleware
from idempotency.models import IdempotencyKey

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(autouse=True)
def no_marks_left() -> Iterator[None]:
    """Forget the marks of a test: the system checks of other tests would refuse them."""
    before = set(marks)
    yield
    marks.intersection_update(before)


class PaymentRequired(APIException):
    status_code = 402
    default_detail = "Pay first."


class Shop:
    """Views that make a row, ask for a hook after COMMIT, and then answer with a status."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.runs = 0
        self.hooks: list[int] = []
        self.name = uuid.uuid4().hex

    def work(self) -> None:
        self.runs += 1
        Group.objects.create(name=f"{self.name} {self.runs}")
        transaction.on_commit(lambda: self.hooks.append(self.runs))

    @property
    def rows(self) -> int:
        return Group.objects.filter(name__startswith=self.name).count()

    def returns(self, _request: HttpRequest) -> HttpResponse:
        self.work()
        return HttpResponse(f"run {self.runs}", status=self.status)

    def raises(self) -> Any:
        shop = self

        class Raises(APIView):
            authentication_classes: list[Any] = []
            permission_classes: list[Any] = []
            renderer_classes = [JSONRenderer]

            def get_exception_handler(self) -> Any:
                return exception_handler

            def post(self, _request: Any) -> Response:
                shop.work()
                error = PaymentRequired()
                error.status_code = shop.status
                raise error

        return Raises.as_view()


def statuses(view: Any, errors: Any, times: int = 2) -> list[tuple[int, str | None]]:
    """Send a request several times with one key."""
    mark = idempotent(operation="stored", admit=lambda _request, _view: "me", stored_errors=errors)
    marked, key = mark(view), uuid.uuid4().hex

    def rendered(request: HttpRequest) -> Any:
        answer = marked(request)
        return answer.render() if hasattr(answer, "render") else answer

    found = []
    for _ in range(times):
        request = RequestFactory().post(
            "/", b"x", content_type="text/plain", headers={"Idempotency-Key": key}
        )
        answer: Any = IdempotencyMiddleware(rendered)(request)
        found.append((answer.status_code, answer.headers.get("Idempotency-Status")))
    assert IdempotencyKey.objects.filter(token=key).count() == (found[0][1] == "created")
    return found


@pytest.mark.parametrize("how", ["returns", "raises"])
def test_an_error_that_is_named_is_stored_without_its_effects(how: str) -> None:
    shop = Shop(402)
    view = shop.raises() if how == "raises" else shop.returns
    assert statuses(view, [402, 422]) == [(402, "created"), (402, "replayed")]
    assert (shop.runs, shop.rows, shop.hooks) == (1, 0, [])


@pytest.mark.parametrize("how", ["returns", "raises"])
def test_any_other_error_leaves_the_key_unused(how: str) -> None:
    shop = Shop(400)
    view = shop.raises() if how == "raises" else shop.returns
    assert statuses(view, [402]) == [(400, None), (400, None)]
    assert (shop.runs, shop.rows, shop.hooks) == (2, 0, [])


def test_a_success_beside_them_keeps_its_effects() -> None:
    shop = Shop(201)
    assert statuses(shop.returns, [402]) == [(201, "created"), (200, "replayed")]
    assert (shop.runs, shop.rows, shop.hooks) == (1, 1, [1])


def test_an_exception_is_no_answer() -> None:
    def fails(_request: HttpRequest) -> HttpResponse:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        statuses(fails, [500])
