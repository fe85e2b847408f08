"""Sixty-four clients on one key: the latency of all others, and the number of claims.

The storm comes in waves: all its clients send one request under the same new key, before the first is answered; when
all are answered, the next wave comes. The same waves with a key for each client tell the cost of the key from the
cost of the crowd.
"""

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.bodies import fund
from benchmarks.contestants import WORKERS
from benchmarks.figures import Sample
from benchmarks.load import Connection, keep_sending, posts_with_new_keys, request
from benchmarks.servers import Server, Site, serving
from benchmarks.stack import Stack

CLIENTS = 64
SECONDS_MIN = 2.0  # a wave takes a good part of a second
OTHERS = 2  # connections that create funds under keys of their own, which are measured
CALLS = """
SELECT coalesce(sum(calls), 0) FROM pg_stat_statements
WHERE query LIKE '%idempotency_claim%' AND query NOT LIKE 'EXPLAIN%'
"""


@dataclass
class Storm:
    """Outcomes of the requests of a storm."""

    waves: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    claims: int = 0

    @property
    def requests(self) -> int:
        return sum(self.statuses.values())


@dataclass(frozen=True)
class StormFigures:
    """Round by round: the others' sample in each kind of weather; and the storms themselves, added up."""

    samples: dict[str, list[Sample]]
    storms: dict[str, Storm]


def measure(stack: Stack, token: str, *, rounds: int, seconds: float) -> StormFigures:
    weathers: dict[str, Callable[[], Sequence[str]] | None] = {
        "calm": None,
        "64 clients, one key": lambda: [uuid.uuid4().hex] * CLIENTS,
        "64 clients, a key each": lambda: [uuid.uuid4().hex for _ in range(CLIENTS)],
    }
    figures = StormFigures(
        {name: [] for name in weathers}, {name: Storm() for name, keys in weathers.items() if keys}
    )
    with stack.superuser() as connection:
        connection.execute("ALTER ROLE fundapi SET pg_stat_statements.track = top")
    try:
        with serving(Site("storm"), stack, workers=WORKERS) as server:
            for number in range(rounds + 1):
                for name, keys in weathers.items():
                    sample = _round(
                        stack, server, token, keys=keys, storm=figures.storms.get(name), seconds=seconds
                    )
                    if number:
                        figures.samples[name].append(sample)
    finally:
        with stack.superuser() as connection:
            connection.execute("ALTER ROLE fundapi RESET pg_stat_statements.track")
    return figures


def _round(
    stack: Stack,
    server: Server,
    token: str,
    *,
    keys: Callable[[], Sequence[str]] | None,
    storm: Storm | None,
    seconds: float,
) -> Sample:
    others = [posts_with_new_keys("/api/funds", token=token, body=fund()) for _ in range(OTHERS)]
    before = _claims(stack)
    if keys is None or storm is None:
        return keep_sending(server.port, others, seconds=seconds, expected=201)
    with _storming(server.port, token, keys, storm):
        sample = keep_sending(server.port, others, seconds=seconds, expected=201)
    storm.claims += _claims(stack) - before - sample.count
    return sample


def _claims(stack: Stack) -> int:
    with stack.superuser() as connection:
        row = connection.execute(CALLS).fetchone()
    return int(row[0]) if row else 0


@contextmanager
def _storming(port: int, token: str, keys: Callable[[], Sequence[str]], storm: Storm) -> Iterator[None]:
    """Send waves from a thread of their own until the context ends."""
    over = threading.Event()
    connections = [Connection(port) for _ in range(CLIENTS)]

    def work() -> None:
        while not over.is_set():
            for connection, key in zip(connections, keys(), strict=True):
                connection.socket.sendall(request("POST", "/api/funds", token=token, body=fund(), key=key))
            for connection in connections:
                status = connection.read().status
                storm.statuses[status] = storm.statuses.get(status, 0) + 1
            storm.waves += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for connection in connections:
            connection.close()
