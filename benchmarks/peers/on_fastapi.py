"""The same creation in FastAPI, alone and behind each of its peers, by the variable BENCH_PEER.

The same statements ask who the token belongs to and insert the fund, over a pool of psycopg's connections.
"""

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from importlib import import_module
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel, Field

from benchmarks.peers.catalog import PEERS

POOL_SIZE = 4  # connections; as many as the product's threads
CALLER = """
SELECT auth_user.id FROM knox_authtoken JOIN auth_user ON auth_user.id = knox_authtoken.user_id
WHERE knox_authtoken.digest = %s AND auth_user.is_active
AND (knox_authtoken.expiry IS NULL OR knox_authtoken.expiry > now())
AND EXISTS (
    SELECT FROM auth_user_user_permissions AS direct
    JOIN auth_permission AS permission ON permission.id = direct.permission_id
    WHERE direct.user_id = auth_user.id AND permission.codename = 'add_fund'
)
"""
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


@asynccontextmanager
async def lifespan(_app: Any) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(pool)
        await stack.enter_async_context(peer.running())
        yield


async def caller(request: Request) -> int:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme != "Bearer":
        raise HTTPException(401)
    async with pool.connection() as connection:
        found = await connection.execute(CALLER, (hashlib.sha512(token.encode()).hexdigest(),))
        row = await found.fetchone()
    if row is None:
        raise HTTPException(401)
    user: int = row[0]
    return user


peer = import_module(PEERS[os.environ["BENCH_PEER"]].view)
application = FastAPI(lifespan=lifespan)
peer.guard(application)


@application.post("/bench/funds", status_code=201)
async def create(new: NewFund, user: Annotated[int, Depends(caller)]) -> Fund:
    async with pool.connection() as connection:
        values = (user, new.name, new.size, new.management_fee, new.carry_percentage, new.vintage_year)
        row = await (await connection.execute(INSERT, values)).fetchone()
    assert row is not None
    return Fund(**new.model_dump(), id=row[0], created_at=row[1])


@application.get("/readyz")
async def readyz() -> str:
    return "ok"
