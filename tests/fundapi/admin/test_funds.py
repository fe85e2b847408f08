"""Funds in the admin: found, shown as people write them, changed by nobody."""

from decimal import Decimal

from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from fundapi.admin.funds import money
from fundapi.models import Fund
from tests.conftest import FUND, Api
from tests.fundapi.admin.pages import FUNDS, KEYS, page_of, rows, stored


def test_a_fund_shows_money_and_ratios_as_people_write_them(
    support: Client, api: Api, user: User, key: str
) -> None:
    fund = api.create(key, {**FUND, "name": f"Harbor {key}", "managementFee": 0.0175}).json()
    (row,) = rows(support, FUNDS, q=f"harbor {key}")
    assert "$250,000,000.00" in row
    assert "1.75 %" in row
    assert "20 %" in row
    page = support.get(f"{FUNDS}{fund['id']}/change/").text
    assert f'href="{page_of(stored(user, key))}"' in page


def test_amounts_are_dollars_with_cents() -> None:
    assert money(Decimal("1234.5")) == "$1,234.50"


def test_a_fund_is_found_by_number_owner_and_name(support: Client, api: Api, user: User, key: str) -> None:
    fund = api.create(body={**FUND, "name": f"Harbor {key}"}).json()
    for term in (str(fund["id"]), f"/api/funds/{fund['id']}", user.username, key.upper()):
        (row,) = rows(support, FUNDS, q=term)
        assert key in row


def test_nobody_changes_funds_or_keys_by_hand(support: Client, api: Api, user: User, key: str) -> None:
    fund = api.create(key).json()
    for page in (f"{FUNDS}{fund['id']}/", page_of(stored(user, key)).removesuffix("change/")):
        assert support.post(f"{page}change/", {"name": "other"}).status_code == 403
        assert support.post(f"{page}delete/", {"post": "yes"}).status_code == 403
    assert support.get(f"{FUNDS}add/").status_code == 403
    assert Fund.objects.get(pk=fund["id"]).name == FUND["name"]


def test_results_are_shown_exactly_and_long_ones_cut(support: Client, api: Api, user: User, key: str) -> None:
    fund = api.create(key, {**FUND, "engineResults": {"irr": 0.25, "n": [1, 2]}}).json()
    page = support.get(f"{FUNDS}{fund['id']}/change/").text
    assert "{&quot;n&quot;: [1, 2], &quot;irr&quot;: 0.25}" in page
    terms = {"size": 1, "management_fee": 0, "carry_percentage": 0, "vintage_year": 2020}
    large = Fund.objects.create(
        owner=user, name=f"Old {key}", engine_results={"a": ["<'" * 500_000]}, **terms
    )
    page = support.get(f"{FUNDS}{large.pk}/change/").text
    assert f"GET /api/funds/{large.pk} has all of it" in page
    assert len(page) < 500_000
    assert len(rows(support, FUNDS, q=f"Old {key}")) == 1


def test_a_list_reads_no_results(support: Client, user: User, key: str) -> None:
    with CaptureQueriesContext(connection) as queries:
        support.get(FUNDS, {"q": user.username})
        support.get(KEYS, {"q": key})
    assert "fundapi_fund" in str(queries.captured_queries)
    assert "engine_results" not in str(queries.captured_queries)
