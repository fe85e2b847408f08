"""Sheds requests that could only be answered late, so that the others are answered in time.

A process works on ``WEB_THREADS`` requests at once, in as many places. The server hands it every request in a thread of
its own (``fundapi.web.serve``), and there a request waits for a place: in the order they came, ``WEB_QUEUE`` at most,
for ``WEB_QUEUE_SECONDS`` at most. When the queue is full or the wait too long, the answer is 503 with ``Retry-After``.
Nobody queues where we cannot see it, and an accepted request is answered within the time that the queue takes at most.

Django keeps a connection to PostgreSQL, and one to Valkey, for each thread. Here each place has them, and lends them to
the thread that is in: a hundred threads may wait, and four connections are open.

A body is read before that, so that a slow client takes nobody's place. Only so many may be slow at once
(``fundapi.web.serve.readers``); against more of them use a proxy that buffers (docs/reference/security.md).
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from django.conf import settings
from django.core.cache import caches
from django.db import connections
from django.http import HttpRequest, HttpResponseBase

from fundapi.metrics import requests_shed, requests_waiting
from fundapi.web.problems import refusal
from fundapi.web.serve import PROBES, readers

RETRY_AFTER = "2"  # s
TURNED_AWAY = "fundapi.turned_away"  # in the WSGI environment
WATCHED = {
    "/readyz",
    "/health",
    "/metrics",
}  # have a place to themselves: a server that is busy is not broken
LOGGED = (
    "_has_been_logged"  # Django's own mark: the line of RequestLogMiddleware is enough, and this is no error
)
FREE = {"/livez"}  # asks nobody, and needs no place


class Place:
    """What Django would keep for a thread, lent to the one that is in: ``with place: ...``."""

    def __init__(self) -> None:
        self._own: list[tuple[Any, str, Any]] = []
        for alias in connections:
            connection = connections.create_connection(alias)
            connection.inc_thread_sharing()  # one thread after another, never two at once
            self._own.append((connections, alias, connection))
        self._own += [(caches, alias, caches.create_connection(alias)) for alias in caches]

    def __enter__(self) -> None:
        for handler, alias, own in self._own:
            handler[alias] = own

    def __exit__(self, *_: object) -> None:
        for handler, alias, _own in self._own:
            del handler[alias]


class _Waiter:
    def __init__(self) -> None:
        self.place: Place | None = None
        self.called = threading.Lock()
        self.called.acquire()


class Door:
    """Gives out places, to those who wait in the order they came.

    Args:
        queue: how many may wait.
        patience: s that one waits.
    """

    def __init__(self, places: Iterable[Place], queue: int, patience: float) -> None:
        self._free = list(places)  # the last one left is the next one taken: its caches are warm
        self._length, self._patience = queue, patience
        self._queue: deque[_Waiter] = deque()
        self._lock = threading.Lock()

    def enter(self) -> Place | None:
        """Return a place, which is to be given back by :meth:`leave`; ``None``: too many wait, or it took too long."""
        with self._lock:
            if self._free:
                return self._free.pop()
            if len(self._queue) >= self._length:
                return None
            waiter = _Waiter()
            self._queue.append(waiter)
        with requests_waiting.track_inprogress():
            waiter.called.acquire(timeout=self._patience)
        with self._lock:
            if waiter.place is None:
                self._queue.remove(waiter)
        return waiter.place

    def leave(self, place: Place) -> None:
        with self._lock:
            if self._queue:
                waiter = self._queue.popleft()
                waiter.place = place  # it is theirs: nobody overtakes
                waiter.called.release()
            else:
                self._free.append(place)


class Admission:
    """A WSGI application that reads the body of a request, and finds it a place, before another one is asked."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application
        queue, patience = settings.WEB_QUEUE, settings.WEB_QUEUE_SECONDS
        self._door = Door([Place() for _ in range(settings.WEB_THREADS)], queue, patience)
        self._watched = Door([Place()], PROBES, patience)
        self._readers = threading.Semaphore(readers(settings.WEB_THREADS, queue))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path in FREE:
            return self._application(environ, start_response)
        door = self._watched if path in WATCHED else self._door
        place = door.enter() if self._read(environ) else None
        if place is None:
            environ[TURNED_AWAY] = True
            return self._application(environ, start_response)
        try:
            with place:
                return self._application(environ, start_response)
        finally:
            door.leave(place)

    def _read(self, environ: WSGIEnvironment) -> bool:
        """Read the body. A client that is slow holds a thread meanwhile, and no place; False: too many are slow.

        What is announced to be too long stays unread, and :class:`~fundapi.web.middleware.BodyLimitMiddleware` refuses
        it, wherever it goes.
        A chunked body, which Django takes for an empty one, gets the length it turns out to have: of one that is too
        long, one byte more than may be.
        """
        chunked = environ.get("HTTP_TRANSFER_ENCODING") and not environ.get("CONTENT_LENGTH")
        length = settings.BODY_LIMIT + 1 if chunked else int(environ.get("CONTENT_LENGTH") or 0)
        if not length or length > settings.BODY_LIMIT + 1:
            return True
        if not self._readers.acquire(blocking=False):
            return False
        try:
            body = environ["wsgi.input"].read(length)
        finally:
            self._readers.release()
        environ |= {"wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body) if chunked else length)}
        return True


class OverloadMiddleware:
    """Answers those who got no place."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if TURNED_AWAY not in request.META:
            return self.get_response(request)
        requests_shed.inc()
        response = refusal(request, "overloaded")
        response.headers["Retry-After"] = RETRY_AFTER
        setattr(response, LOGGED, True)
        return response
