"""Overload control: answer too many requests with 503 at once, so that the others are answered in time.

A process works on ``WEB_THREADS`` requests at once. The server hands it every request in a thread of its own
(``fundapi.web.serve``), and there the request waits for one of as many slots: first come, first served, at most
``WEB_QUEUE`` requests, each for at most ``WEB_QUEUE_SECONDS``. When the queue is full or the wait too long, the answer
is 503 with ``Retry-After``. So all waiting shows in the metrics, and the time that an answer takes is bounded.

Django keeps connections to PostgreSQL and Valkey for each thread. Here each slot has them and lends them to the thread
that holds it: a hundred threads wait, and four connections are open. psycopg's pool would share them as well, at the
same cost for each request (2.1 ms of CPU for a create). But while PostgreSQL was away, each request waited for 4 s and
not for 0.01 s, and when PostgreSQL was back, requests succeeded after 15 to 19 s and not after 0.1 s.

A body is received before a request gets a slot (``fundapi.web.bodies``), so that slow clients occupy none. Only so many
clients may be slow at once (``fundapi.web.serve.readers``); against more of them use a proxy that buffers
(docs/reference/security.md).
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from django.conf import settings
from django.core.cache import caches, close_caches
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connections, reset_queries
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import HttpRequest, HttpResponseBase

from fundapi.metrics import requests_shed, requests_waiting
from fundapi.web import bodies, cutoff, demoted
from fundapi.web.problems import refusal
from fundapi.web.serve import readers

RETRY_AFTER = "2"  # s
REJECTED = "fundapi.rejected"  # in the WSGI environment
# These need no slot: they use no connection, or those of `fundapi.web.probes`.
SLOTLESS_PATHS = {"/livez", "/readyz", "/health", "/metrics"}
# Django's own mark: the line of RequestLogMiddleware is enough, and this is no error.
LOGGED = "_has_been_logged"


class Slot:
    """The connections that Django would keep for a thread, lent to the one in ``with slot: ...``."""

    def __init__(self) -> None:
        self.since = 0.0  # when a request took it, by time.monotonic(); 0: nobody has it
        self._own: list[tuple[Any, str, Any]] = []
        for alias in connections:
            connection = connections.create_connection(alias)
            connection.inc_thread_sharing()  # one thread after another, never two at once
            self._own.append((connections, alias, connection))
        self._own += [(caches, alias, caches.create_connection(alias)) for alias in caches]
        self.databases: list[BaseDatabaseWrapper] = [
            own for handler, _, own in self._own if handler is connections
        ]

    def __enter__(self) -> None:
        self.since = time.monotonic()
        for database in self.databases:
            database.close_if_unusable_or_obsolete()
        for handler, alias, own in self._own:
            handler[alias] = own

    def __exit__(self, *_: object) -> None:
        demoted.leave(self.databases)
        for database in self.databases:
            database.close_if_unusable_or_obsolete()
        for handler, alias, _own in self._own:
            del handler[alias]
        self.since = 0.0


class Turn:
    """A place in the queue. Its thread waits for ``given``, which is held until there is a slot."""

    __slots__ = ("given", "slot")

    def __init__(self) -> None:
        self.given = threading.Lock()
        self.given.acquire()
        self.slot: Slot | None = None


class SlotQueue:
    """A queue for slots: first come, first served. ``queue.Queue`` would let a newcomer overtake.

    A turn is a bare lock: with eight threads for four slots, 19 µs of CPU a request, and 39 with a ``Future``.

    Args:
        length: how many threads may wait.
        timeout: s that each waits at most.
    """

    def __init__(self, slots: Iterable[Slot], length: int, timeout: float) -> None:
        self._free = list(slots)  # the last one released is the next one taken: its caches are warm
        self._length, self._timeout = length, timeout
        self._waiting: deque[Turn] = deque()
        self._lock = threading.Lock()

    def acquire(self) -> Slot | None:
        """Return a slot, to be given to :meth:`release`; ``None`` when the queue is full or the wait too long."""
        with self._lock:
            if self._free:
                return self._free.pop()
            if len(self._waiting) >= self._length:
                return None
            turn = Turn()
            self._waiting.append(turn)
        with requests_waiting.track_inprogress():
            turn.given.acquire(timeout=self._timeout)
        with self._lock:
            if turn.slot is None:
                self._waiting.remove(turn)
            return turn.slot

    def release(self, slot: Slot) -> None:
        """Hand the slot to the thread that has waited longest, or keep it for the next one."""
        with self._lock:
            if self._waiting:
                turn = self._waiting.popleft()
                turn.slot = slot
                turn.given.release()
            else:
                self._free.append(slot)


class OverloadControl:
    """A WSGI application that reads a request's body and waits for a slot, before it calls another application."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application
        length, timeout = settings.WEB_QUEUE, settings.WEB_QUEUE_SECONDS
        self._slots = [Slot() for _ in range(settings.WEB_THREADS)]
        for slot in self._slots:
            cutoff.watch(slot.databases)
        self._requests = SlotQueue(self._slots, length, timeout)
        self._readers = threading.Semaphore(readers(settings.WEB_THREADS, length))
        # Each slot looks after its own connections, and no cache has one to close. Django searches a thread for both
        # at each end of a request: 7 % of a replay.
        request_started.disconnect(close_old_connections)
        request_finished.disconnect(close_old_connections)
        request_finished.disconnect(close_caches)
        if not settings.DEBUG:
            request_started.disconnect(reset_queries)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        received = self._receive(environ, bodies.fault_of_type(environ))
        if bodies.is_unread(environ):
            start_response = _closing(start_response)
        slotless = environ["PATH_INFO"] in SLOTLESS_PATHS
        if slotless:
            # Orchestrators and Prometheus ask by address, which ALLOWED_HOSTS cannot name. No answer depends on it.
            environ["HTTP_HOST"] = "localhost"
        if received and (slotless or environ[bodies.FAULT]):  # a refusal needs no slot either
            return self._application(environ, start_response)
        slot = self._requests.acquire() if received else None
        if slot is None:
            environ[REJECTED] = True
            return self._application(environ, start_response)
        try:
            with slot:
                return self._application(environ, start_response)
        finally:
            self._requests.release(slot)

    def held(self) -> float:
        """Return for how many s all slots have been held by the requests that hold them now; 0 when one is free."""
        since = [slot.since for slot in self._slots]
        return time.monotonic() - max(since) if all(since) else 0.0

    def _receive(self, environ: WSGIEnvironment, fault: bodies.Fault | None) -> bool:
        """Receive the body; return False when too many clients are slow to send theirs.

        :class:`~fundapi.web.middleware.BodyMiddleware` refuses a request whose body has a fault, whatever its address.
        """
        if not bodies.has_body(environ):
            environ[bodies.FAULT] = bodies.fault_of_coding(environ) or fault
            return True
        if not self._readers.acquire(blocking=False):
            return False
        try:
            environ[bodies.FAULT] = bodies.receive(environ) or fault
        finally:
            self._readers.release()
        return True


def _closing(start_response: StartResponse) -> StartResponse:
    """Have the client send its next request over another connection: the server ends this one, with a body in it."""

    def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
        return start_response(status, [*headers, ("Connection", "close")], *rest)

    return start


class OverloadMiddleware:
    """Answer the requests that got no slot with 503."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if REJECTED not in request.META:
            return self.get_response(request)
        return overloaded(request)


def overloaded(request: HttpRequest) -> HttpResponseBase:
    """Return the 503 of a request that there was no time for."""
    requests_shed.inc()
    response = refusal(request, "overloaded")
    response.headers["Retry-After"] = RETRY_AFTER
    setattr(response, LOGGED, True)
    return response
