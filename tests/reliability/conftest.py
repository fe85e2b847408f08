"""Servers and gates for tests of failures. Real processes only."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import User

from fundapi.models import Fund
from tests.conftest import FUND, Api
from tests.reliability.gates import TRIGGERS, Gate
from tests.reliability.valkey import Valkey, private_valkey
from tests.servers import Server, database_url, running_server

LAB: dict[str, Any] = {
    "DJANGO_SETTINGS_MODULE": "tests.reliability.lab_settings",
    "FUND_CREATE_RATE": "100000/minute",
}
# Gates hold a session longer than any of these may, were they as short as in production.
PATIENT: dict[str, Any] = {
    "DATABASE_LOCK_TIMEOUT": "60",
    "DATABASE_STATEMENT_TIMEOUT": "60",
    "LAB_IDLE_TIMEOUT": "60",
}


@pytest.fixture(scope="session")
def triggers(database: None) -> None:
    with psycopg.connect(database_url()) as session:
        session.execute(TRIGGERS)


@pytest.fixture(scope="session")
def lab(triggers: None) -> Iterator[Server]:
    """The lab, served by two processes with time-outs that no test reaches."""
    with running_server(**LAB, **PATIENT) as running:
        yield running


@pytest.fixture
def make_gate(triggers: None) -> Iterator[Callable[..., Gate]]:
    """Make closed gates, which are opened after the test."""
    with ExitStack() as stack:

        def make(number: int | None = None) -> Gate:
            return stack.enter_context(Gate(database_url(), number))

        yield make


@pytest.fixture
def gate(make_gate: Callable[..., Gate]) -> Gate:
    return make_gate()


@pytest.fixture
def lab_api(lab: Server, user: User) -> Iterator[Api]:
    with Api(lab, user) as client:
        yield client


@pytest.fixture
def valkey(database: None) -> Iterator[Valkey]:
    """A Valkey of the test's own."""
    with private_valkey() as running:
        yield running


def fund(**fields: Any) -> dict[str, Any]:
    return FUND | fields


def funds_of(user: User) -> int:
    """Return the number of a user's funds in the database."""
    return Fund.objects.filter(owner=user).count()
