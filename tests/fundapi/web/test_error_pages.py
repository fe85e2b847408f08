"""The pages of refusals: in the product's own style, with what to do; the API keeps its problems."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.test import Client


@pytest.fixture
def staff(make_user: Callable[..., User]) -> Client:
    client = Client()
    client.force_login(make_user(may_create=False, is_staff=True))
    return client


def test_an_unknown_page_is_a_page_and_an_unknown_address_of_the_api_a_problem(database: None) -> None:
    answer = Client().get("/nothing/here")
    assert (answer.status_code, answer["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert "<h1>Not found</h1>" in answer.text
    assert 'href="/fund-setup"' in answer.text
    assert 'href="/admin/"' not in answer.text
    assert Client().get("/api/nothing")["Content-Type"] == "application/problem+json"


def test_a_page_without_permission_says_so_and_leads_back(staff: Client) -> None:
    answer = staff.get("/admin/rollout/rollout/")
    assert answer.status_code == 403
    assert "<h1>You may not do this</h1>" in answer.text
    assert 'href="/admin/"' in answer.text


def test_a_form_that_has_expired_says_what_to_do(database: None) -> None:
    answer = Client(enforce_csrf_checks=True).post("/signin", {"username": "a", "password": "b"})
    assert answer.status_code == 403
    assert "<h1>This form has expired</h1>" in answer.text


def test_a_request_that_cannot_be_read_is_a_page(staff: Client) -> None:
    answer = staff.get("/admin/?q=%00")
    assert answer.status_code == 400
    assert "<h1>This request cannot be read</h1>" in answer.text
    assert 'href="/"' in answer.text


def test_an_error_of_the_server_is_a_page_with_the_number_of_the_request(
    staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(request: HttpRequest) -> None:
        raise RuntimeError("secret details")

    monkeypatch.setattr("fundapi.admin.start.overview", broken)
    staff.raise_request_exception = False
    answer = staff.get("/admin/", headers={"X-Request-ID": "request-number-0007"})
    assert answer.status_code == 500
    assert "<h1>Something went wrong here</h1>" in answer.text
    assert "page.css" in answer.text
    assert "request-number-0007" in answer.text
    assert "secret" not in answer.text
