"""Sign-ins, failed sign-ins and lock-outs: django-axes, with the project's own limits.

Its tables are the audit trail (docs/reference/security.md). Each row has a log line, which leaves out what was typed,
because people type passwords into the wrong field.
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from ipaddress import IPv6Address
from typing import Any

import structlog
from axes.attempts import get_cool_off_threshold
from axes.handlers.database import AxesDatabaseHandler
from axes.handlers.proxy import AxesProxyHandler
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection
from django.db.models import Max, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Now
from django.db.models.lookups import IsNull
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from knox.models import AuthToken
from prometheus_client import Counter, Gauge
from rest_framework.throttling import BaseThrottle

from rollout.api.telemetry import parse_address

logger = structlog.get_logger("fundapi.signin")
signins = Counter("signins", "Attempts to sign in with a password, by outcome.", ["outcome"])
for _outcome in ("succeeded", "failed", "code_missing", "locked"):
    signins.labels(_outcome)  # present from the start, or a rate would miss the first attempt

purge_failures = Counter(
    "signins_purge_failures", "Purges of a table of sign-ins that ended in an error.", ["table"]
)
# What is purged: the column that dates a row, and the setting of how long it is kept after that.
TABLES: list[tuple[Any, str, str]] = [
    (AccessLog, "attempt_time", "SIGNIN_RETENTION"),
    (AccessFailureLog, "attempt_time", "SIGNIN_RETENTION"),
    (AccessAttempt, "attempt_time", "AXES_COOLOFF_TIME"),
    (AuthToken, "expiry", "SIGNIN_RETENTION"),
    (Session, "expire_date", ""),
]
BATCH = 1000  # rows that one statement deletes
for _model, _, _ in TABLES:
    purge_failures.labels(_model._meta.model_name)
# No series before the first success: the rule for an overdue purge is quiet on a fresh install.
purge_succeeded = Gauge(
    "signins_purge_last_success_timestamp_seconds",
    "When a table of sign-ins was last purged, by the database's clock.",
    ["table"],
    multiprocess_mode="max",
)


def client_address(request: HttpRequest) -> str | None:
    """Return the client's address, as throttles determine it (``TRUSTED_PROXIES``); ``None`` when there is none."""
    identity = BaseThrottle().get_ident(request)  # type: ignore[arg-type]  # it reads headers only
    for text in (identity, request.META.get("REMOTE_ADDR")):
        try:
            return str(parse_address(text or ""))
        except ValueError:  # a proxy may send "unknown"
            continue
    return None


def client_network(request: HttpRequest) -> str | None:
    """Return the network whose failures count together: :func:`network_of` the client."""
    address = client_address(request)
    return None if address is None else network_of(address)


def network_of(address: str) -> str:
    """Return an IPv4 address unchanged, and of an IPv6 address the first address of its /64.

    An IPv6 line has a /64 or more, and its user can take a new address at any time. Raises ValueError.
    """
    parsed = parse_address(address)
    return str(IPv6Address(int(parsed) >> 64 << 64) if isinstance(parsed, IPv6Address) else parsed)


class SignInHandler(AxesDatabaseHandler):  # type: ignore[misc]  # axes has no types
    """Count failures of a name from an address, and of an address under any name; log each attempt.

    A request is Django's; axes adds attributes to it, such as ``axes_ip_address``.
    """

    def get_failures(self, request: Any, credentials: dict[str, Any] | None = None) -> int:
        _date(request)
        if self._address_is_locked(request):
            return int(settings.AXES_FAILURE_LIMIT)
        return int(super().get_failures(request, credentials))

    def wait(self, request: Any, credentials: dict[str, Any] | None) -> timedelta:
        """Return the time until a locked-out client may try again."""
        if self._address_is_locked(request):
            locking = [_failures_from(request)]
        else:
            locking = self.get_user_attempts(request, credentials)
        times = [attempts.aggregate(latest=Max("attempt_time"))["latest"] for attempts in locking]
        latest = max(filter(None, times), default=request.axes_attempt_time)
        left: timedelta = latest + settings.AXES_COOLOFF_TIME - request.axes_attempt_time
        return max(left, timedelta(seconds=1))

    def user_logged_in(self, sender: Any, request: Any, user: User, **kwargs: Any) -> None:
        _date(request)
        super().user_logged_in(sender, request, user, **kwargs)
        note("succeeded", request, user.pk)

    def user_logged_out(self, sender: Any, request: Any, user: User | None, **kwargs: Any) -> None:
        super().user_logged_out(sender, request, user, **kwargs)
        if user is not None:
            logger.info("signout", user_id=user.pk, address=client_address(request))

    def user_login_failed(
        self, sender: Any, credentials: dict[str, Any], request: Any = None, **kwargs: Any
    ) -> None:
        if request is None:
            return
        _date(request)
        was_locked = request.axes_locked_out
        super().user_login_failed(sender, credentials, request, **kwargs)
        name = credentials.get("username")
        if not was_locked:
            # axes' model dates a new row by this host's clock.
            client = {"ip_address": request.axes_ip_address, "user_agent": request.axes_user_agent}
            AccessAttempt.objects.filter(username=name, **client).update(
                attempt_time=request.axes_attempt_time
            )
        user_id = User.objects.filter(username=name).values_list("pk").first()
        note("locked" if request.axes_locked_out else "failed", request, user_id and user_id[0])

    def remove_out_of_limit_failure_logs(self, *, username: str, limit: int | None = None) -> int:
        """Keep every record until :func:`purge`: axes would delete the newest."""
        return 0

    def _address_is_locked(self, request: Any) -> bool:
        if not settings.SIGNIN_ADDRESS_FAILURES_MAX or request.axes_ip_address is None:
            return False
        failures = _failures_from(request).aggregate(sum=Sum("failures_since_start"))["sum"] or 0
        return bool(failures >= settings.SIGNIN_ADDRESS_FAILURES_MAX)


