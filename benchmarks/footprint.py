"""Measure the start-up time of a web server and the memory of a worker."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.servers import Server, Site, serving
from benchmarks.stack import Stack

MIB = 2**20


@dataclass(frozen=True)
class Memory:
    """Of one worker process, in MiB: resident, its share of what is shared, and what is its alone."""

    rss: float
    pss: float
    uss: float


def memory(server: Server) -> list[Memory]:
    """Measure each worker now: after requests, so that what loads late is there."""
    found = [worker.memory_full_info() for worker in server.workers()]
    return [
        Memory(info.rss / MIB, getattr(info, "pss", float("nan")) / MIB, info.uss / MIB) for info in found
    ]


def cold_starts(sites: Sequence[Site], stack: Stack, *, rounds: int) -> dict[str, list[float]]:
    """Start each site in turn, ``rounds`` times, and stop it at its first good answer to /readyz.

    Returns seconds. The first round, which fills the page cache and writes bytecode, does not count.
    """
    seconds: dict[str, list[float]] = {site.name: [] for site in sites}
    for number in range(rounds + 1):
        for site in sites:
            with serving(site, stack) as server:
                if number:
                    seconds[site.name].append(server.seconds_to_ready)
    return seconds
