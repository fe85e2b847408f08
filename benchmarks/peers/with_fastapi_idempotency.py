"""fastapi-idempotency with its own store for several workers, scoped by the token that the caller sent."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

from fastapi import FastAPI, Request
from fastapi_idempotency import IdempotencyMiddleware
from fastapi_idempotency.stores.tortoise import TortoiseStore
from tortoise import Tortoise

from benchmarks.peers.fastapi_fund import insert as create

__all__ = ["create", "guard", "running"]


def _scope(request: Request) -> str:
    return request.headers.get("authorization", "")[-64:]  # the column's length


def guard(application: FastAPI) -> None:
    application.add_middleware(IdempotencyMiddleware, store=TortoiseStore(), scope=_scope)


@asynccontextmanager
async def running() -> AsyncIterator[None]:
    url = urlsplit(os.environ["DATABASE_URL"])
    credentials = {
        "host": parse_qs(url.query).get("host", [url.hostname])[0],
        "port": url.port or 5432,
        "user": url.username,
        "password": None,
        "database": url.path[1:],
    }
    await Tortoise.init(
        {
            "connections": {"default": {"engine": "tortoise.backends.asyncpg", "credentials": credentials}},
            "apps": {"models": {"models": ["fastapi_idempotency.stores.tortoise"]}},
        },
        _enable_global_fallback=True,  # requests run in other tasks than this one
    )
    await Tortoise.generate_schemas(safe=True)
    yield
    await Tortoise.close_connections()
