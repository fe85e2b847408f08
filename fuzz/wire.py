"""Bytes over a socket, and what comes back: no library between that would tidy them up."""

import re
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field

PATIENCE = 20.0  # s for one answer; a server on a busy machine needs a few, one that hangs gets no more
GRACE = 0.03  # s for a word on what is no whole request, before we hang up
STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?")
FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*)")
BODILESS = {204, 304}


class NotHTTP(Exception):
    """The server has sent something that is no answer."""


class Incomplete(Exception):
    """There is more to come."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; the names of its headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Exchange:
    """Answers of one connection; ``rest`` holds the bytes that make no whole answer."""

    answers: list[Answer] = field(default_factory=list)
    rest: bytes = b""
    reset: bool = False  # by the server, which may lose an answer on its way
    hung: bool = False  # no answer, and no hanging up, in time


def parse(data: bytes, *, bodiless: bool = False) -> tuple[Answer, bytes]:
    """Return the first answer and the bytes behind it; ``bodiless``: it may answer a HEAD.

    Raises:
        Incomplete: it is not whole yet.
        NotHTTP: it never will be.
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
    """Send ``parts`` with a pause between them, wait for as many answers as are promised, and hang up.

    Raises:
        OSError: the server takes no connection.
        NotHTTP: what it says is no HTTP.
    """
    seen = Exchange()
    bodiless = b"".join(parts)[:5] == b"HEAD "
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for number, part in enumerate(parts):
                if number:
                    time.sleep(pause)
                connection.sendall(part)
        except OSError:  # refused half-way: there may be an answer that says why
            seen.reset = True
        ended = _receive(
            connection, seen, bodiless=bodiless, until=promised or 1, patience=_patience(promised)
        )
        if not ended:
            seen.hung = len(_final(seen)) < promised
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            seen.hung |= not _receive(connection, seen, bodiless=bodiless, until=None, patience=PATIENCE)
    return seen


def _patience(promised: int) -> float:
    return PATIENCE if promised else GRACE


def _final(seen: Exchange) -> list[Answer]:
    return [answer for answer in seen.answers if answer.status >= 200]


def _receive(
    connection: socket.socket, seen: Exchange, *, bodiless: bool, until: int | None, patience: float
) -> bool:
    """Read until so many final answers are there, or to the end; tell whether the server has hung up."""
    deadline = time.monotonic() + patience
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
