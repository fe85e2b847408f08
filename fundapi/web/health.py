"""Health: ``/health`` for people and scripts, ``/livez`` and ``/readyz`` for orchestrators."""

from concurrent.futures import ThreadPoolExecutor

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

import fundapi
from fundapi.metrics import registry
from fundapi.web import valkey
from fundapi.web.overload import overloaded
from fundapi.web.probes import Probe
from fundapi.web.readiness import AWAY, readiness
from rollout.models import Rollout
from rollout.presentation.outlook import judge_state


def rollout_state() -> tuple[str, str]:
    """Return which store browsers use, and whether the judge is late."""
    try:
        rollout = Rollout.objects.filter(feature="USE_FUND_STORE").first()
        return rollout.live_word if rollout else "legacy", judge_state()
    except (DatabaseError, InterfaceError):
        return _NO_ROLLOUT


def _metrics() -> bytes:
    try:
        return generate_latest(registry())
    finally:
        connection.close()  # a scrape is rare


# Without the database browsers fall back to legacy, and no check can be made.
_NO_ROLLOUT = ("legacy", "late")
_database_thread = ThreadPoolExecutor(1, "probe-database")  # keeps a connection, as a slot does
_database_probe = Probe(readiness, otherwise=AWAY, thread=_database_thread)
_rollout_probe = Probe(rollout_state, otherwise=_NO_ROLLOUT, thread=_database_thread)
_valkey_probe = Probe(
    valkey.state, otherwise=valkey.UNAVAILABLE, thread=ThreadPoolExecutor(1, "probe-valkey")
)
_metrics_probe = Probe(_metrics, otherwise=b"", thread=ThreadPoolExecutor(1, "probe-metrics"))


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
    """Answer 200 when a create would succeed; else 503 and why: away, read-only, unmigrated, forbidden."""
    database = _database_probe()
    return HttpResponse(database.text, status=200 if database.ready else 503, content_type="text/plain")


@csrf_exempt  # so that a POST gets 405, not 403
@require_safe
@never_cache
def health(_request: HttpRequest) -> JsonResponse:
    """Answer 503 when no fund can be created, and ``degraded`` without Valkey or with a late judge.

    A Valkey that takes no writes is ``read-only`` or ``full``: then throttles do not count, and no task is sent.

    The runbook's "Rollback Verification" reads ``store_type``: ``legacy`` as soon as the rollout of the fund store is
    at 0, disabled or stopped, and while the database is away.
    """
    database, broker = _database_probe(), _valkey_probe()
    store_type, judge = _NO_ROLLOUT if database == AWAY else _rollout_probe()
    status = "ok" if broker == valkey.OK and judge != "late" else "degraded"
    return JsonResponse(
        {
            "status": status if database.ready else "unavailable",
            "store_type": store_type,
            "environment": settings.ENVIRONMENT,
            "version": fundapi.__version__,
            "commit": settings.COMMIT,
            "checks": {"database": database.word, "valkey": broker, "judge": judge},
        },
        status=200 if database.ready else 503,
    )


@csrf_exempt  # so that a POST gets 405, not 403
@require_safe
def metrics(request: HttpRequest) -> HttpResponseBase:
    """Answer with the metrics of all processes, for Prometheus."""
    samples = _metrics_probe()
    return HttpResponse(samples, content_type=CONTENT_TYPE_LATEST) if samples else overloaded(request)
