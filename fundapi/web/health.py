"""Health: ``/health`` for people and scripts, ``/livez`` and ``/readyz`` for orchestrators."""

from collections.abc import Callable

import redis
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

import fundapi
from rollout.models import Rollout
from rollout.presentation.outlook import judge_state


def _database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM idempotency_store LIMIT 1")  # answers, and is migrated


def _valkey() -> None:
    client = redis.Redis.from_url(
        settings.REDIS_URL,
        **settings.REDIS_OPTIONS,
    )
    with client:
        client.ping()


def _works(check: Callable[[], None]) -> bool:
    try:
        check()
    except (DatabaseError, InterfaceError, redis.RedisError):
        return False
    return True


def _store_type() -> str:
    rollout = Rollout.objects.filter(feature="USE_FUND_STORE").first()
    return rollout.store_type if rollout else "legacy"


@csrf_exempt  # so that a POST gets 405, not 403
@require_safe
@never_cache
def livez(_request: HttpRequest) -> HttpResponse:
    """Answer when the process lives. It asks no database: a restart would not bring one back."""
    return HttpResponse("ok", content_type="text/plain")


@csrf_exempt  # so that a POST gets 405, not 403
@require_safe
@never_cache
def readyz(_request: HttpRequest) -> HttpResponse:
    """Answer 200 when this process can serve requests: the database answers and is migrated."""
    ready = _works(_database)
    return HttpResponse(
        "ok" if ready else "no database", status=200 if ready else 503, content_type="text/plain"
    )


@csrf_exempt  # so that a POST gets 405, not 403
@require_safe
@never_cache
def health(_request: HttpRequest) -> JsonResponse:
    """Answer 503 without the database, and ``degraded`` without Valkey or with a late judge: funds are still created.

    The runbook's "Rollback Verification" reads ``store_type``: ``legacy`` as soon as the rollout of the fund store is
    at 0, disabled or stopped, and while the database is away.
    """
    database, valkey = _works(_database), _works(_valkey)
    judge = judge_state() if database else "late"  # no check can be made
    status = "unavailable" if not database else "ok" if valkey and judge != "late" else "degraded"
    return JsonResponse(
        {
            "status": status,
            "store_type": _store_type() if database else "legacy",
            "environment": settings.ENVIRONMENT,
            "version": fundapi.__version__,
            "checks": {
                "database": "ok" if database else "unavailable",
                "valkey": "ok" if valkey else "unavailable",
                "judge": judge,
            },
        },
        status=200 if database else 503,
    )
