"""FastAPI without any peer: the baseline of the FastAPI peers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from benchmarks.peers.fastapi_fund import insert as create

__all__ = ["create", "guard", "running"]


def guard(_application: FastAPI) -> None:
    """Add no guard to the application."""


@asynccontextmanager
async def running() -> AsyncIterator[None]:
    yield
