"""Weigh keys in two tables, the large one partitioned by expiry, so that a purge drops most of a day.

First creates and replays on both layouts, in turn. Then, for one layout after the other: fill it, create and replay
beside a purge, purge the rest, vacuum.
"""

import argparse
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields
from itertools import cycle
from statistics import median

import psycopg

from benchmarks import report
from benchmarks.bodies import fund
from benchmarks.cpu import used
from benchmarks.figures import Sample, rotated
from benchmarks.filling import check_space, fill_expired, fill_live, without_indexes
from benchmarks.layouts import ONE, TWO, Layout
from benchmarks.load import keep_sending, posts_with_new_keys
from benchmarks.purge import seconds_for
from benchmarks.report import described, table
from benchmarks.rounds import CONNECTIONS, SERVED, WARM_UP_MAX, Say
from benchmarks.scale import stored
from benchmarks.servers import Server, Site, serving
from benchmarks.stack import Stack, machine, stack
from idempotency.store import BEGINNING

LAYOUTS = (ONE, TWO)
ACTIONS = ("create", "replay")
VACUUMS = 3  # of a purge of half the keys: autovacuum comes when a fifth of a table is dead
BATCH = 1000  # keys; IDEMPOTENCY_PURGE_BATCH_SIZE
FEW = 1_000_000  # live keys, at most: beside requests that are measured in turn, and of the step "fill"
SIZE = "SELECT pg_total_relation_size(%s::regclass)"
DEAD = "SELECT pg_stat_get_dead_tuples(%s::regclass)"
LOG = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
# After a checkpoint the first change of a page logs all of it: for a few creates, that depends on the moment alone.
NO_PAGE_IMAGES = ("ALTER SYSTEM SET full_page_writes = off", "SELECT pg_reload_conf()")
REQUESTS = ("layout", "what", "beside", "requests/s", "p50 ms", "p99 ms", "PostgreSQL CPU µs", "log bytes")
STEPS = ("layout", "step", "keys", "s", "PostgreSQL CPU µs per key", "log bytes per key")
LIFE = ("layout", "PostgreSQL CPU µs", "log bytes", "bytes on disk")


@dataclass
class Spent:
    """Seconds, seconds of PostgreSQL's CPU and bytes of its log (WAL), for so many keys or requests."""

    seconds: float = 0.0
    cpu: float = 0.0
    log: float = 0.0
    count: int = 0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(*(getattr(self, of.name) + getattr(other, of.name) for of in fields(self)))

    def each(self) -> tuple[float, float]:
        """Return µs of CPU and bytes of log for one."""
        return 1e6 * self.cpu / max(1, self.count), self.log / max(1, self.count)


@dataclass(frozen=True)
class Request:
    """The sample of one round, and what PostgreSQL spent meanwhile."""

    sample: Sample
    spent: Spent


