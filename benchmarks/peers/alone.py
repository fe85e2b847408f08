"""FastAPI without any peer: what the FastAPI peers are to be compared with."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI


def guard(_application: FastAPI) -> None:
    """Nothing stands between the client and the application."""


@asynccontextmanager
async def running() -> AsyncIterator[None]:
    yield
