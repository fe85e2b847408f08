"""Measure variants in turn, round after round, so that a slow moment of the machine hits all of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat

from benchmarks.cpu import used_alone
from benchmarks.figures import Sample, rotated
from benchmarks.load import UnexpectedAnswer, keep_sending, posts_with_new_keys
from benchmarks.servers import Server
from fundapi.web.serve import THREADS

CONNECTIONS = 8  # twice a worker's threads: the next request always waits
SERVED = f"one worker with {THREADS} threads, which {CONNECTIONS} connections keep busy"  # as reports say it
WARM_UP_MAX = 1.0  # s of each variant in round 0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Variant:
    """A variant to measure, and the function that measures it for so many seconds."""

    name: str
    what: str
    run: Callable[[float], Sample]


@dataclass
class Measured:
    """Each variant's sample of each round. A variant that failed in the middle is in ``failures`` only."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def measure(variants: Sequence[Variant], *, rounds: int, seconds: float, say: Say) -> Measured:
    """Measure all in turn, each round from another first one on. Round 0 warms up and does not count."""
    found = Measured({variant.name: [] for variant in variants})
    for number in range(rounds + 1):
        say(f"round {number} of {rounds}")
        for variant in rotated(variants, number):
            if variant.name in found.failures:
                continue
            try:
                sample = variant.run(seconds if number else min(seconds, WARM_UP_MAX))
            except (OSError, UnexpectedAnswer) as error:
                found.failures[variant.name] = repr(error)
                del found.samples[variant.name]
                continue
            if number:
                found.samples[variant.name].append(sample)
    return found


def creating(server: Server, path: str, *, token: str, body: bytes) -> Callable[[float], Sample]:
    """Return a measurement of the same POST, each time under a new key."""
    streams = [posts_with_new_keys(path, token=token, body=body) for _ in range(CONNECTIONS)]
    return sending(server, streams, expected=201)


def repeating(server: Server, sent: bytes, *, expected: int) -> Callable[[float], Sample]:
    """Return a measurement of one request, repeated."""
    return sending(server, [repeat(sent) for _ in range(CONNECTIONS)], expected=expected)


def sending(
    server: Server, streams: Sequence[Iterator[bytes]], *, expected: int
) -> Callable[[float], Sample]:
    """Return a measurement of these requests, with a connection for each stream."""
    workers = [worker.pid for worker in server.workers()]

    def run(seconds: float) -> Sample:
        before = sum(map(used_alone, workers))
        sample = keep_sending(server.port, streams, seconds=seconds, expected=expected)
        spent = sum(map(used_alone, workers)) - before
        return replace(sample, cpu=1000 * spent / sample.count)

    return run
