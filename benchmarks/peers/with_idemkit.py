"""The stock view with idemkit's mixin for DRF, scoped by user as its documentation asks."""

import os
from typing import Any

from django.conf import settings
from idemkit import HttpConfig, PostgresBackend, RedisBackend
from idemkit.contrib.drf import idempotent_view

from benchmarks.stock import StockFundsView


def _user(request: Any) -> str:
    return str(request.user.pk)


def _mixin(backend: Any) -> Any:
    return idempotent_view(backend=backend, config=HttpConfig(scope=_user))


class OnPostgres(_mixin(PostgresBackend.from_url(os.environ["DATABASE_URL"])), StockFundsView):
    pass


class OnValkey(_mixin(RedisBackend.from_url(settings.REDIS_URL)), StockFundsView):
    pass