@dataclass
class Figures:
    """The figures of a layout. ``requests``: by action and what was beside it."""

    requests: dict[str, list[Request]] = field(default_factory=dict)
    steps: dict[str, Spent] = field(default_factory=dict)
    dead: list[int] = field(default_factory=list)  # rows that each VACUUM finds
    disk: float = 0.0  # bytes of a key

    def life(self) -> tuple[float, float]:
        """Return µs of PostgreSQL's CPU and bytes of log for a key, from its INSERT to the VACUUM after its purge."""
        cpu, log = map(sum, zip(*(spent.each() for spent in self.steps.values()), strict=True))
        return cpu, log


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keys", type=int, default=2_000_000, help="of each layout, half of them expired (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of creates and of replays in each round")


def run(options: argparse.Namespace, say: Say) -> None:
    """Measure, print, and write partitions.md and partitions.json. Raises TooLittleSpace."""
    about = machine()
    found = _measured(options, say)
    settings = {
        "command": report.command(),
        "keys": f"{options.keys // 2:,} expired and {options.keys // 2:,} live in each layout",
        **about,
    }
    report.on_terminal(LIFE, life_rows(found))
    report.on_terminal(STEPS, step_rows(found))
    layouts = {name: asdict(figures) for name, figures in found.items()}
    report.write("partitions", rendered(found, settings), {"settings": settings, "layouts": layouts})


def _measured(options: argparse.Namespace, say: Say) -> dict[str, Figures]:
    found = {layout.name: Figures() for layout in LAYOUTS}
    few = min(FEW, options.keys // 10)
    check_space(options.keys + 2 * few)  # one layout after the other
    with stack() as running:
        token = running.token()
        _in_turn(running, token, few, found, options=options, say=say)
        for layout in LAYOUTS:
            with _database(running, layout, "purge") as database:
                _of_purge(database, layout, token, found[layout.name], options=options, say=say)
    return found


@contextmanager
def _database(running: Stack, layout: Layout, name: str) -> Iterator[Stack]:
    database = running.copied(f"{name}_{layout.name.replace(' ', '_')}")
    try:
        layout.make(database)
        yield database
    finally:
        database.drop()


def _in_turn(
    running: Stack, token: str, few: int, found: dict[str, Figures], *, options: argparse.Namespace, say: Say
) -> None:
    """Measure creates and replays with nothing beside them, layout by layout in each round."""
    with ExitStack() as context:
        variants = []
        for layout in LAYOUTS:
            database = context.enter_context(_database(running, layout, "turn"))
            say(f"{layout.name}: filling in {few:,} live keys")
            fill_live(database, few, say, insert=layout.insert, tables=layout.tables)
            load = context.enter_context(_serving(database, token))
            variants += [(layout, action, load) for action in ACTIONS]
        connection = context.enter_context(running.superuser())
        for statement in NO_PAGE_IMAGES:
            connection.execute(statement)
        for number in range(options.rounds + 1):
            say(f"round {number} of {options.rounds}")
            for layout, action, load in rotated(variants, number):
                request = load.run(action, options.seconds if number else min(options.seconds, WARM_UP_MAX))
                if number:
                    found[layout.name].requests.setdefault(f"{action}, nothing", []).append(request)


def _of_purge(
    database: Stack, layout: Layout, token: str, found: Figures, *, options: argparse.Namespace, say: Say
) -> None:
    """Fill a layout, create and replay beside its purge, purge the rest, and vacuum."""
    half = options.keys // 2
    few = min(FEW, half // 2)
    seconds = seconds_for(half, rounds=len(ACTIONS), seconds=options.seconds)
    say(f"{layout.name}: filling in {half:,} expired and {half:,} live keys")
    with database.superuser() as connection, without_indexes(connection, layout.indexed, say):
        fill_expired(database, half, say, insert=layout.insert, tables=layout.tables)
        fill_live(database, half - few, say, insert=layout.insert, tables=layout.tables)
    with _spending(database, found.steps, "fill", few):
        fill_live(database, few, say, insert=layout.insert, tables=layout.tables)
    with database.superuser() as connection:
        found.disk = sum(_number(connection, SIZE, name) for name in layout.tables) / (2 * half)
        for name in layout.tables:
            connection.execute(f"ALTER TABLE {name} SET (autovacuum_enabled = off)")
        with _serving(database, token) as load:
            for action in ACTIONS:
                load.run(action, min(seconds, WARM_UP_MAX))
            if layout.drop:
                with _spending(database, found.steps, "drop", half):
                    connection.execute(layout.drop)
            with _purging(database, layout):
                for action in ACTIONS:
                    found.requests[f"{action}, purge"] = [load.run(action, seconds)]
        tables = [name for name in layout.tables if name not in layout.drop]
        for number in range(VACUUMS):
            say(f"{layout.name}: purging, {number + 1} of {VACUUMS}")
            connection.execute("CHECKPOINT")
            with _spending(database, found.steps, "batches", 0) as spent:
                spent.count = _purge(
                    connection, layout, most=half if number == VACUUMS - 1 else half // VACUUMS
                )
            found.dead.append(sum(_number(connection, DEAD, name) for name in tables))
            connection.execute("CHECKPOINT")
            with _spending(database, found.steps, "vacuum", half // VACUUMS):
                for name in tables:
                    connection.execute(f"VACUUM {name}")


def _purge(
    connection: psycopg.Connection, layout: Layout, *, most: int, stop: threading.Event | None = None
) -> int:
    """Delete so many expired keys as the product does, without its rests; return how many they were."""
    deleted, since = 0, BEGINNING
    while deleted < most and not (stop and stop.is_set()):
        batch, latest = connection.execute(layout.batch, (since, BATCH)).fetchone() or (0, None)
        deleted += batch
        if batch < BATCH:
            break
        since = latest
    return deleted


@contextmanager
def _purging(database: Stack, layout: Layout) -> Iterator[None]:
    """Purge until the context ends."""
    stop = threading.Event()
    with database.superuser() as connection:
        thread = threading.Thread(
            target=_purge, args=(connection, layout), kwargs={"most": sys.maxsize, "stop": stop}
        )
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@contextmanager
def _spending(database: Stack, steps: dict[str, Spent], name: str, count: int) -> Iterator[Spent]:
    """Measure a step."""
    with _measuring(database) as spent:
        spent.count = count
        yield spent
    steps[name] = steps.get(name, Spent()) + spent


@contextmanager
def _measuring(database: Stack) -> Iterator[Spent]:
    pid, spent = database.postmaster(), Spent()
    with database.superuser() as connection:
        log, cpu, began = _number(connection, LOG), used(pid), time.perf_counter()
        yield spent
        spent.seconds, spent.cpu = time.perf_counter() - began, used(pid) - cpu
        spent.log = _number(connection, LOG) - log


def _number(connection: psycopg.Connection, query: str, *parameters: str) -> int:
    row = connection.execute(query, parameters).fetchone()
    return int(row[0]) if row else 0


class Load:
    """Creates and replays at a web server on a layout."""

    def __init__(self, server: Server, database: Stack, token: str) -> None:
        self._port, self._database = server.port, database
        creates = [posts_with_new_keys("/api/funds", token=token, body=fund()) for _ in range(CONNECTIONS)]
        replays = stored(server, token)
        self._streams: dict[str, list[Iterator[bytes]]] = {
            "create": creates,
            "replay": [cycle(replays[number::CONNECTIONS]) for number in range(CONNECTIONS)],
        }

    def run(self, action: str, seconds: float) -> Request:
        expected = 201 if action == "create" else 200
        with _measuring(self._database) as spent:
            sample = keep_sending(self._port, self._streams[action], seconds=seconds, expected=expected)
            spent.count = sample.count
        return Request(sample, spent)


@contextmanager
def _serving(database: Stack, token: str) -> Iterator[Load]:
    with serving(Site("keys"), database) as server:
        yield Load(server, database, token)


def request_rows(found: Mapping[str, Figures]) -> list[list[str]]:
    """Return a row for creates and for replays of each layout, with nothing and with a purge beside."""
    return [
        [
            *(layout, *name.split(", ")),
            *(
                _middle([getattr(r.sample, of) for r in rounds], digits)
                for of, digits in (("rate", 0), ("p50", 1), ("p99", 1))
            ),
            *(
                (_middle(of, 0) for of in zip(*(r.spent.each() for r in rounds), strict=True))
                if "nothing" in name
                else ("", "")
            ),
        ]
        for layout, figures in found.items()
        for name, rounds in figures.requests.items()
    ]


def step_rows(found: Mapping[str, Figures]) -> list[list[str]]:
    """Return a row for each step from filling to vacuum."""
    return [
        [layout, name, f"{spent.count:,}", f"{spent.seconds:,.1f}", *(f"{each:.1f}" for each in spent.each())]
        for layout, figures in found.items()
        for name, spent in figures.steps.items()
    ]


def life_rows(found: Mapping[str, Figures]) -> list[list[str]]:
    """Return what a key costs in each layout, and the second relative to the first."""
    lives = {name: (*figures.life(), figures.disk) for name, figures in found.items()}
    one, two = lives.values()
    rows = [[name, *(f"{each:,.0f}" for each in life)] for name, life in lives.items()]
    return [*rows, ["second / first", *(f"{b / a:.2f}" for a, b in zip(one, two, strict=True))]]


def _middle(values: Sequence[float], digits: int) -> str:
    return f"{median(values):.{digits}f}"


def rendered(found: Mapping[str, Figures], settings: Mapping[str, str]) -> list[str]:
    """Return the lines of partitions.md."""
    dead = ", ".join(f"{max(figures.dead):,} with {name}" for name, figures in found.items())
    return [
        "# Partitions by expiry",
        "",
        *described(settings),
        "`one table` is the product's. `two tables` (`benchmarks/layouts.py`) has a small table of digests and",
        "expiries, whose primary key is the fence, and a large one of everything else, partitioned by expiry. The",
        "product runs on both: for the second, a view and another `idempotency_save()` take the place of the table.",
        "The purge of one table deletes rows in batches of 1,000, as the product does, but never rests. The purge of",
        "two drops a partition, and deletes the rows of the small table in the same way.",
        "",
        "## A key's life",
        "",
        "The sum of all steps below: what PostgreSQL spends on the tables of keys for one key, without its request.",
        "",
        *table(LIFE, life_rows(found)),
        "## Filling and purging",
        "",
        "`fill` inserts the last keys through all indexes, by SQL and without page images; the others came in before",
        "there were indexes. `batches` deletes what the rounds beside a purge left, in",
        f"{VACUUMS} parts with a VACUUM after each: about as often as autovacuum would come, which is off. Each part",
        "and each VACUUM begins with a checkpoint and logs page images.",
        "",
        *table(STEPS, step_rows(found)),
        f"Dead rows that a VACUUM finds, at most: {dead}.",
        "",
        "## Requests",
        "",
        f"On {SERVED}. `nothing`: beside live keys, both layouts",
        "in turn, medians of all rounds, without page images. `purge`: one round, beside a purge that never rests.",
        "",
        *table(REQUESTS, request_rows(found)),
    ]
