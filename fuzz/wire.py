"""Bytes over a socket, and the answers: without an HTTP library, which would correct the bytes."""

import re
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field

TIMEOUT = 20.0  # s for one answer; a server on a busy machine needs a few
GRACE = 0.03  # s for an answer to an incomplete request, before we hang up
STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?")
FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*)")
BODILESS = {204, 304}


class NotHTTP(Exception):
    """The server sent bytes that are no HTTP."""


class Incomplete(Exception):
    """The answer is not complete yet."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer; the names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Exchange:
    """The answers of one connection; ``rest`` holds the bytes of an incomplete answer."""

    answers: list[Answer] = field(default_factory=list)
    rest: bytes = b""
    reset: bool = False  # by the server, which may lose an answer on its way
    hung: bool = False  # no answer, and no hanging up, in time


def parse(data: bytes, *, bodiless: bool = False) -> tuple[Answer, bytes]:
    """Return the first answer and the bytes after it; ``bodiless``: it may be the answer to a HEAD.

    Raises:
        Incomplete: more bytes may complete it.
        NotHTTP: no bytes can complete it.
    """
    head, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        raise Incomplete
    first, *lines = head.split(b"\r\n")
    status_line = STATUS_LINE.fullmatch(first)
    fields = [FIELD.fullmatch(line) for line in lines]
    if status_line is None or not all(fields):
        raise NotHTTP(repr(head[:200]))
    headers = {each[1].decode().lower(): each[2].decode("latin-1").strip() for each in fields if each}
    status = int(status_line[1])
    if status < 200 or status in BODILESS or (bodiless and not rest):
        return Answer(status, headers, b""), rest
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body, rest = _dechunk(rest)
        return Answer(status, headers, body), rest
    length = int(headers.get("content-length", "0"))
    if len(rest) < length:
        raise Incomplete
    return Answer(status, headers, rest[:length]), rest[length:]


def _dechunk(data: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        size_line, found, data = data.partition(b"\r\n")
        if not found:
            raise Incomplete
        try:
            size = int(size_line.partition(b";")[0], 16)
        except ValueError:
            raise NotHTTP(f"a chunk of the size {size_line[:20]!r}") from None
        if len(data) < size + 2:
            raise Incomplete
        body, data = body + data[:size], data[size + 2 :]
        if not size:
            return body, data


def exchange(port: int, parts: tuple[bytes, ...], *, promised: int, pause: float = 0.0) -> Exchange:
    """Send ``parts`` with a pause between them, wait for ``promised`` answers, and hang up.

    Raises:
        OSError: the server accepts no connection.
        NotHTTP: the answer is no HTTP.
    """
    seen = Exchange()
    bodiless = b"".join(parts)[:5] == b"HEAD "
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for number, part in enumerate(parts):
                if number:
                    time.sleep(pause)
                connection.sendall(part)
        except OSError:  # refused half-way: there may be an answer that says why
            seen.reset = True
        ended = _receive(connection, seen, bodiless=bodiless, until=promised or 1, timeout=_timeout(promised))
        if not ended:
            seen.hung = len(_final(seen)) < promised
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            seen.hung |= not _receive(connection, seen, bodiless=bodiless, until=None, timeout=TIMEOUT)
    return seen


def _timeout(promised: int) -> float:
    return TIMEOUT if promised else GRACE


def _final(seen: Exchange) -> list[Answer]:
    return [answer for answer in seen.answers if answer.status >= 200]


def _receive(
    connection: socket.socket, seen: Exchange, *, bodiless: bool, until: int | None, timeout: float
) -> bool:
    """Read until there are ``until`` final answers, or to the end; return True if the server hung up."""
    deadline = time.monotonic() + timeout
    while until is None or len(_final(seen)) < until:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            chunk = connection.recv(1 << 16)
        except TimeoutError:
            return False
        except OSError:
            seen.reset = True
            chunk = b""
        seen.rest += chunk
        _take_answers(seen, bodiless=bodiless)
        if not chunk:
            return True
    return False


def _take_answers(seen: Exchange, *, bodiless: bool) -> None:
    with suppress(Incomplete):
        while seen.rest:
            answer, seen.rest = parse(seen.rest, bodiless=bodiless)
            seen.answers.append(answer)
