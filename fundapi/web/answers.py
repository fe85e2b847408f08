"""The last step of an answer: clients who read it slowly, or never, hold few threads of the process.

An answer in one piece is handed over to Granian at once. A stream, here a static file, keeps its thread until the
client has read it: 500 clients that asked for a file of 1.5 MiB and read nothing stopped two processes until they
went away.
"""

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from django.http import HttpResponse, StreamingHttpResponse

from fundapi.web.serve import STREAMS

# bytes of a stream that leaves in one piece: pages' own modules do, the admin's style sheet does not
PIECE_MAX = 64 * 1024
# ms for a client to take in or acknowledge anything. Trickling readers outlast it: a proxy has to read for them.
READING_TIMEOUT = 30_000
# s of silence before the kernel asks whether the client is there, and between two questions. A client that does not
# answer any for READING_TIMEOUT is gone.
KEEPALIVE = 15

_streams = threading.Semaphore(STREAMS)


class Stream:
    """A stream that counts as one of STREAMS until it is closed."""

    def __init__(self, response: StreamingHttpResponse) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._response)

    def close(self) -> None:
        _streams.release()
        self._response.close()


class Answers:
    """A WSGI application that has Django answer, and bounds what its streams hold."""

    def __init__(self, django: WSGIApplication) -> None:
        self._django = django

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        response = self._django(environ, start_response)
        if isinstance(response, HttpResponse):
            body = [response.content]
        elif not isinstance(response, StreamingHttpResponse):
            return response
        elif int(response.headers.get("Content-Length", PIECE_MAX + 1)) <= PIECE_MAX:
            body = [b"".join(response)]
        elif _streams.acquire(blocking=False):
            return Stream(response)
        else:
            start_response("503 Service Unavailable", [("Content-Type", "text/plain"), ("Retry-After", "2")])
            body = [b"Too many clients read large files slowly. Try again."]
        response.close()
        return body


def limit_reading_time(descriptors: Path) -> bool:
    """Have the kernel close connections whose clients read nothing; return whether there is a server's socket already.

    And those whose clients vanished: half a body of one would occupy a reader for ever (``fundapi.web.overload``).
    Granian has no time-out for either. Its connections inherit the options from the socket on which it listens. Does
    nothing on macOS, which has no such options.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    found = option is None
    for descriptor in descriptors.iterdir():
        with suppress(OSError):  # closed meanwhile, or of another family
            # Only of sockets: of another file, fromfd would leave its copy open.
            if descriptor.is_socket() and option is not None:
                with socket.fromfd(int(descriptor.name), socket.AF_INET, socket.SOCK_STREAM) as each:
                    if each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                        each.setsockopt(socket.IPPROTO_TCP, option, READING_TIMEOUT)
                        each.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE)
                        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE)
                        found = True
    return found
