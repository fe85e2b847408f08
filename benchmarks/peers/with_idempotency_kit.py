"""idempotency-kit on Valkey, the only store that it has: its decorator on the creation, keys scoped by user."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from idempotency_kit import (
    AsyncIdempotencyCoordinator,
    IdempotencyDomainService,
    IdempotencyInProgressError,
    IdempotencyKeyReuseError,
    PydanticResultAdapter,
    async_idempotent,
)
from idempotency_kit.infra.storage.redis.aio import RedisAsyncIdempotencyRepository
from redis.asyncio import from_url

from benchmarks.peers.fastapi_fund import Fund, NewFund, insert

STATUS = {IdempotencyInProgressError: 409, IdempotencyKeyReuseError: 422}
redis = from_url(os.environ["REDIS_URL"])
coordinator = AsyncIdempotencyCoordinator(
    repository=RedisAsyncIdempotencyRepository(redis), domain_service=IdempotencyDomainService()
)


def guard(application: FastAPI) -> None:
    for error in STATUS:
        application.add_exception_handler(error, _refused)


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, STATUS[type(error)])


@asynccontextmanager
async def running() -> AsyncIterator[None]:
    yield
    await redis.aclose()


async def create(new: NewFund, user: int, key: str) -> Fund:
    return await _create(coordinator, new, user, idempotency_key=key)


@async_idempotent(
    operation="fund-create",
    adapter=PydanticResultAdapter(Fund),
    ttl_seconds=86_400,
    fingerprint_params=("new", "user"),
)
async def _create(
    _coordinator: AsyncIdempotencyCoordinator, new: NewFund, user: int, idempotency_key: str
) -> Fund:
    return await insert(new, user, idempotency_key)
