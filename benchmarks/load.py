"""A load generator that costs little: keep-alive sockets, requests made beforehand, answers read by length."""

import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count

from benchmarks.figures import Sample


class UnexpectedAnswer(Exception):
    """The server answered with an unexpected status."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str | None:
        for line in self.head.split(b"\r\n")[1:]:
            found, _, value = line.partition(b":")
            if found.lower() == name.lower().encode():
                return value.strip().decode("latin-1")
        return None


class Connection:
    """One keep-alive connection to a server on 127.0.0.1."""

    def __init__(self, port: int, *, timeout: float = 30) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def send(self, request: bytes) -> Answer:
        """Send one request and read the whole answer. Raises OSError."""
        self.socket.sendall(request)
        return self.read()

    def read(self) -> Answer:
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += self._receive()
        head, _, rest = self.buffer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        while len(rest) < length:
            rest += self._receive()
        self.buffer = rest[length:]
        return Answer(int(head[9:12]), head, rest[:length])

    def close(self) -> None:
        self.socket.close()

    def _receive(self) -> bytes:
        chunk = self.socket.recv(65536)
        if not chunk:
            raise ConnectionError("the server closed the connection")
        return chunk


def keep_sending(port: int, streams: Sequence[Iterator[bytes]], *, seconds: float, expected: int) -> Sample:
    """Send each stream over a connection of its own, one request after the other, all at once.

    Raises UnexpectedAnswer on any other status than ``expected``, and OSError.
    """
    latencies: list[list[float]] = [[] for _ in streams]
    errors: list[Exception] = []
    connections = [Connection(port) for _ in streams]
    barrier = threading.Barrier(len(streams) + 1)

    def work(connection: Connection, stream: Iterator[bytes], spent: list[float]) -> None:
        barrier.wait()
        deadline = time.perf_counter() + seconds
        try:
            while (began := time.perf_counter()) < deadline:
                answer = connection.send(next(stream))
                spent.append(time.perf_counter() - began)
                _check(answer, expected)
        except (OSError, UnexpectedAnswer) as error:
            errors.append(error)

    threads = [
        threading.Thread(target=work, args=arguments)
        for arguments in zip(connections, streams, latencies, strict=True)
    ]
    for thread in threads:
        thread.start()
    barrier.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - began
    for connection in connections:
        connection.close()
    if errors:
        raise errors[0]
    return Sample.of([latency for spent in latencies for latency in spent], elapsed)


def _check(answer: Answer, expected: int) -> None:
    if answer.status != expected:
        said = answer.body[:300].decode(errors="replace")
        raise UnexpectedAnswer(f"status {answer.status} instead of {expected}: {said}")


def ask(port: int, request: bytes, *, timeout: float = 30) -> Answer:
    """Send one request over a connection of its own."""
    with closing(Connection(port, timeout=timeout)) as connection:
        return connection.send(request)


def request(
    method: str,
    path: str,
    *,
    token: str | None = None,
    body: bytes = b"",
    key: str | None = None,
    headers: Sequence[tuple[str, str]] = (),
) -> bytes:
    """Return an HTTP/1.1 request, ready to send."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    if key is not None:
        lines.append(f"Idempotency-Key: {key}")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def posts_with_new_keys(path: str, *, token: str, body: bytes) -> Iterator[bytes]:
    """Yield the same POST, each time under a key of its own (32 hexadecimal digits: a UUID too)."""
    start = uuid.uuid4().hex
    before, _, after = request("POST", path, token=token, body=body, key=start).partition(start.encode())
    for number in count():
        yield b"%b%b%016x%b" % (before, start[:16].encode(), number, after)
