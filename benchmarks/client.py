"""A load generator that costs little: keep-alive sockets, requests made beforehand, answers read by length."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence


class Connection:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def send(self, request: bytes) -> int:
        """Send one request, read the whole answer, return its status."""
        self.socket.sendall(request)
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += self._receive()
        head, _, rest = self.buffer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        while len(rest) < length:
            rest += self._receive()
        self.buffer = rest[length:]
        return int(head[9:12])

    def _receive(self) -> bytes:
        chunk = self.socket.recv(65536)
        if not chunk:
            raise ConnectionError("the server closed the connection")
        return chunk


def run(port: int, batches: Sequence[Sequence[bytes]], expected: int) -> tuple[float, list[float]]:
    """Send each batch over a connection of its own, all at once.

    Returns requests per second, and the latency of each request in seconds. Raises on any other status.
    """
    latencies: list[list[float]] = [[] for _ in batches]
    errors: list[Exception] = []
    connections = [Connection(port) for _ in batches]
    barrier = threading.Barrier(len(batches) + 1)

    def work(connection: Connection, batch: Sequence[bytes], spent: list[float]) -> None:
        barrier.wait()
        try:
            for request in batch:
                began = time.perf_counter()
                status = connection.send(request)
                spent.append(time.perf_counter() - began)
                if status != expected:
                    errors.append(AssertionError(f"status {status} instead of {expected}"))
                    return
        except OSError as error:
            errors.append(error)

    threads = [
        threading.Thread(target=work, args=arguments)
        for arguments in zip(connections, batches, latencies, strict=True)
    ]
    for thread in threads:
        thread.start()
    barrier.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - began
    for connection in connections:
        connection.socket.close()
    if errors:
        raise errors[0]
    return sum(map(len, batches)) / elapsed, [latency for spent in latencies for latency in spent]


def request(path: str, token: str, body: bytes, key: str | None) -> bytes:
    """One HTTP/1.1 POST, ready to send."""
    return b"".join(_lines(path, token, body, key))


def _lines(path: str, token: str, body: bytes, key: str | None) -> Iterator[bytes]:
    yield f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n".encode()
    yield f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n".encode()
    if key is not None:
        yield f"Idempotency-Key: {key}\r\n".encode()
    yield b"\r\n"
    yield body
