"""Lists of any length."""

import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from fundapi.models import Fund
from idempotency.models import IdempotencyKey
from tests.conftest import Api, token_of
from tests.fundapi.admin.pages import FUNDS, KEYS, TOKENS, queries, rows, text


@pytest.mark.parametrize("path", [KEYS, FUNDS, TOKENS])
def test_a_longer_list_takes_no_more_queries(
    support: Client, make_user: Callable[..., User], path: str, server: object
) -> None:
    def owner(rows: int) -> str:
        user = make_user()
        for _ in range(rows):
            token_of(user)
            fund = Fund.objects.create(
                owner=user, name="x", size=1, management_fee=0, carry_percentage=0, vintage_year=2025
            )
            IdempotencyKey.objects.create(
                digest=uuid.uuid4(), environment="test", operation="fund-create", principal=str(user.pk),
                token=uuid.uuid4().hex, fingerprint=uuid.uuid4(), status=201, content_type="application/json",
                location=f"/api/funds/{fund.pk}", body=b"{}", expires_at=timezone.now() + timedelta(days=1),
            )  # fmt: skip
        return user.username

    few, many = owner(2), owner(20)
    support.get(path)  # content types and permissions are cached from here on
    assert len(rows(support, path, q=many)) == 20
    assert queries(support, path, q=few) == queries(support, path, q=many) <= 12


@pytest.mark.parametrize("path", [KEYS, FUNDS, TOKENS])
def test_only_a_search_counts_its_results_beside_all(support: Client, api: Api, path: str) -> None:
    """The pages of a long list have a link to show all too, without brackets."""
    api.create()
    assert "(Show all)" not in text(support, path)
    assert "0 results (Show all)" in text(support, path, q="no-such-thing")


@pytest.mark.parametrize("path", [KEYS, FUNDS, TOKENS, "/admin/rollout/telemetryevent/"])
def test_no_filter_counts_the_rows_of_its_choices(support: Client, path: str) -> None:
    """A count beside each choice would read the whole table."""
    assert "Show counts" not in text(support, path)
    assert support.get(path, {"_facets": "True"}).status_code == 200
    assert queries(support, path, _facets="True") == queries(support, path)


def test_a_list_and_an_app_are_titled_by_what_they_hold(support: Client) -> None:
    assert "Select" not in text(support, FUNDS).partition("|")[0]
    assert "Idempotency keys |" in text(support, KEYS)
    assert "Access |" in text(support, "/admin/axes/")
