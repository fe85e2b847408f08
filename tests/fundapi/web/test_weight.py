"""A web worker does not load what it does not need: it starts sooner and takes less memory."""

import re
import subprocess
import sys

import pytest

from fundapi.web.serve import ALLOCATORS
from manage import NOWHERE
from tests.servers import printed

LOADED = "import sys, fundapi.wsgi; print(*(n for n, m in sys.modules.items() if m))"
# The limiter is made at the first request. `Storage` imports its clients when they are asked for.
CLIENTS = """
import sys, fundapi.wsgi
from fundapi.api.throttling import FundCreateThrottle
FundCreateThrottle().limiter
print("valkey" in sys.modules, "redis" in sys.modules)
"""
# What redis-py, limits and Django hold of packages that were not imported with them.
ASKED = """
import fundapi.wsgi, django.db.backends.base.operations as django, limits, redis
print(redis.asyncio.Redis.__module__, limits.aio.storage.__name__, len(django.sqlparse.split("select 1; select 2")))
import redis.asyncio, limits.aio, sqlparse
print(redis.asyncio.Redis.__module__, hasattr(redis.asyncio, "nothing"))
"""
FROZEN = "import gc, fundapi.wsgi; print(gc.isenabled(), gc.get_freeze_count() > 10 * len(gc.get_objects()))"


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    return set(printed(LOADED).split())


@pytest.mark.parametrize(
    "needless",
    [
        "celery",
        "kombu",
        "drf_spectacular.openapi",
        "unittest",
        "scipy",
        "numpy",
        "github",
        "requests",
        "rich",
        "httpx",
        "pygments",
        "yaml",
        "segno",
        "fundapi.site",
        "rollout.admin",
        "unfold.admin",
        "greenlet",
        "redis.asyncio",
        "redis.asyncio.client",
        "limits.aio",
        "sqlparse",
    ],
)
def test_a_web_worker_does_without(loaded: set[str], needless: str) -> None:
    assert "fundapi.api.views" in loaded
    assert needless not in loaded


def test_throttles_import_only_the_client_that_they_use() -> None:
    pytest.importorskip("valkey")
    assert printed(CLIENTS).split() == ["False", "True"]


def test_the_collector_leaves_alone_what_a_start_made() -> None:
    assert printed(FROZEN).split() == ["True", "True"]


def test_what_a_web_worker_does_without_can_still_be_imported() -> None:
    """Nothing stays hidden: the admin's JSON needs pygments, the API's document yaml."""
    printed("import fundapi.wsgi, pygments, requests, rich, yaml, drf_spectacular.renderers")


def test_what_is_imported_later_comes_when_it_is_asked_for() -> None:
    assert printed(ASKED).split() == [
        "redis.asyncio.client",
        "limits.aio.storage",
        "2",
        "redis.asyncio.client",
        "False",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="Granian has jemalloc on Linux only")
def test_granian_s_allocator_knows_its_options() -> None:
    """It prints them when the process ends; there is no other way to read them."""
    options = f"{ALLOCATORS['_RJEM_MALLOC_CONF']},stats_print:true"
    run = subprocess.run(
        [sys.executable, "-c", "import granian"],
        env={**NOWHERE, "_RJEM_MALLOC_CONF": options},
        check=True,
        capture_output=True,
        text=True,
    )
    heard = dict(re.findall(r"^ *opt\.(\w+): (\w+)", run.stderr, re.MULTILINE))
    assert (heard["narenas"], heard["tcache"], heard["dirty_decay_ms"]) == ("1", "false", "100")
    assert "Invalid" not in run.stderr  # an option that jemalloc does not know
