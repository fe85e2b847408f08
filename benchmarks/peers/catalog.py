"""The peers. Each has its pins in ``requirements/`` and, where it needs code, a module beside this one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

REQUIREMENTS = Path(__file__).resolve().parent / "requirements"
CACHE = "django.core.cache.backends.redis.RedisCache"


def _nothing(_redis_url: str) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Peer:
    """A package in one configuration.

    ``settings`` gives Django settings for the URL of Valkey. ``view`` replaces the stock view where the package
    works by a mixin or a decorator; for FastAPI it is the module that guards the application or its creation. ``setup``
    are the arguments of a Python that makes its tables, in which ``{database_url}`` is filled in.
    """

    name: str
    package: str
    store: Literal["database", "valkey", "none"]
    framework: Literal["django", "fastapi"] = "django"
    apps: tuple[str, ...] = ()
    middleware: tuple[str, ...] = ()
    view: str = "benchmarks.stock.StockFundsView"
    settings: Callable[[str], Mapping[str, Any]] = _nothing
    setup: tuple[str, ...] = ()

    @property
    def requirements(self) -> Path:
        return REQUIREMENTS / f"{self.package}.txt"


def _drf_idempotency_valkey(redis_url: str) -> dict[str, Any]:
    return {
        "IDEMPOTENCY": {
            "BACKEND": "drf_idempotency.backends.redis.RedisBackend",
            "BACKEND_OPTIONS": {"url": redis_url},
        }
    }


def _django_idempotency_key(storage: dict[str, Any]) -> Callable[[str], dict[str, Any]]:
    """Return its documentation's settings for several processes: a shared cache, a lock in Redis, the first status."""

    def settings(redis_url: str) -> dict[str, Any]:
        return {
            "CACHES": {"default": {"LOCATION": redis_url, **storage}},
            "IDEMPOTENCY_KEY": {
                "CONFLICT_STATUS_CODE": None,
                "STORAGE": {"CLASS": "idempotency_key.storage.CacheKeyStorage", "CACHE_NAME": "default"},
                "LOCK": {
                    "CLASS": "idempotency_key.locks.redis.MultiProcessRedisLock",
                    "LOCATION": redis_url,
                },
            },
        }

    return settings


def _lock_timeout(_redis_url: str) -> dict[str, Any]:
    return {"IDEMPOTENCY_KEY_LOCK_TIMEOUT": 30}  # s; it has no default


DJANGO_PEERS = (
    Peer("plain", "none", "none"),  # P0 is the same project without any peer
    Peer(
        "drf-idempotency, database",
        "drf-idempotency",
        "database",
        apps=("drf_idempotency",),
        middleware=("drf_idempotency.middleware.IdempotencyMiddleware",),
        setup=("-m", "django", "migrate", "--skip-checks", "--verbosity", "0", "drf_idempotency"),
    ),
    Peer(
        "drf-idempotency, Valkey",
        "drf-idempotency",
        "valkey",
        apps=("drf_idempotency",),
        middleware=("drf_idempotency.middleware.IdempotencyMiddleware",),
        settings=_drf_idempotency_valkey,
    ),
    Peer(  # the decorator asks who is calling before it replays, which the middleware does not
        "drf-idempotency on the view",
        "drf-idempotency",
        "database",
        apps=("drf_idempotency",),
        view="benchmarks.peers.with_drf_idempotency.FundsView",
    ),
    Peer(
        "django-idempotency-key, database cache",
        "django-idempotency-key",
        "database",
        middleware=("idempotency_key.middleware.IdempotencyKeyMiddleware",),
        settings=_django_idempotency_key(
            {
                "BACKEND": "django.core.cache.backends.db.DatabaseCache",
                "LOCATION": "django_cache",
                "TIMEOUT": 86_400,
                "OPTIONS": {"MAX_ENTRIES": 10_000_000},  # the default, 300, would forget keys
            }
        ),
        setup=("-m", "django", "createcachetable"),
    ),
    Peer(
        "django-idempotency-key, Valkey",
        "django-idempotency-key",
        "valkey",
        middleware=("idempotency_key.middleware.IdempotencyKeyMiddleware",),
        settings=_django_idempotency_key({"BACKEND": CACHE, "TIMEOUT": 86_400}),
    ),
    Peer(
        "drf-idempotencykey",
        "drf-idempotencykey",
        "database",
        apps=("drf_idempotencykey",),
        view="benchmarks.peers.mixed_in.FundsView",
        setup=("-m", "django", "migrate", "--skip-checks", "--verbosity", "0", "drf_idempotencykey"),
    ),
    Peer(
        "djangorestframework-idempotency-key",
        "djangorestframework-idempotency-key",
        "database",
        apps=("rest_framework_idempotency_key",),
        middleware=("rest_framework_idempotency_key.middleware.IdempotencyKeyMiddleware",),
        view="benchmarks.peers.decorated.FundsView",
        settings=_lock_timeout,
        setup=(
            *("-m", "django", "migrate", "--skip-checks", "--verbosity", "0"),
            "rest_framework_idempotency_key",
        ),
    ),
    Peer(
        "idemkit, PostgreSQL",
        "idemkit",
        "database",
        view="benchmarks.peers.with_idemkit.OnPostgres",
        setup=("-m", "idemkit.cli", "init-pg", "{database_url}"),
    ),
    Peer("idemkit, Valkey", "idemkit", "valkey", view="benchmarks.peers.with_idemkit.OnValkey"),
)
FASTAPI_PEERS = (
    Peer("FastAPI alone", "fastapi-idempotency", "none", "fastapi", view="benchmarks.peers.alone"),
    Peer(
        "fastapi-idempotency, PostgreSQL",
        "fastapi-idempotency",
        "database",
        "fastapi",
        view="benchmarks.peers.with_fastapi_idempotency",
    ),
    Peer(
        "asgi-idempotency-header, Valkey",
        "asgi-idempotency-header",
        "valkey",
        "fastapi",
        view="benchmarks.peers.with_asgi_idempotency_header",
    ),
    Peer(
        "idempotency-kit, Valkey",
        "idempotency-kit",
        "valkey",
        "fastapi",
        view="benchmarks.peers.with_idempotency_kit",
    ),
    Peer("DBOS, PostgreSQL", "dbos", "database", "fastapi", view="benchmarks.peers.with_dbos"),
)
PEERS = {peer.name: peer for peer in (*DJANGO_PEERS, *FASTAPI_PEERS)}
