"""Who signs in, who fails to, and who has failed too often: django-axes, told what is particular here.

Its tables are the audit (docs/reference/security.md). Beside each row there is a log line, without what was typed:
people type passwords into the wrong field.
"""

import math
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import structlog
from axes.attempts import get_cool_off_threshold
from axes.handlers.database import AxesDatabaseHandler
from axes.handlers.proxy import AxesProxyHandler
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Max, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.lookups import IsNull
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from prometheus_client import Counter
from rest_framework.throttling import BaseThrottle

logger = structlog.get_logger("fundapi.signin")
signins = Counter("signins", "Attempts to sign in with a password, by what came of them.", ["outcome"])
for _outcome in ("succeeded", "failed", "code_missing", "locked"):
    signins.labels(_outcome)  # there from the start, or a rate would miss the first


def client_address(request: HttpRequest) -> str | None:
    """Return the client's address as throttles tell it (``TRUSTED_PROXIES``), or ``None`` where there is none."""
    said = BaseThrottle().get_ident(request)  # type: ignore[arg-type]  # it looks at headers alone
    for text in (said, request.META.get("REMOTE_ADDR")):
        try:
            return str(_parsed(text or ""))
        except ValueError:  # a proxy may say "unknown"
            continue
    return None


def client_network(request: HttpRequest) -> str | None:
    """Return whose failures are counted together: :func:`network_of` the client."""
    address = client_address(request)
    return None if address is None else network_of(address)


def network_of(address: str) -> str:
    """Return an IPv4 address as it is, and the first address of the /64 that an IPv6 address is in.

    Whoever has an IPv6 line has a /64 or more, and takes a new address of it when they like. Raises ValueError.
    """
    found = _parsed(address)
    return str(IPv6Address(int(found) >> 64 << 64) if isinstance(found, IPv6Address) else found)


def _parsed(address: str) -> IPv4Address | IPv6Address:
    """A socket for both kinds tells of ``192.0.2.1`` as ``::ffff:192.0.2.1``. Raises ValueError."""
    found = ip_address(address)
    return (isinstance(found, IPv6Address) and found.ipv4_mapped) or found


class SignInHandler(AxesDatabaseHandler):  # type: ignore[misc]  # axes has no types
    """Counts failures of a name from an address, and those of an address under any names; logs what happens.

    A request is Django's, with what axes has found out about it as attributes: ``axes_ip_address`` and others.
    """

    def get_failures(self, request: Any, credentials: dict[str, Any] | None = None) -> int:
        if self._address_is_locked(request):
            return int(settings.AXES_FAILURE_LIMIT)
        return int(super().get_failures(request, credentials))

    def wait(self, request: Any, credentials: dict[str, Any] | None) -> timedelta:
        """Return after what time a client that is locked out may try again."""
        if self._address_is_locked(request):
            locking = [_failures_from(request)]
        else:
            locking = self.get_user_attempts(request, credentials)
        times = [found.aggregate(latest=Max("attempt_time"))["latest"] for found in locking]
        latest = max(filter(None, times), default=timezone.now())
        return max(latest + settings.AXES_COOLOFF_TIME - timezone.now(), timedelta(seconds=1))

    def user_logged_in(self, sender: Any, request: Any, user: User, **kwargs: Any) -> None:
        super().user_logged_in(sender, request, user, **kwargs)
        note("succeeded", request, user.pk)

    def user_logged_out(self, sender: Any, request: Any, user: User | None, **kwargs: Any) -> None:
        super().user_logged_out(sender, request, user, **kwargs)
        if user is not None:
            logger.info("signout", user_id=user.pk, address=client_address(request))

    def user_login_failed(
        self, sender: Any, credentials: dict[str, Any], request: Any = None, **kwargs: Any
    ) -> None:
        super().user_login_failed(sender, credentials, request, **kwargs)
        if request is not None:
            user_id = User.objects.filter(username=credentials.get("username")).values_list("pk").first()
            note("locked" if request.axes_locked_out else "failed", request, user_id and user_id[0])

    def remove_out_of_limit_failure_logs(self, *, username: str, limit: int | None = None) -> int:
        """Keep them all until they are old: axes would delete the newest."""
        return 0

    def _address_is_locked(self, request: Any) -> bool:
        if not settings.SIGNIN_ADDRESS_FAILURES_MAX or request.axes_ip_address is None:
            return False
        found = _failures_from(request).aggregate(sum=Sum("failures_since_start"))["sum"] or 0
        return bool(found >= settings.SIGNIN_ADDRESS_FAILURES_MAX)


def _failures_from(request: Any) -> QuerySet[Any]:
    found: QuerySet[Any] = AccessAttempt.objects.filter(
        ip_address=request.axes_ip_address, attempt_time__gte=get_cool_off_threshold(request)
    )
    return found


def with_sums(attempts: QuerySet[Any]) -> QuerySet[Any]:
    """Add to each attempt the failures that count at present: ``of_pair`` and ``of_address``; ``None`` for none.

    There is a row for each name, address and browser, and limits are on what they sum up to.
    """
    threshold = timezone.now() - settings.AXES_COOLOFF_TIME
    counting = AccessAttempt.objects.filter(attempt_time__gte=threshold).order_by()
    there = Q(ip_address=OuterRef("ip_address"))
    nowhere = Q(ip_address=None) & Q(IsNull(OuterRef("ip_address"), True))  # noqa: FBT003 - no keyword
    sums = {
        "of_pair": counting.filter(there | nowhere, username=OuterRef("username")).values("username"),
        "of_address": counting.filter(there).values("ip_address"),
    }
    total = Sum("failures_since_start")
    found: QuerySet[Any] = attempts.annotate(
        **{name: Subquery(rows.annotate(total=total).values("total")) for name, rows in sums.items()}
    )
    return found


def note(outcome: str, request: HttpRequest, user_id: int | None) -> None:
    """Count an attempt, and log it with the whole address."""
    signins.labels(outcome).inc()
    level = logger.info if outcome == "succeeded" else logger.warning
    level(f"signin_{outcome}", user_id=user_id, address=client_address(request))


def tells_lock_outs(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Decorate a view that signs in: axes' own way is a middleware, which every request would pay for."""

    @wraps(view)
    def told(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = view(request, *args, **kwargs)
        return _locked_out(request) if getattr(request, "axes_locked_out", False) else response

    return told


def _locked_out(request: Any) -> HttpResponse:
    """Say when to try again: the same to everybody, whether there is such a user or not."""
    wait = AxesProxyHandler.get_implementation().wait(request, request.axes_credentials)
    seconds = math.ceil(wait.total_seconds())
    # Told by the minute, and never too early.
    context = {"minutes": math.ceil(seconds / 60), "until": timezone.now() + wait + timedelta(minutes=1)}
    response = render(request, "fundapi/locked_out.html", context, status=429)
    response.headers["Retry-After"] = str(seconds)
    response.headers["Cache-Control"] = "no-store"
    return response


def purge() -> dict[str, int]:
    """Delete what is older than ``SIGNIN_RETENTION``, and failures that lock nobody any more; returns how many."""
    now = timezone.now()
    retention, cooloff = settings.SIGNIN_RETENTION, settings.AXES_COOLOFF_TIME
    return {
        model._meta.model_name: model.objects.filter(attempt_time__lt=now - age).delete()[0]
        for model, age in ((AccessLog, retention), (AccessFailureLog, retention), (AccessAttempt, cooloff))
    }
