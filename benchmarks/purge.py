"""Effect of the purge on creates: measured with `manage.py purge_idempotency_keys` beside them and without, in turn.

The purge is a process of its own, as a person or cron starts it; the Celery task calls the same function.
"""

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from benchmarks import report
from benchmarks.bodies import fund
from benchmarks.figures import Sample, ratios, rotated, summary
from benchmarks.filling import check_space, fill_expired, fill_live
from benchmarks.report import SPEED_COLUMNS, described, speed_row, spread, table
from benchmarks.rounds import SERVED, Say, creating
from benchmarks.servers import Site, serving
from benchmarks.stack import PROJECT, Stack, machine, stack

ALONE, BESIDE = "create alone", "create beside a purge"
PACE_MAX = 60_000  # keys per second: a batch of 1,000 and its pause take longer than 17 ms
START_TIMEOUT = 60  # s until the purge has deleted something; it imports Django first
STOP_TIMEOUT = 10  # s
POLL = 0.01  # s
OLDEST = "SELECT expires_at FROM idempotency_store ORDER BY expires_at LIMIT 1"
EXPIRED = "SELECT count(*) FROM idempotency_store WHERE expires_at <= now()"


@dataclass
class Purged:
    """The figures of a run. ``pace``: keys deleted per second beside the creates, round by round."""

    described: dict[str, str]
    seconds: float
    samples: dict[str, list[Sample]] = field(default_factory=lambda: {ALONE: [], BESIDE: []})
    pace: list[float] = field(default_factory=list)


class PurgeEnded(Exception):
    """The purge did not last as long as it was to be measured."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keys", type=int, default=1_000_000, help="expired ones, and as many live ones (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds",
        type=float,
        default=3.0,
        help="of each in each round, less where --keys are too few for so long",
    )


def run(options: argparse.Namespace, say: Say) -> None:
    """Measure, print, and write purge.md and purge.json. Raises TooLittleSpace and PurgeEnded."""
    found = _measured(options, say)
    settings = {
        "command": report.command(),
        "keys": f"{options.keys:,} expired and {options.keys:,} live",
        "rounds": str(options.rounds),
        "seconds": f"{found.seconds:.2f}",
        **found.described,
    }
    report.on_terminal(SPEED_COLUMNS, _speed_rows(found))
    samples = {name: [asdict(each) for each in samples] for name, samples in found.samples.items()}
    report.write(
        "purge", rendered(found, settings), {"settings": settings, "samples": samples, "pace": found.pace}
    )


def _measured(options: argparse.Namespace, say: Say) -> Purged:
    found = Purged(machine(), seconds_for(options.keys, rounds=options.rounds, seconds=options.seconds))
    check_space(2 * options.keys)
    with stack() as running:
        say(f"filling the database with {options.keys:,} expired and {options.keys:,} live keys")
        fill_expired(running, options.keys, say)
        fill_live(running, options.keys, say)
        with serving(Site("purged"), running) as server:
            create = creating(server, "/api/funds", token=running.token(), body=fund())
            create(found.seconds)  # warms up
            for number in range(options.rounds):
                say(f"round {number + 1} of {options.rounds}")
                for name in rotated((ALONE, BESIDE), number):
                    if name == ALONE:
                        found.samples[ALONE].append(create(found.seconds))
                        continue
                    with _purging(running):
                        before, began = _count(running), time.perf_counter()
                        found.samples[BESIDE].append(create(found.seconds))
                        took = time.perf_counter() - began
                        found.pace.append((before - _count(running)) / took)
    return found


def seconds_for(keys: int, *, rounds: int, seconds: float) -> float:
    """Return the seconds that a round may last, so that the expired keys outlast the fastest purge. Pure."""
    return min(seconds, keys / (rounds * PACE_MAX))


@contextmanager
def _purging(stack: Stack) -> Iterator[None]:
    """Purge from before the context begins, by a first batch, until after it ends.

    The purge is stopped by SIGTERM, as it may be at any time. Raises PurgeEnded when it ended by itself.
    """
    oldest = _first(stack, OLDEST)
    with subprocess.Popen(
        [sys.executable, "manage.py", "purge_idempotency_keys"],
        cwd=PROJECT,
        env=stack.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as purge:
        try:
            deadline = time.monotonic() + START_TIMEOUT
            while _first(stack, OLDEST) == oldest:
                if purge.poll() is not None or time.monotonic() > deadline:
                    raise PurgeEnded(f"it deleted nothing, and ended with {purge.poll()}")
                time.sleep(POLL)
            yield
            if purge.poll() is not None:
                raise PurgeEnded("it was through before the round was: give more --keys, or fewer --seconds")
        finally:
            purge.send_signal(signal.SIGTERM)
            try:
                purge.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                purge.kill()


def _first(stack: Stack, query: str) -> object:
    with stack.superuser() as connection:
        row = connection.execute(query).fetchone()
    return row[0] if row else None


def _count(stack: Stack) -> int:
    return int(str(_first(stack, EXPIRED)))


def _speed_rows(found: Purged) -> list[list[str]]:
    whats = {ALONE: "new keys, nothing else", BESIDE: "new keys, and manage.py purge_idempotency_keys"}
    return [speed_row(name, whats[name], samples) for name, samples in found.samples.items()]


def rendered(found: Purged, settings: dict[str, str]) -> list[str]:
    """Return the lines of purge.md."""
    alone, beside = found.samples[ALONE], found.samples[BESIDE]
    compared = {
        "rate beside / alone": summary(ratios(beside, alone)),
        "p99 beside / alone": summary([b.p99 / a.p99 for a, b in zip(alone, beside, strict=True)]),
    }
    pace = summary(found.pace)
    return [
        "# Creates beside a purge",
        "",
        *described(settings),
        f"Creates under new keys, on {SERVED}: alone, and while",
        "`manage.py purge_idempotency_keys` deletes expired keys, a process of its own. The Celery task calls the same",
        "function. Both in turn, round after round, and each first in every other round. The purge is started before",
        "its round, which begins with the first deleted batch, and lasts longer than the round; autovacuum is on. The",
        "keys were filled in by SQL (`benchmarks/filling.py`), the expired ones over the last day.",
        "",
        *table(SPEED_COLUMNS, _speed_rows(found)),
        *table(
            ("ratio", "median", "spread"), [(n, f"{r.median:.2f}", spread(r, 2)) for n, r in compared.items()]
        ),
        f"Deleted meanwhile: {pace.median:,.0f} keys per second ({pace.lowest:,.0f} to {pace.highest:,.0f}).",
    ]
