"""Django's cache on Valkey. While Valkey is away, the cache is empty and raises no error."""

from typing import Any

from django.core.cache.backends.redis import RedisCache, RedisCacheClient

from fundapi.web.valkey import breaker, client


class BytesSerializer:
    """Store bytes as they are. Django's own serializer unpickles, so write access to Valkey would run code here."""

    def dumps(self, value: bytes) -> bytes:
        return value

    def loads(self, data: bytes) -> bytes:
        if not isinstance(data, bytes):
            raise TypeError(f"a stored value is {type(data).__name__}")  # a garbled answer
        return data


class SharedClient(RedisCacheClient):
    """Use the client of the process. Django makes one for every command, which takes as long as the command."""

    def get_client(self, key: Any = None, *, write: bool = False) -> Any:
        return client


class FailOpenCache(RedisCache):
    """A cache that is empty while Valkey is away: its users ask PostgreSQL instead."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._class = SharedClient

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        return breaker.call(default, super().get, key, default, version)

    def add(self, *args: Any, **kwargs: Any) -> bool:
        return bool(breaker.call(False, super().add, *args, **kwargs))  # noqa: FBT003

    def set(self, *args: Any, **kwargs: Any) -> None:
        breaker.call(None, super().set, *args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> bool:
        # Also while the circuit is open: an operator's change is rare, and other processes may serve what is stored.
        return bool(breaker.attempt(False, super().delete, *args, **kwargs))  # noqa: FBT003
