"""Throttles count in Valkey, one atomic round trip each, and let everybody through while it is away."""

import threading
import time
from typing import ClassVar

import redis
import structlog
from django.conf import settings
from limits import RateLimitItemPerSecond
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView

logger = structlog.get_logger(__name__)
REST = 5  # s; after a failure Valkey is left alone for so long, lest every request pay its time-out

_making = threading.Lock()  # racing first requests each made a limiter, and CPython 3.11 crashed in its hit()


class ValkeyThrottle(SimpleRateThrottle):
    """At most so many requests of each caller over a moving window. A throttle names its rate and its callers."""

    scope: str
    _limiter: ClassVar[MovingWindowRateLimiter | None] = None
    _resting_until: ClassVar[float] = 0.0

    def caller(self, request: Request) -> str:
        """Return whose requests are counted together."""
        raise NotImplementedError

    def allow_request(self, request: Request, view: APIView) -> bool:
        if self.rate is None or time.monotonic() < ValkeyThrottle._resting_until:
            return True
        requests, seconds = self.parse_rate(self.rate)
        self.item = RateLimitItemPerSecond(requests or 0, seconds, self.scope)
        self.who = self.caller(request)
        try:
            return self.limiter.hit(self.item, settings.ENVIRONMENT, self.who)
        except redis.RedisError as error:
            ValkeyThrottle._resting_until = time.monotonic() + REST
            logger.warning("throttle_open", reason=type(error).__name__, seconds=REST)
            return True

    def wait(self) -> float | None:
        try:
            reset = self.limiter.get_window_stats(self.item, settings.ENVIRONMENT, self.who).reset_time
        except redis.RedisError:
            return None
        return max(1.0, reset - time.time())

    @property
    def limiter(self) -> MovingWindowRateLimiter:
        with _making:
            if ValkeyThrottle._limiter is None:
                pool = redis.ConnectionPool.from_url(
                    settings.REDIS_URL,
                    **settings.REDIS_OPTIONS,
                )
                storage = RedisStorage("redis://", connection_pool=pool)
                ValkeyThrottle._limiter = MovingWindowRateLimiter(storage)
        return ValkeyThrottle._limiter


class FundCreateThrottle(ValkeyThrottle):
    """``FUND_CREATE_RATE`` fund creations per user, replays included."""

    scope = "fund-create"

    def get_rate(self) -> str:
        rate: str = settings.FUND_CREATE_RATE
        return rate

    def caller(self, request: Request) -> str:
        return str(request.user.pk)


class TelemetryThrottle(ValkeyThrottle):
    """``TELEMETRY_RATE`` batches of telemetry per client address; ``TRUSTED_PROXIES`` says whose word that is."""

    scope = "telemetry"

    def get_rate(self) -> str:
        rate: str = settings.TELEMETRY_RATE
        return rate

    def caller(self, request: Request) -> str:
        return str(self.get_ident(request))