def _date(request: Any) -> None:
    """Date an attempt by the database's clock, once: hosts whose clocks differ count the same failures."""
    if not hasattr(request, "is_dated"):
        request.axes_attempt_time = datetime.fromtimestamp(_clock(), tz=UTC)
        request.is_dated = True


def _failures_from(request: Any) -> QuerySet[Any]:
    attempts: QuerySet[Any] = AccessAttempt.objects.filter(
        ip_address=request.axes_ip_address, attempt_time__gte=get_cool_off_threshold(request)
    )
    return attempts


def with_sums(attempts: QuerySet[Any]) -> QuerySet[Any]:
    """Annotate each attempt with the failures that count now: ``of_pair``, ``of_address`` (``None``: no failure).

    A row is one name, address and browser; the limits apply to the sums.
    """
    threshold = Now() - settings.AXES_COOLOFF_TIME
    counting = AccessAttempt.objects.filter(attempt_time__gte=threshold).order_by()
    same_address = Q(ip_address=OuterRef("ip_address"))
    both_without = Q(ip_address=None) & Q(IsNull(OuterRef("ip_address"), True))  # noqa: FBT003 - no keyword
    sums = {
        "of_pair": counting.filter(same_address | both_without, username=OuterRef("username")).values(
            "username"
        ),
        "of_address": counting.filter(same_address).values("ip_address"),
    }
    total = Sum("failures_since_start")
    annotated: QuerySet[Any] = attempts.annotate(
        **{name: Subquery(rows.annotate(total=total).values("total")) for name, rows in sums.items()}
    )
    return annotated


def note(outcome: str, request: HttpRequest, user_id: int | None) -> None:
    """Count an attempt, and log it with the full address."""
    signins.labels(outcome).inc()
    level = logger.info if outcome == "succeeded" else logger.warning
    level(f"signin_{outcome}", user_id=user_id, address=client_address(request))


def lockout_response(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Decorate a sign-in view to answer a lock-out with a 429.

    axes has a middleware for it, which would cost every request.
    """

    @wraps(view)
    def decorated(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = view(request, *args, **kwargs)
        return _locked_out(request) if getattr(request, "axes_locked_out", False) else response

    return decorated


def _locked_out(request: Any) -> HttpResponse:
    """Return the 429 that says when to try again: the same whether the user exists or not."""
    wait = AxesProxyHandler.get_implementation().wait(request, request.axes_credentials)
    seconds = math.ceil(wait.total_seconds())
    # Rounded up to the minute, so that the page never names a time too early.
    until = request.axes_attempt_time + wait + timedelta(minutes=1)
    context = {"minutes": math.ceil(seconds / 60), "until": until}
    response = render(request, "fundapi/locked_out.html", context, status=429)
    response.headers["Retry-After"] = str(seconds)
    response.headers["Cache-Control"] = "no-store"
    return response


def purge() -> dict[str, int]:
    """Delete what :data:`TABLES` says is too old, and return the number of rows of each table.

    By the database's clock: a worker with a wrong one would delete lock-outs that still count. A table whose purge
    fails is left out, and stops no other.
    """
    deleted: dict[str, int] = {}
    for model, column, setting in TABLES:
        table = model._meta.model_name
        age = getattr(settings, setting) if setting else timedelta(0)
        try:
            deleted[table] = _purge(model.objects.filter(**{f"{column}__lt": Now() - age}), column)
        except Exception:
            connection.close_if_unusable_or_obsolete()
            purge_failures.labels(table).inc()
            logger.exception("signins_purge_failed", table=table)
        else:
            purge_succeeded.labels(table).set(_clock())
    return deleted


def _purge(old: QuerySet[Any], column: str) -> int:
    """Delete rows, the oldest first, in batches that lock no row for long; return how many.

    A batch goes by time alone: the worker's role must not read the keys of sessions, which sign in whoever has them.
    """
    total = 0
    last = None
    while (cut := old.order_by(column).values_list(column)[BATCH - 1 : BATCH].first()) and cut != last:
        total += old.filter(**{f"{column}__lte": cut[0]}).delete()[0]
        last = cut
    return total + old.delete()[0]


def _clock() -> float:
    """Return the time of the database, in seconds since 1970."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
        return float(cursor.fetchone()[0])
