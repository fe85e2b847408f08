"""The fund of the FastAPI applications: its fields, and its INSERT over a pool of psycopg's connections."""

import os
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel, Field

POOL_SIZE = 4  # connections; as many as the product's threads
INSERT = """
INSERT INTO fundapi_fund (
    owner_id, name, size, management_fee, carry_percentage, vintage_year, model_version, engine_results,
    created_at
) VALUES (%s, %s, %s, %s, %s, %s, NULL, NULL, now()) RETURNING id, created_at
"""
pool = AsyncConnectionPool(os.environ["DATABASE_URL"], min_size=POOL_SIZE, max_size=POOL_SIZE, open=False)


class NewFund(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=200)]
    size: Annotated[Decimal, Field(ge=0, max_digits=20, decimal_places=2)]
    management_fee: Annotated[Decimal, Field(ge=0, le=Decimal("0.10"))] = Decimal("0.02")
    carry_percentage: Annotated[Decimal, Field(ge=0, le=Decimal("0.50"))] = Decimal("0.20")
    vintage_year: Annotated[int, Field(ge=2000, le=2100)] = Field(
        default_factory=lambda: datetime.now(UTC).year
    )


class Fund(NewFund):
    id: int
    created_at: datetime


def row(new: NewFund, user: int) -> tuple[Any, ...]:
    """Return the parameters of INSERT."""
    return (user, new.name, new.size, new.management_fee, new.carry_percentage, new.vintage_year)


def stored(new: NewFund, made: Any) -> Fund:
    """Return the fund with what INSERT has returned."""
    return Fund(**new.model_dump(), id=made[0], created_at=made[1])


async def insert(new: NewFund, user: int, _key: str) -> Fund:
    """Store a fund. The key is for those who guard this function, and not the request."""
    async with pool.connection() as connection:
        made = await (await connection.execute(INSERT, row(new, user))).fetchone()
    return stored(new, made)
