"""The same creation in FastAPI, alone and behind each of its peers, by the variable BENCH_PEER.

The same statements ask who the token belongs to and insert the fund.
"""

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request

from benchmarks.peers.catalog import PEERS
from benchmarks.peers.fastapi_fund import Fund, NewFund, pool

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
async def create(new: NewFund, user: Annotated[int, Depends(caller)], request: Request) -> Fund:
    key = request.headers.get("idempotency-key", "")
    fund: Fund = await peer.create(new, user, f"{user}-{key}")
    return fund


@application.get("/readyz")
async def readyz() -> str:
    return "ok"
