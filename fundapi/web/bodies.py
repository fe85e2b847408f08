"""Receive the body of a request: whole, uncoded and within the limit, or not at all.

An announced length tells a part from the whole. A chunked body has none, and Granian hides how it ended: after a client
that hung up, and after a broken chunk, ``wsgi.input.read(n)`` returns what came, as after the end. Only ``read()``
without a size differs: it returns nothing unless the body came to its end. It also has no limit, and an early answer
does not stop it. So :class:`FloodWatch` hangs up on a connection that sends on and on meanwhile.

This leans on ``WSGIBody.read`` (Granian's ``src/wsgi/types.rs``) and on Linux, which counts a connection's bytes.
Elsewhere, and on servers that do not end ``wsgi.input`` themselves, chunked bodies are refused.
"""

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from wsgiref.types import WSGIEnvironment

from django.conf import settings
from django.http import HttpRequest, UnreadablePostError
from django.utils.http import parse_header_parameters

FAULT = "fundapi.fault"  # in the WSGI environment, once the body was received: a Fault or None
BODILESS = {"GET", "HEAD", "OPTIONS"}  # here a coding without a body says nothing
FORMS = {"application/x-www-form-urlencoded", "multipart/form-data"}
UTF_8 = {"utf-8", "utf8"}
DIGITS_MAX = 18  # of a length that is read as a number
DESCRIPTORS = Path("/dev/fd")
WATCH_INTERVAL = 0.05  # s; a fast network brings 6 MB meanwhile
WATCH_REST = 19  # times as long as a look took: with thousands of connections, the watch takes 5 % of a core
# Bytes of one request: a body of 256 KiB in chunks of one byte is six times as long.
FLOOD = 8 * 256 * 1024
COUNTS = struct.Struct("120x QQ")  # of Linux's tcp_info: bytes that the client acknowledged, bytes received


class Fault(NamedTuple):
    """Why a request is refused: a code of the catalogue of problems, and a sentence."""

    code: str
    detail: str


CUT = Fault("bad_request", "The body is not whole. Nothing was done: send the request again.")
ENDLESS = Fault("bad_request", "Send the body with a Content-Length: this server cannot read a chunked one.")
BAD_TYPE = Fault("bad_request", "Content-Type must be a media type, such as application/json.")
NO_LENGTH = Fault("bad_request", "Content-Length must be the number of bytes of the body.")


def fault_of_head(environ: WSGIEnvironment) -> Fault | None:
    """Return why a body of this length cannot be received."""
    text = environ.get("CONTENT_LENGTH") or "0"
    if not (text.isascii() and text.isdecimal()):
        return NO_LENGTH
    if len(text) > DIGITS_MAX or int(text) > settings.BODY_LIMIT:
        return _too_large(text)
    return None


def fault_of_coding(environ: WSGIEnvironment) -> Fault | None:
    """Return why the body cannot be read: it is compressed, or coded otherwise."""
    if not (environ.get("HTTP_CONTENT_ENCODING") or environ.get("HTTP_TRANSFER_ENCODING")):
        return None
    transfer = _codings(environ, "HTTP_TRANSFER_ENCODING")
    if environ["REQUEST_METHOD"] in BODILESS and not (transfer or int(environ.get("CONTENT_LENGTH") or 0)):
        return None
    coded = [*_codings(environ, "HTTP_CONTENT_ENCODING"), *transfer]
    if transfer[-1:] == ["chunked"]:
        coded.pop()
    names = [coding for coding in coded if coding != "identity"]
    if not names:
        return None
    return Fault(
        "unsupported_media_type",
        f"The body is coded as {', '.join(names)[:100]}. Send it uncoded (identity).",
    )


def _codings(environ: WSGIEnvironment, header: str) -> list[str]:
    words = (word.strip().lower() for word in environ.get(header, "").split(","))
    return [word for word in words if word]


def _too_large(length: str) -> Fault:
    detail = f"The body has {length[:20]} bytes; at most {settings.BODY_LIMIT} are accepted: send less."
    return Fault("body_too_large", detail)


def has_body(environ: WSGIEnvironment) -> bool:
    return environ.get("CONTENT_LENGTH", "0") not in {"", "0"} or "HTTP_TRANSFER_ENCODING" in environ


def is_unread(environ: WSGIEnvironment) -> bool:
    """Return whether :func:`receive` left a body on the connection."""
    return has_body(environ) and not isinstance(environ["wsgi.input"], BytesIO)


