"""Throttles that count in Valkey, in one atomic round trip. While it is unavailable, they let every request pass."""

import threading
import time
from typing import ClassVar

from django.conf import settings
from limits import RateLimitItemPerSecond
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView

from fundapi.access.signins import network_of
from fundapi.web.valkey import breaker, client

TICKET_RATE = "60/minute"  # per user; a page renews its ticket once an hour

# Without it, concurrent first requests each created a limiter, and CPython 3.11 crashed in its hit().
_limiter_lock = threading.Lock()


class Storage(RedisStorage):
    """Of Limits, which would import the client named valkey too, where that is installed, and never use it."""

    DEPENDENCIES = {"redis": RedisStorage.DEPENDENCIES["redis"]}


class ValkeyThrottle(SimpleRateThrottle):
    """A limit on the requests of each caller in a moving window. Subclasses define the rate and the caller."""

    scope: str
    _limiter: ClassVar[MovingWindowRateLimiter | None] = None

    def caller(self, request: Request) -> str:
        """Return the name under which the request counts."""
        raise NotImplementedError

    def allow_request(self, request: Request, view: APIView) -> bool:
        if self.rate is None:
            return True
        requests, seconds = self.parse_rate(self.rate)
        self.item = RateLimitItemPerSecond(requests or 0, seconds, self.scope)
        self.who = self.caller(request)
        return breaker.call(True, self.limiter.hit, self.item, settings.ENVIRONMENT, self.who)  # noqa: FBT003

    def wait(self) -> float | None:
        stats = breaker.call(None, self.limiter.get_window_stats, self.item, settings.ENVIRONMENT, self.who)
        return None if stats is None else max(1.0, stats.reset_time - time.time())

    @property
    def limiter(self) -> MovingWindowRateLimiter:
        with _limiter_lock:
            if ValkeyThrottle._limiter is None:
                storage = Storage("redis://", connection_pool=client.connection_pool)
                ValkeyThrottle._limiter = MovingWindowRateLimiter(storage)
        return ValkeyThrottle._limiter


class FundCreateThrottle(ValkeyThrottle):
    """``FUND_CREATE_RATE`` requests to create a fund per user, replays included."""

    scope = "fund-create"

    def get_rate(self) -> str:
        rate: str = settings.FUND_CREATE_RATE
        return rate

    def caller(self, request: Request) -> str:
        return str(request.user.pk)


class TelemetryThrottle(ValkeyThrottle):
    """``TELEMETRY_RATE`` batches of telemetry per client address, as ``TRUSTED_PROXIES`` determines it.

    An IPv6 address counts as its /64: whoever has one of it has any number.
    """

    scope = "telemetry"

    def get_rate(self) -> str:
        rate: str = settings.TELEMETRY_RATE
        return rate

    def caller(self, request: Request) -> str:
        address = str(self.get_ident(request))
        try:
            return network_of(address)
        except ValueError:  # a unix socket, or a proxy that says "unknown"
            return address


class TicketThrottle(ValkeyThrottle):
    """``TICKET_RATE`` tickets per user, so that nobody keeps the server busy with signing."""

    scope = "ticket"

    def get_rate(self) -> str:
        return TICKET_RATE

    def caller(self, request: Request) -> str:
        return str(request.user.pk)
