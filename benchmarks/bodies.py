"""The one fund that everybody creates, in each spelling."""

import json

NAME = "Harbor Growth I"
FUND = {
    "name": NAME,
    "size": 250_000_000,
    "managementFee": 0.02,
    "carryPercentage": 0.2,
    "vintageYear": 2025,
}
STOCK_NAMES = {
    "managementFee": "management_fee",
    "carryPercentage": "carry_percentage",
    "vintageYear": "vintage_year",
}


def fund(name: str = NAME) -> bytes:
    """As the product's API spells it."""
    return json.dumps({**FUND, "name": name}).encode()


def stock_fund(name: str = NAME) -> bytes:
    """As a ModelSerializer spells it: the columns' names."""
    return json.dumps(
        {STOCK_NAMES.get(field, field): value for field, value in {**FUND, "name": name}.items()}
    ).encode()
