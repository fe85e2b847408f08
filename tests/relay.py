"""A bad network: an HTTP relay in front of a server, where each POST of a fund meets the next fault of a list."""

import http.client
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

FUNDS = "/api/funds"
GAVE_UP = 30  # s after which a client that waits for an answer is left alone
RUNNING = b'{"status": 409, "code": "idempotency_request_in_progress", "detail": "It is still running."}'
# Answers that are not the server's: nothing is forwarded.
FOREIGN: dict[str, tuple[int, dict[str, str], bytes]] = {
    "blocked": (403, {"Content-Type": "text/html"}, b"<h1>403 Blocked</h1>"),
    "closed": (503, {"Retry-After": "86400"}, b""),
    "gateway": (503, {"Content-Type": "text/html"}, b"<h1>503 Service Unavailable</h1>"),
    "maintenance": (200, {"Content-Type": "application/json"}, b'{"status": "maintenance"}'),
    "moved": (301, {"Location": "https://funds.example/api/funds"}, b""),
    "running": (409, {"Content-Type": "application/problem+json", "Retry-After": "1"}, RUNNING),
}


@dataclass(frozen=True)
class Seen:
    """A POST of a fund: when (s) it arrived, its key and body, and the fault that it met; ``""`` is none."""

    at: float
    key: str | None
    body: bytes
    fault: str


class Relay(ThreadingHTTPServer):
    """Forwards to ``target`` from a free port of 127.0.0.1, until the end of the context.

    Faults of requests that the server has carried out: ``lost`` (no answer), ``torn`` (half of it), ``cut`` (half
    of it, with the length of the half), ``late`` (none before the client gives up). Those of FOREIGN never reach it.
    """

    daemon_threads = True

    def __init__(self, target: str, *faults: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.target = urlsplit(target).netloc
        self.faults = list(faults)
        self.seen: list[Seen] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """Print nothing: clients that give up are part of the plan."""


class _Handler(BaseHTTPRequestHandler):
    server: Relay

    def do_GET(self) -> None:
        self._forward("", b"")

    def do_OPTIONS(self) -> None:
        """A browser asks before it sends to another origin."""
        self._forward("", b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != FUNDS:
            return self._forward("", body)
        fault = self.server.faults.pop(0) if self.server.faults else ""
        self.server.seen.append(Seen(time.monotonic(), self.headers["Idempotency-Key"], body, fault))
        if fault in FOREIGN:
            self._answer(*FOREIGN[fault])
        else:
            self._forward(fault, body)
        return None

    def _forward(self, fault: str, body: bytes) -> None:
        upstream = http.client.HTTPConnection(self.server.target, timeout=GAVE_UP)
        upstream.request(self.command, self.path, body, dict(self.headers))
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        if fault == "late":
            self.connection.settimeout(GAVE_UP)
            with suppress(OSError):
                self.connection.recv(1)
        elif fault != "lost":
            half = len(content) // 2
            if fault == "cut":
                content = content[:half]
            self._answer(answer.status, answer.msg, content, half if fault == "torn" else None)

    def _answer(
        self, status: int, headers: dict[str, str] | Message, content: bytes, length: int | None = None
    ) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in {"content-length", "connection", "transfer-encoding"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content[:length])

    def log_message(self, *_: Any) -> None:
        """Print nothing."""
