"""Django's cache on Valkey, where a Valkey that is away is an empty cache and not an error."""

from collections.abc import Callable
from typing import Any

import redis
import structlog
from django.core.cache.backends.redis import RedisCache

logger = structlog.get_logger(__name__)


class FailOpenCache(RedisCache):
    """What is not in it is asked of PostgreSQL; what cannot be put into it is asked again."""

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        return self._or(default, super().get, key, default, version)

    def add(self, *args: Any, **kwargs: Any) -> bool:
        return bool(self._or(False, super().add, *args, **kwargs))  # noqa: FBT003

    def set(self, *args: Any, **kwargs: Any) -> None:
        self._or(None, super().set, *args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> bool:
        return bool(self._or(False, super().delete, *args, **kwargs))  # noqa: FBT003

    @staticmethod
    def _or(default: Any, operation: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return operation(*args, **kwargs)
        except redis.RedisError as error:
            logger.warning("cache_away", reason=type(error).__name__)
            return default
