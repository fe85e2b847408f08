"""Assertions about answers."""

from typing import Any

import httpx

from fundapi.models import Fund
from idempotency.models import IdempotencyKey


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Assert that the answer is problem+json (RFC 9457) without a stack trace or a page; return its body."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["code"] == code, problem
    assert problem["type"] == f"/api/problems/{code}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    for leak in ("<html", "<!doctype", "Traceback", 'File "', "site-packages"):
        assert leak.lower() not in response.text.lower()
    return problem


def errors_of(problem: dict[str, Any]) -> set[tuple[str, str]]:
    """Return the pairs of field and code that a validation problem names."""
    assert all(set(error) == {"field", "code", "detail"} and error["detail"] for error in problem["errors"])
    return {(error["field"], error["code"]) for error in problem["errors"]}


def funds_of(user: Any) -> int:
    return Fund.objects.filter(owner=user).count()


def keys_of(user: Any) -> int:
    return IdempotencyKey.objects.filter(principal=str(user.pk)).count()
