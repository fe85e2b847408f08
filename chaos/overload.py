"""More load than the server can take, and a long steady load: refusals, latencies, and growth of resources."""

import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass

import psutil

from chaos.load import Sample, quantile
from chaos.stack import Stack, running
from fundapi.embedded.home import PROJECT

TIMES = 3  # of the capacity
CROWD = 300  # clients, so that the pace does not depend on the answers
CALM_CLIENTS = 8
CALIBRATION = 8.0  # s
RECOVERY = 8.0  # s, at half of the capacity
SOAKED = 0.7  # of the capacity
MEASURE_INTERVAL = 1.0  # s between two measurements of memory, connections and table size
# Seconds: keys come and go within a soak.
SHORT_LIVED = {
    "IDEMPOTENCY_TTL": "60",
    "IDEMPOTENCY_PURGE_INTERVAL": "10",
}

# Bounds; docs/how-to/chaos.md says where they come from.
LATENCY_MAX = 3.0  # s; p99 of what is accepted: WEB_QUEUE_SECONDS, and the work itself
RECOVERED_MAX = 5.0  # s
GROWTH_MAX = 1.25  # from the first third of an overload, or the second of a soak, to the last
SLOWER_MAX = 2.0  # p99 between these thirds; the noise of a machine that does other things


@dataclass(frozen=True)
class Overload:
    """``capacity``, ``offered`` and ``accepted`` in requests/s, latencies in s.

    ``memory``: bytes of the web processes when calm, in the first third of the overload, and at its end.
    """

    capacity: float
    offered: float
    accepted: float
    shed: int
    median: float
    p99: float
    wrong: int  # neither 201 nor a 503 or 429 with Retry-After
    memory: tuple[int, int, int]
    recovered: float

    def faults(self) -> Iterator[str]:
        """Yield each bound that is exceeded, in words."""
        if not self.shed:
            yield "nothing was shed, so this was no overload"
        if self.wrong:
            yield f"{self.wrong} wrong answers"
        if not self.p99 <= LATENCY_MAX:
            yield f"the p99 of what was accepted is {self.p99:.2f} s, and at most {LATENCY_MAX:g} are accepted"
        if self.memory[2] > GROWTH_MAX * self.memory[1]:
            yield "the web processes have gone on growing"
        if self.recovered > RECOVERED_MAX:
            yield f"it recovered after {self.recovered:.1f} s, and at most {RECOVERED_MAX:g} are accepted"

    def row(self) -> dict[str, str]:
        return {
            "capacity/s": f"{self.capacity:,.0f}",
            "offered/s": f"{self.offered:,.0f}",
            "accepted/s": f"{self.accepted:,.0f}",
            "turned away": f"{self.shed:,}",
            "median ms": f"{self.median * 1000:,.0f}",
            "p99 ms": f"{self.p99 * 1000:,.0f}",
            "wrong": f"{self.wrong:,}",
            "memory MiB": " -> ".join(f"{size / 2**20:,.0f}" for size in self.memory),
            "recovered after s": f"{self.recovered:.1f}",
        }


@dataclass(frozen=True)
class Resources:
    """Resources that must not grow during a soak."""

    memory: int  # bytes of the web processes
    connections: int  # to PostgreSQL
    store: int  # bytes of the table of keys, with its indexes


@dataclass(frozen=True)
class Soak:
    """The second third of a soak compared with the last; the first warms up."""

    seconds: float
    rate: float
    requests: int
    wrong: int  # anything but 201
    p99: tuple[float, float]
    resources: tuple[Resources, Resources]  # the median of each

    def faults(self) -> Iterator[str]:
        """Yield each bound that is exceeded, in words."""
        if self.wrong:
            yield f"{self.wrong} of {self.requests} requests were not answered with 201"
        before, after = self.resources
        for name, was in asdict(before).items():
            now = asdict(after)[name]
            if now > GROWTH_MAX * was:
                yield f"{name} has grown from {was:,} to {now:,}"
        if not self.p99[1] <= SLOWER_MAX * self.p99[0]:
            yield f"the p99 has grown from {self.p99[0] * 1000:.0f} to {self.p99[1] * 1000:.0f} ms"

    def row(self) -> dict[str, str]:
        def both(values: tuple[float, float], unit: float = 1.0) -> str:
            return " -> ".join(f"{value / unit:,.0f}" for value in values)

        before, after = self.resources
        return {
            "seconds": f"{self.seconds:,.0f}",
            "requests/s": f"{self.rate:,.0f}",
            "requests": f"{self.requests:,}",
            "wrong": f"{self.wrong:,}",
            "p99 ms": both(self.p99, 0.001),
            "memory MiB": both((before.memory, after.memory), 2**20),
            "connections": both((before.connections, after.connections)),
            "keys MiB": both((before.store, after.store), 2**20),
        }


