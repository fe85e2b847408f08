"""Django's cache on Valkey. While Valkey is away, the cache is empty and raises no error."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import redis
import structlog
from django.core.cache.backends.redis import RedisCache, RedisCacheClient

logger = structlog.get_logger(__name__)


class BytesSerializer:
    """Store bytes as they are. Django's own serializer unpickles, so write access to Valkey would run code here."""

    def dumps(self, value: bytes) -> bytes:
        return value

    def loads(self, data: bytes) -> bytes:
        return data


class LastingClient(RedisCacheClient):
    """Keep one client of redis-py. Django makes one for every command, which takes as long as the command."""

    @cached_property
    def _client_of_the_server(self) -> Any:
        return super().get_client()

    def get_client(self, key: Any = None, *, write: bool = False) -> Any:
        return self._client_of_the_server


class FailOpenCache(RedisCache):
    """A cache that is empty while Valkey is away: its users ask PostgreSQL instead."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._class = LastingClient

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
