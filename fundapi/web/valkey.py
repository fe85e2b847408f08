"""Valkey for requests: one client, and one circuit breaker, for all threads of a process.

A Valkey that hangs must not take a worker's threads. So after one failure nobody asks it (the circuit is open), and a
thread in the background tries a write every ``PAUSE`` seconds until one succeeds. An outage costs a process a few
time-outs, and not each request one.

Two things have no time-out in redis-py: looking up a name, and an answer that comes byte by byte. :class:`_Timed` adds
them. It leans on ``_connect()`` of redis-py's connections, and on what its parsers call on a socket; :class:`_Pool` on
the collections of its pool, and their lock.
"""

import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import redis
import structlog
from django.conf import settings
from redis.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.sentinel import Sentinel

from fundapi.addresses import Sentinels, sentinels
from fundapi.metrics import valkey_failures

logger = structlog.get_logger(__name__)
T = TypeVar("T")
PAUSE = 1  # s between attempts while the circuit is open
# No limit: a thread has one at a time. redis-py's own, 100, would be a failure of Valkey with more WEB_THREADS.
CONNECTIONS_MAX = 2**31
PROBE_KEPT = 60  # s; so long the key of a probe stays
TIMEVAL = struct.Struct("@ll")  # seconds and microseconds, as the kernel has them
SHORT = 16_384  # bytes of a command that sockets take in at once; for a longer one, the kernel may begin its time anew

# The states of Valkey, as /health has them.
STATES = OK, UNAVAILABLE, READ_ONLY, FULL = "ok", "unavailable", "read-only", "full"
# First words of errors of a server that answers and refuses writes: a replica, a full disk, too few replicas.
NO_WRITES = ("READONLY", "MISCONF", "NOREPLICAS")


class _Socket:
    """A socket whose answer takes one time-out at most; redis-py's starts again with every piece of it.

    The kernel keeps the time of a command, and of the first piece of its answer, which is mostly all of it. A time-out
    of Python's costs three system calls instead of one, and each of them gives the interpreter's lock away. TLS, long
    commands, and the rest of a long answer have Python's. A signal that interrupts the kernel begins its time anew.
    """

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._sock, self._seconds = sock, seconds
        self._end = 0.0
        self._is_first = False  # whether nothing has come since the last command
        self._by_kernel = not isinstance(sock, ssl.SSLSocket)
        # The parser asks for both before each command.
        self.fileno, self.pending = sock.fileno, getattr(sock, "pending", int)
        if self._by_kernel:
            limit = TIMEVAL.pack(int(seconds), int(seconds % 1 * 1e6) or 1)  # 0 would mean: for ever
            sock.settimeout(None)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendall(self, data: bytes) -> None:
        self._end = time.monotonic() + self._seconds
        self._is_first = self._by_kernel and len(data) <= SHORT
        sent = self._now(self._sock.send, data) if self._is_first else 0
        if sent < len(data):
            with self._until_the_end():
                self._sock.sendall(memoryview(data)[sent:])

    def recv_into(self, buffer: bytearray) -> int:
        if self._is_first:
            self._is_first = False
            return self._now(self._sock.recv_into, buffer)
        with self._until_the_end():
            return self._sock.recv_into(buffer)

    def _now(self, operation: Callable[[Any], int], data: Any) -> int:
        try:
            return operation(data)
        except BlockingIOError:
            raise TimeoutError("timed out") from None

    @contextmanager
    def _until_the_end(self) -> Iterator[None]:
        self._sock.settimeout(max(self._end - time.monotonic(), 0.001))  # 0 would mean: do not wait
        try:
            yield
        finally:
            if self._by_kernel:
                self._sock.settimeout(None)


class _Timed(AbstractConnection):
    """A connection of redis-py that is made, with its look-up of a name, within ``REDIS_TIMEOUT``.

    With sentinels, it goes to the server that they name then. redis-py's own pool would wait for each of them in turn.
    """

    def __init__(self, *, guards: Sentinels | None, **options: Any) -> None:
        super().__init__(**options)
        self._guards = guards

    def _connect(self) -> _Socket:
        made: Future[socket.socket] = Future()

        def connect() -> None:
            try:
                if self._guards:
                    self.host, self.port = _primary(self._guards)
                made.set_result(super(_Timed, self)._connect())  # type: ignore[no-untyped-call,safe-super]  # redis-py
            except Exception as error:  # noqa: BLE001 - raised again where it is waited for
                made.set_exception(error)

        threading.Thread(target=connect, daemon=True).start()
        try:
            return _Socket(made.result(settings.REDIS_TIMEOUT), settings.REDIS_TIMEOUT)
        except TimeoutError:
            made.add_done_callback(_close)
            raise


