from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from django.db import connection
from hypothesis import HealthCheck, settings

from tests.obedience import hold, obedience

__all__ = ["hold", "obedience"]

# No test asserts a time: Hypothesis would, by default, and a busy machine would fail it.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def _pass_on(execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
    return execute(sql, parameters, many, context)


@pytest.fixture(params=["by libpq", "by a cursor"])
def way(database: None, request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a test twice: as it is, and with an ``execute_wrapper``, which makes statements go by a cursor."""
    with connection.execute_wrapper(_pass_on) if request.param == "by a cursor" else nullcontext():
        yield request.param