def receive(environ: WSGIEnvironment) -> Fault | None:
    """Read the body into memory; return why the request must be refused, or ``None``.

    A body whose announced length is over the limit stays unread. A coded one does not: an answer before the client has
    sent its body could be lost on the way.
    """
    if fault := fault_of_head(environ):
        return fault
    length = int(environ.get("CONTENT_LENGTH") or 0)
    try:
        if "HTTP_TRANSFER_ENCODING" in environ:
            body = _read_chunked(environ)
            if body is None:
                return ENDLESS
        else:
            body = environ["wsgi.input"].read(length) if length else b""
            if len(body) < length:
                return CUT
    except OSError:  # a server that tells
        return CUT
    if len(body) > settings.BODY_LIMIT:
        return _too_large(str(len(body)))
    environ |= {"wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body))}
    return fault_of_coding(environ) or _fault_of_parts(environ, body)


def _fault_of_parts(environ: WSGIEnvironment, body: bytes) -> Fault | None:
    """Refuse a form in parts without the line that ends the last one (RFC 2046): a proxy may have cut it."""
    if "multipart/form-data" not in environ.get("CONTENT_TYPE", "").lower():
        return None
    with suppress(ValueError):  # of which fault_of_type says more
        _, parameters = parse_header_parameters(environ["CONTENT_TYPE"])
        line = f"--{parameters.get('boundary')}".encode()
        if line in body and line + b"--" not in body:
            return CUT
    return None


def _read_chunked(environ: WSGIEnvironment) -> bytes | None:
    """Return a chunked body; ``None`` where the server cannot tell its end. Raises OSError if it did not end."""
    stream = environ["wsgi.input"]
    if type(stream).__module__ == "granian._granian" and hasattr(socket, "TCP_INFO"):
        with _watch:
            body: bytes = stream.read()
        if not body:  # also an empty one, which nobody needs to send in chunks
            raise OSError
        return body
    if environ.get("wsgi.input_terminated"):
        whole: bytes = stream.read(settings.BODY_LIMIT + 1)
        return whole
    return None


def fault_of(request: HttpRequest) -> Fault | None:
    """Return the fault that :func:`receive` has found, or find it where another server has not called that."""
    if FAULT in request.META:
        fault: Fault | None = request.META[FAULT]
        return fault
    if fault := fault_of_head(request.META):
        return fault
    if "HTTP_TRANSFER_ENCODING" in request.META:
        return ENDLESS
    try:
        body = request.body
    except UnreadablePostError:
        return CUT
    if len(body) < int(request.META.get("CONTENT_LENGTH") or 0):
        return CUT
    return fault_of_coding(request.META) or _fault_of_parts(request.META, body) or fault_of_type(request.META)


def fault_of_type(environ: WSGIEnvironment) -> Fault | None:
    """Have everything read as UTF-8; return why a form cannot be.

    Django decodes the query and forms with any codec of Python that a Content-Type names, and some fail before any
    middleware. JSON is UTF-8 whatever it says (RFC 8259, section 11).
    """
    try:
        media_type, parameters = parse_header_parameters(environ.get("CONTENT_TYPE", ""))
    except ValueError:
        environ["CONTENT_TYPE"] = ""
        return BAD_TYPE
    charset = parameters.pop("charset", None)
    if charset is None:
        return None
    rest = (f'{name}="{value}"' for name, value in parameters.items())
    environ["CONTENT_TYPE"] = "; ".join([media_type, *rest])
    if media_type not in FORMS or charset.lower() in UTF_8:
        return None
    return Fault("unsupported_media_type", f"The form is in '{charset[:50]}': send it in UTF-8.")


class FloodWatch:
    """``with watch: ...`` hangs up on connections that send FLOOD bytes without taking in any of an answer.

    No request is that long, so nobody else is met. A thread looks while somebody is in the block.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._needed = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            self._needed.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="floods", daemon=True)
                self._thread.start()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._needed.clear()

    def _run(self) -> None:
        ports = listening_ports()
        while self._needed.wait():
            seen: dict[int, tuple[int, int]] = {}
            while self._needed.is_set():
                started = time.perf_counter()
                # Out of descriptors for a moment: the thread must not end, nobody starts another.
                with suppress(OSError):
                    seen = look(seen, ports)
                time.sleep(max(WATCH_INTERVAL, WATCH_REST * (time.perf_counter() - started)))


def _sockets() -> Iterator[tuple[int, socket.socket]]:
    """Yield a copy of each TCP socket of this process, with its descriptor. Raises OSError."""
    for entry in DESCRIPTORS.iterdir():
        with suppress(OSError):  # closed meanwhile
            # Only of sockets: of another file, fromfd would leave its copy open.
            if entry.is_socket():
                # The copy is of one connection, whatever becomes of its number meanwhile.
                with socket.fromfd(int(entry.name), socket.AF_INET, socket.SOCK_STREAM) as each:
                    if each.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL) == socket.IPPROTO_TCP:
                        yield int(entry.name), each


def listening_ports() -> set[int]:
    """Return the ports on which this process accepts connections. Raises OSError."""
    return {
        each.getsockname()[1]
        for _, each in _sockets()
        if each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    }


def look(seen: dict[int, tuple[int, int]], ports: set[int]) -> dict[int, tuple[int, int]]:
    """Hang up on floods; return each connection's counts at its latest answer. Raises OSError.

    Args:
        seen: what the previous look returned, by descriptor.
        ports: of the server. On another connection, such as one to PostgreSQL, many bytes in a row are an answer.
    """
    latest = {}
    for number, each in _sockets():
        if each.getsockname()[1] not in ports:
            continue
        info = each.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, COUNTS.size)
        acknowledged, received = COUNTS.unpack(info)
        before = seen.get(number, (-1, 0))
        if before[0] != acknowledged or before[1] > received:
            before = (acknowledged, received)
        elif received - before[1] > FLOOD:
            with suppress(OSError):  # the client was faster
                each.shutdown(socket.SHUT_RDWR)
        latest[number] = before
    return latest


_watch = FloodWatch()
os.register_at_fork(after_in_child=_watch.__init__)  # type: ignore[misc]  # a child has none of its parent's threads