def overload(seconds: float) -> Overload:
    """Offer three times the server's capacity for ``seconds``."""
    with running(proxied=False) as stack:
        capacity = _capacity(stack)
        calm = _memory(stack)
        crowded: list[int] = []
        crowd = _load(
            stack,
            rate=TIMES * capacity,
            clients=CROWD,
            seconds=seconds,
            meanwhile=lambda: crowded.append(_memory(stack)),
        )
        after = _load(stack, rate=capacity / 2, clients=CALM_CLIENTS, seconds=RECOVERY)
    accepted = [sample for sample in crowd if sample.status == 201]
    shed = [sample for sample in crowd if sample.status in {429, 503} and sample.retry_after]
    return Overload(
        capacity=capacity,
        offered=len(crowd) / seconds,
        accepted=len(accepted) / seconds,
        shed=len(shed),
        median=quantile(accepted, 0.5),
        p99=quantile(accepted, 0.99),
        wrong=len(crowd) - len(accepted) - len(shed),
        memory=(calm, max(crowded[: len(crowded) // 3 + 1]), crowded[-1]),
        recovered=max((sample.at for sample in after if sample.status != 201), default=0.0),
    )


def soak(seconds: float) -> Soak:
    """Offer 70 % of the server's capacity for ``seconds``, while keys expire and are purged."""
    measured: list[Resources] = []
    with running(None, proxied=False, **SHORT_LIVED) as stack:
        rate = SOAKED * _capacity(stack)
        samples = _load(
            stack,
            rate=rate,
            clients=4 * CALM_CLIENTS,
            seconds=seconds,
            meanwhile=lambda: measured.append(_resources(stack)),
        )
    third = len(measured) // 3
    late = [
        [sample for sample in samples if begin <= sample.at < begin + seconds / 3]
        for begin in (seconds / 3, 2 * seconds / 3)
    ]
    return Soak(
        seconds=seconds,
        rate=len(samples) / seconds,
        requests=len(samples),
        wrong=sum(sample.status != 201 for sample in samples),
        p99=(quantile(late[0], 0.99), quantile(late[1], 0.99)),
        resources=(_median(measured[third : 2 * third]), _median(measured[2 * third :])),
    )


def _capacity(stack: Stack) -> float:
    """Return creates per second by a few clients that never pause. The first half of the time warms up."""
    samples = _load(stack, rate=0, clients=CALM_CLIENTS, seconds=CALIBRATION)
    return sum(sample.status == 201 for sample in samples if sample.at > CALIBRATION / 2) / (CALIBRATION / 2)


def _load(
    stack: Stack,
    *,
    rate: float,
    clients: int,
    seconds: float,
    meanwhile: Callable[[], None] = lambda: None,
) -> list[Sample]:
    path = stack.home.path / "samples.json"
    options = {"--port": stack.port, "--token": stack.token, "--rate": rate, "--clients": clients}
    arguments = [
        str(part) for pair in (options | {"--seconds": seconds, "--samples": path}).items() for part in pair
    ]
    with subprocess.Popen([sys.executable, "-m", "chaos.load", *arguments], cwd=PROJECT) as process:
        measured_at = time.monotonic()
        while process.poll() is None:
            stack.look_after(0.1)
            if time.monotonic() - measured_at >= MEASURE_INTERVAL:
                measured_at = time.monotonic()
                meanwhile()
    return [Sample(**each) for each in json.loads(path.read_text())]


def _memory(stack: Stack) -> int:
    """Return the resident bytes of all web processes together."""
    total = 0
    for worker in stack.web_workers():
        with suppress(psutil.NoSuchProcess):
            total += worker.memory_info().rss
    return total


def _resources(stack: Stack) -> Resources:
    with stack.postgres.superuser() as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()),"
            " pg_total_relation_size('idempotency_store')"
        ).fetchone()
    assert row is not None
    return Resources(_memory(stack), *row)


def _median(measured: list[Resources]) -> Resources:
    """Return the median of each figure."""
    if not measured:
        return Resources(0, 0, 0)
    return Resources(
        *(math.ceil(statistics.median(each)) for each in zip(*map(astuple, measured), strict=True))
    )
