"""DBOS: the key is the id of a durable workflow, whose one step is a transaction of a datasource.

Its documentation recommends that for a database write that must happen once: the fund and the step's checkpoint are one
commit. A workflow whose process was killed is recovered when the next one starts.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dbos import DBOS, AsyncSQLAlchemyDatasource, DBOSConfig, SetWorkflowID
from fastapi import FastAPI

from benchmarks.peers.fastapi_fund import INSERT, Fund, NewFund, row, stored

URL = os.environ["DATABASE_URL"].replace("postgres://", "postgresql://", 1)
datasources: list[AsyncSQLAlchemyDatasource] = []  # made in the event loop of the requests


def guard(_application: FastAPI) -> None:
    """Add no guard to the application."""


@asynccontextmanager
async def running() -> AsyncIterator[None]:
    config: DBOSConfig = {"name": "bench", "system_database_url": URL, "log_level": "WARNING"}
    DBOS(config=config)
    datasources.append(await AsyncSQLAlchemyDatasource.create(URL))
    DBOS.launch()
    yield
    DBOS.destroy()


async def create(new: NewFund, user: int, key: str) -> Fund:
    with SetWorkflowID(key):
        return await _create(new, user)


@DBOS.workflow()
async def _create(new: NewFund, user: int) -> Fund:
    return await datasources[0].run_tx_step_async({"name": "insert"}, _insert, new, user)


async def _insert(new: NewFund, user: int) -> Fund:
    connection = await datasources[0].sql_session().connection()
    made = await connection.exec_driver_sql(INSERT, row(new, user))
    return stored(new, made.one())
