"""The INSERT of a fund. Django would compile its SQL anew each time, at four times the cost."""

from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections

from fundapi.exactjson import ExactEncoder
from fundapi.models import Fund
from idempotency.wire import execute

INSERT = """
INSERT INTO fundapi_fund (
    owner_id, name, size, management_fee, carry_percentage, vintage_year, model_version, engine_results, created_at
) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id
"""


def insert(fund: Fund) -> None:
    """Insert a new fund, whose values the serializer has checked, and set its id. Raises Django's database errors."""
    results = fund.engine_results
    if results is not None:
        results = connections[DEFAULT_DB_ALIAS].ops.adapt_json_value(results, ExactEncoder)
    row: Any = execute(
        DEFAULT_DB_ALIAS,
        INSERT,
        (
            *(fund.owner_id, fund.name, fund.size, fund.management_fee, fund.carry_percentage),
            *(fund.vintage_year, fund.model_version, results, fund.created_at),
        ),
    )
    fund.pk = row[0]
