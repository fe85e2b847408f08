"""asgi-idempotency-header on Valkey."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from idempotency_header_middleware import IdempotencyHeaderMiddleware
from idempotency_header_middleware.backends import RedisBackend
from redis.asyncio import from_url

from benchmarks.peers.fastapi_fund import insert as create

backend = RedisBackend(redis=from_url(os.environ["REDIS_URL"]))

__all__ = ["create", "guard", "running"]


def guard(application: FastAPI) -> None:
    application.add_middleware(IdempotencyHeaderMiddleware, backend=backend)


@asynccontextmanager
async def running() -> AsyncIterator[None]:
    yield
    await backend.redis.aclose()