def _primary(guards: Sentinels) -> tuple[str, int]:
    """Return the place of the primary. The sentinel that answers is the first to be asked the next time."""
    options = settings.REDIS_OPTIONS | guards.options
    with Sentinel(guards.hosts, sentinel_kwargs=options) as asked:  # type: ignore[no-untyped-call]  # redis-py
        host, port = asked.discover_master(guards.service)
        known = asked.sentinels[0].connection_pool.connection_kwargs
    first = known["host"], known["port"]
    guards.hosts = [first, *(each for each in guards.hosts if each != first)]
    return host, port


def _close(made: Future[socket.socket]) -> None:
    """Close a socket that came too late."""
    if made.exception() is None:
        made.result().close()


class _TimedConnection(_Timed, Connection):
    pass


class _TimedSSLConnection(_Timed, SSLConnection):
    pass


class _TimedUnixConnection(_Timed, UnixDomainSocketConnection):
    pass


_TIMED = {
    Connection: _TimedConnection,
    SSLConnection: _TimedSSLConnection,
    UnixDomainSocketConnection: _TimedUnixConnection,
}


class _Pool(redis.ConnectionPool):
    """A pool that lends connections without redis-py's metrics and events, which take a third of a command's time."""

    def get_connection(self, *args: Any, **options: Any) -> Any:
        self._checkpid()
        with self._lock:
            connection = self._available_connections.pop() if self._available_connections else None
            if connection is not None:
                self._in_use_connections.add(connection)
        if connection is None:
            return super().get_connection(*args, **options)
        with suppress(Exception):  # whatever it is: as below
            if connection.is_connected and not connection.can_read():
                return connection
        # Valkey has closed it, or said what nobody asked for, which redis-py might give to the next caller.
        connection.disconnect()
        self.release(connection)
        return super().get_connection(*args, **options)

    def release(self, connection: Any) -> None:
        if connection.pid != os.getpid() or connection.should_reconnect():
            super().release(connection)
            return
        with self._lock:
            # It is not after a second release, or a reset of the pool.
            if connection in self._in_use_connections:
                self._in_use_connections.remove(connection)
                self._available_connections.append(connection)


def _client() -> redis.Redis:
    guards = sentinels(settings.REDIS_URL)
    address = guards.server if guards else settings.REDIS_URL
    options = {**settings.REDIS_OPTIONS, "max_connections": CONNECTIONS_MAX}
    pool = _Pool.from_url(address, **options, guards=guards)
    pool.connection_class = _TIMED[pool.connection_class]
    return redis.Redis(connection_pool=pool)


class Breaker:
    """A circuit breaker: calls pass while the state is ``ok``, and are not made while it is anything else."""

    def __init__(self) -> None:
        self.state = OK
        self._lock = threading.Lock()

    def call(self, default: T, operation: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Return what an operation on Valkey returns, or ``default`` when it fails or the circuit is open."""
        return default if self.state != OK else self.attempt(default, operation, *args, **kwargs)

    def attempt(self, default: T, operation: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Do the same, also while the circuit is open."""
        try:
            return operation(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - a garbled answer may end in any error of a parser
            self._failed(error)
            return default

    def _failed(self, error: Exception) -> None:
        valkey_failures.labels(_state(error)).inc()
        with self._lock:
            opens = self.state == OK
            self._change(_state(error), type(error).__name__)
        if opens:
            threading.Thread(target=self._recover, daemon=True).start()

    def _recover(self) -> None:
        """Try a write until one succeeds, then close the circuit. Connections from before may never answer again."""
        while True:
            time.sleep(PAUSE)
            client.connection_pool.disconnect(inuse_connections=False)
            try:
                probe()
            except Exception as error:  # noqa: BLE001 - as above
                self._failed(error)
            else:
                with self._lock:
                    self._change(OK)
                return

    def _change(self, state: str, reason: str = "") -> None:
        """Take a state, and log it if it is a new one. The text of an error may hold addresses and names of users."""
        if state == self.state:
            return
        self.state = state
        if state == OK:
            logger.info("valkey_back")
        else:
            logger.warning(
                "valkey_not_usable", state=state, reason=reason, meanwhile="throttle_open, cache empty"
            )


def probe() -> None:
    """Write a key, as the broker must be able to. Raises redis.RedisError."""
    if client.set(f"{settings.ENVIRONMENT}.probe", b"1", ex=PROBE_KEPT) is not True:
        raise redis.InvalidResponse


def state() -> str:
    """Return the state of Valkey: by a write, unless the circuit is open already."""
    breaker.call(None, probe)
    return breaker.state


def _state(error: Exception) -> str:
    if isinstance(error, redis.OutOfMemoryError):
        return FULL
    if isinstance(error, redis.ReadOnlyError) or str(error).startswith(NO_WRITES):
        return READ_ONLY
    return UNAVAILABLE


client = _client()  # connects at first use, in a child process once more
breaker = Breaker()
# A child of a worker of Celery has none of its parent's threads.
os.register_at_fork(after_in_child=breaker.__init__)  # type: ignore[misc]  # the same object, as new
