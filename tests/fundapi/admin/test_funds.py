"""Funds in the admin: found, shown as people write them, changed by nobody."""

from decimal import Decimal

from django.contrib.auth.models import User
from django.test import Client

from fundapi.admin.funds import money
from fundapi.models import Fund
from tests.conftest import FUND, Api
from tests.fundapi.admin.pages import FUNDS, page_of, rows, stored


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
