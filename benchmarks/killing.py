"""Find out what a kill between a fund and its stored answer leaves, for any site, without knowing its code.

A proxy stands before PostgreSQL and Valkey. When it has forwarded the INSERT of a fund, it forwards so many messages
more and holds back the rest. Then the server is killed with SIGKILL, started again, and asked with the same key. With
no message more, one more, and so on, until the request is answered, the kills leave every state once that a kill after
the INSERT can leave.
"""

import re
import signal
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.load import ask
from benchmarks.peers.facts import STILL, Count, counted
from benchmarks.servers import Server, Site, serving
from benchmarks.stack import Stack
from chaos.proxy import Proxy

INSERT = re.compile(rb'INSERT INTO "?fundapi_fund"?[ (]')
KILLS_MAX = 40  # of one site; the longest known request sends half as many messages after its INSERT
ANSWER_TIMEOUT = 1.0  # s for an answer that waits for none of the messages held back
RETRY_MAX = 75.0  # s; the longest lease of a key that is known is 60
RETRY_PAUSE = 0.5  # s
AT_ONCE = 5.0  # s; a server that has just started recovers what it finds

Request = Callable[[str, str], bytes]  # a POST under this key, of a fund with this name


class Gate:
    """Let messages pass. Once armed, only so many after the INSERT of one fund, and then none."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.inserted = False  # whether the INSERT has passed
        self._lock = threading.Lock()
        self._name = b""
        self._more = 0

    def arm(self, name: str, more: int) -> None:
        """Let ``more`` messages pass after the INSERT of the fund of this name."""
        with self._lock:
            self._name, self.inserted, self._more = name.encode(), False, more
            self.closed.clear()

    def open(self) -> None:
        with self._lock:
            self._name = b""

    def lets(self, message: bytes) -> bool:
        """Return whether a message to PostgreSQL or Valkey passes."""
        with self._lock:
            if not self._name:
                return True
            if self.inserted and self._more == 0:
                self.closed.set()
                return False
            if self.inserted:
                self._more -= 1
            elif INSERT.search(message) and self._name in message:
                self.inserted = True
            return True


class Gated(Proxy):
    """A proxy that drops what a gate does not let pass: its client is killed before it could send it again."""

    def __init__(self, target: Path, gate: Gate) -> None:
        super().__init__(str(target))
        self._gate = gate

    def _to_server(self, client: socket.socket, server: socket.socket, _: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if self._gate.lets(data):
                    server.sendall(data)
        self._close(client, server)


@dataclass(frozen=True)
class Retry:
    """Outcome of a retry after a kill: the rows of its fund, and its last answer.

    ``refused``: the status of the answers before the last, if there were any. ``waited``: seconds from the kill to the
    last answer, if the retry did not get it at once.
    """

    rows: int
    status: int
    refused: int | None = None
    waited: float | None = None

    @property
    def words(self) -> str:
        if self.status >= 300:
            return f"{STILL} {self.status}"
        return str(self.status) if self.refused is None else f"{self.status} after {self.refused}"


def told(retries: Sequence[Retry]) -> str:
    """Return the outcomes in words, such as ``1 to 2 rows (1 x 200, 2 x 201 after 409 for 60 s)``. Pure."""
    answers = []
    for words, number in sorted(Counter(retry.words for retry in retries).items()):
        longest = max(retry.waited or 0 for retry in retries if retry.words == words)
        answers.append(f"{number} x {words}" + (f" for {longest:.0f} s" if longest else ""))
    rows = [retry.rows for retry in retries]
    return f"{counted(min(rows), max(rows))} ({', '.join(answers)})"


def killed(site: Site, stack: Stack, request: Request, count: Count) -> str:
    """Kill a site's server at each message after the INSERT, and return in words what the retries found.

    Raises OSError, and RuntimeError if the server does not start, or its INSERT is not seen.
    """
    gate = Gate()
    with ExitStack() as context:
        behind = _behind(gate, stack, context)
        sent: list[tuple[bytes, str, float]] = []
        answered = False
        while not answered and len(sent) < KILLS_MAX:
            name = f"Fund {uuid.uuid4().hex}"
            post = request(uuid.uuid4().hex, name)
            with serving(site, behind) as server:
                gate.arm(name, len(sent))
                answered = _answered(server, post, gate)
            if not gate.inserted:
                raise RuntimeError("sends no INSERT of the fund that could be seen")
            sent.append((post, name, time.monotonic()))
            gate.open()
        with serving(site, behind) as server, ThreadPoolExecutor(len(sent)) as pool:
            retries = [pool.submit(_retried, server.port, post, at) for post, _, at in sent]
            return told(
                [
                    replace(retry.result(), rows=count(name))
                    for retry, (_, name, _) in zip(retries, sent, strict=True)
                ]
            )


def _behind(gate: Gate, stack: Stack, context: ExitStack) -> Stack:
    """Return the services as they are reached through the gate."""
    postgres, valkey = (context.enter_context(Gated(target, gate)).port for target in stack.sockets())
    return stack.behind(postgres=postgres, valkey=valkey)


def _answered(server: Server, post: bytes, gate: Gate) -> bool:
    """Send a POST, kill the server when the gate has closed, and return whether it has answered before."""
    with ThreadPoolExecutor(2) as pool:
        answer = pool.submit(ask, server.port, post)
        closed = pool.submit(gate.closed.wait, RETRY_MAX)
        either: list[Future[Any]] = [answer, closed]
        wait(either, return_when=FIRST_COMPLETED)
        with suppress(TimeoutError, OSError):
            answer.result(ANSWER_TIMEOUT)
        answered = answer.done()
        kill(server)
        gate.closed.set()
    return answered


def kill(server: Server) -> None:
    """End a server and its workers by SIGKILL; the parent first, so that it puts none in their place."""
    parent = psutil.Process(server.process.pid)
    for process in (parent, *parent.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    server.process.wait()


def _retried(port: int, post: bytes, killed_at: float) -> Retry:
    """Send a request until it succeeds or RETRY_MAX is over. The rows are not counted yet."""
    refused: int | None = None
    began = time.monotonic()
    while True:
        status = ask(port, post, timeout=RETRY_MAX).status
        now = time.monotonic()
        if status < 300 or now - killed_at > RETRY_MAX:
            return Retry(0, status, refused, now - killed_at if now - began > AT_ONCE else None)
        refused = status
        time.sleep(RETRY_PAUSE)
