"""Cores, connections and bytes for a rate of creates: a model on the committed measurements. Measures nothing.

A request costs time of a web core and time of a database core, the same on every core; what a machine carries is its
cores over that cost. docs/explanation/scaling.md says what the figures are taken from, and how far they have been off.
"""

import argparse
import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.rounds import Say
from benchmarks.stack import RESULTS

PAGE = 8192  # bytes; PostgreSQL's
DAY = 86_400  # s
# Round trips of a request, one after the other: the caller, the throttle (in Valkey) and the look-up of the key; of a
# create, also the claim, the fund, and the answer with its COMMIT.
REPLAY_TRIPS = 3
CREATE_TRIPS = 6
OFF = 0.35  # how far the model may be from what was measured; see tests/benchmarks/test_capacity.py
COLUMNS = ("what", "figure", "from")


@dataclass(frozen=True)
class Cost:
    """Cost of one request: seconds of a web core, and of a database core with the wait for its disk.

    ``trips``: round trips to PostgreSQL and Valkey, one after the other. A network makes each of them longer.
    """

    web: float
    database: float
    trips: int = 0

    @property
    def both(self) -> float:
        return self.web + self.database

    def seconds(self, round_trip: float) -> float:
        """Return how long a request takes, when a round trip over the network takes so long."""
        return self.both + self.trips * round_trip


@dataclass(frozen=True)
class Costs:
    """Costs, by the committed measurements."""

    create: Cost
    replay: Cost
    worker: float  # MiB of a web process
    key: float  # bytes of a stored key, with all indexes
    scattered: (
        float  # bytes of a key in the indexes of digests and tokens, which are random and so touch every page
    )
    purged: float  # keys per second that the purge deletes, working a tenth of the time
    events: float  # of telemetry per second and core, web and database together


@dataclass(frozen=True)
class Demand:
    """The load on a deployment."""

    creates: float  # per second, under new keys
    retries: float = 0.0  # replays for each create
    events: float = 0.0  # of telemetry, a day
    ttl: float = DAY  # s
    purge_interval: float = DAY  # s between two purges
    checkpoint: float = 300.0  # s between two checkpoints; PostgreSQL's default
    round_trip: float = 0.0  # s that the network between web and database adds to a round trip

    @property
    def replays(self) -> float:
        return self.creates * self.retries

    @property
    def keys(self) -> float:
        """Live keys, after a day at this pace."""
        return self.creates * self.ttl


@dataclass(frozen=True)
class Machines:
    """The resources of a deployment."""

    web_cores: int
    database_cores: int
    threads: int = 4  # of a web process, of which there is one a core
    utilisation: float = 0.6  # of the cores may be planned with, because the model may be off by OFF


def read(directory: Path = RESULTS) -> Costs:
    """Take the costs from ``results.json``, ``scale.json``, ``purge.json`` and ``judge.json``."""
    results, scale, purge, judge = (
        json.loads(directory.joinpath(f"{name}.json").read_text())
        for name in ("results", "scale", "purge", "judge")
    )
    # The web's part is the CPU of the worker. The database's part of a create is its SQL alone by pgbench; of a replay,
    # as much less as it sends fewer messages.
    in_database = 1 / rate(results, "floor: pgbench")
    fewer = len(results["sql"]["replay"]) / len(results["sql"]["create"])
    largest = scale["at rest"][-1]
    scattered = sum(largest["sizes"][f"index idempotency_store_{name}"] for name in ("pkey", "token"))
    return Costs(
        create=Cost(_cpu(results, "fundapi: create"), in_database, CREATE_TRIPS),
        replay=Cost(_cpu(results, "fundapi: replay"), in_database * fewer, REPLAY_TRIPS),
        worker=results["memory"]["fundapi"][0]["pss"],
        key=sum(largest["sizes"].values()) / largest["keys"],
        scattered=scattered / largest["keys"],
        purged=statistics.median(purge["pace"]),
        events=judge["figures"]["intake, events per second of CPU (PostgreSQL and ours)"],
    )


def rate(document: Mapping[str, Any], variant: str) -> float:
    """Return the median requests per second of a variant, over all rounds."""
    found: float = statistics.median(sample["rate"] for sample in document["samples"][variant])
    return found


def _cpu(document: Mapping[str, Any], variant: str) -> float:
    """Return the median seconds of CPU of a web worker per request."""
    found: float = statistics.median(sample["cpu"] for sample in document["samples"][variant])
    return found / 1000


def cores(costs: Costs, demand: Demand) -> Cost:
    """Return the cores that are busy all the time, of either kind. Telemetry counts as the web's."""
    telemetry = demand.events / DAY / costs.events
    return Cost(
        web=demand.creates * costs.create.web + demand.replays * costs.replay.web + telemetry,
        database=demand.creates * costs.create.database + demand.replays * costs.replay.database,
    )


def most_creates(costs: Costs, demand: Demand, machines: Machines) -> tuple[float, str]:
    """Return the creates per second that the cores carry with the same share of retries, and which cores limit them."""
    each = Cost(
        web=costs.create.web + demand.retries * costs.replay.web,
        database=costs.create.database + demand.retries * costs.replay.database,
    )
    return min(
        (machines.utilisation * machines.web_cores / each.web, "web"),
        (machines.utilisation * machines.database_cores / each.database, "database"),
    )


def most_requests(cost: Cost, *, cores: int, processes: int, clients: int, round_trip: float) -> float:
    """Return the requests per second of so many clients that wait for each answer, by the first limit they reach.

    That is the cores of both machines; the web processes, of which none runs Python on more than one core; or, with few
    clients, the time of a request.
    """
    return min(cores / cost.both, processes / cost.web, clients / cost.seconds(round_trip))


def connections(costs: Costs, demand: Demand) -> int:
    """Return the connections in use at once, 999 times in 1,000, if each request held one from beginning to end."""
    create, replay = (cost.seconds(demand.round_trip) for cost in (costs.create, costs.replay))
    busy = demand.creates * create + demand.replays * replay  # Little's law
    return math.ceil(busy + 3 * math.sqrt(busy))


def wal(costs: Costs, demand: Demand) -> tuple[float, float]:
    """Return the bytes of log a day, of keys alone: the rows, and the pages that are written out whole.

    After a checkpoint the first change of a page logs all of it, and random digests reach every page of an index.
    """
    stored = demand.creates * DAY * costs.key
    pages = max(1.0, demand.keys * costs.scattered / PAGE)
    touched = pages * -math.expm1(-2 * demand.creates * demand.checkpoint / pages)  # of two indexes
    return stored, stored + touched * PAGE * DAY / demand.checkpoint


def rows(costs: Costs, demand: Demand, machines: Machines) -> list[list[str]]:
    """Return the plan: what, how much, and the source of the figure."""
    busy = cores(costs, demand)
    most, end = most_creates(costs, demand, machines)
    stored, whole = wal(costs, demand)
    shown = [
        ("requests per second", f"{demand.creates + demand.replays:,.0f}", "asked for"),
        ("web cores", _of(busy.web, machines.web_cores, machines.utilisation), "measured on one"),
        (
            "database cores",
            _of(busy.database, machines.database_cores, machines.utilisation),
            "measured on one",
        ),
        ("most creates per second", f"{most:,.0f}, then the {end} is at its end", "derived"),
        (
            "web processes",
            f"{machines.web_cores}, {machines.web_cores * costs.worker / 1024:,.1f} GiB",
            "measured",
        ),
        ("connections, no pooler", f"{machines.web_cores * machines.threads:,}, and Celery's", "threads"),
        ("connections, pooled", f"{connections(costs, demand):,} at once", "derived"),
        ("live keys", f"{demand.keys:,.0f}", "asked for"),
        ("disk of live keys", _gigabytes(demand.keys * costs.key), "measured"),
        (
            "disk of keys, before a purge",
            _gigabytes(demand.creates * (demand.ttl + demand.purge_interval) * costs.key),
            "measured",
        ),
        ("purge", _purge(costs, demand), "measured"),
        ("log of keys, a day", f"{_gigabytes(stored)} to {_gigabytes(whole)}", "derived, not measured"),
        ("commands to Valkey per second", f"{demand.creates + demand.replays:,.0f}", "one for each throttle"),
        ("disk and log of funds", "not measured: they stay, and grow", "-"),
        ("flushes of a disk", "not measured", "-"),
    ]
    return [list(row) for row in shown]


def _of(busy: float, there: int, utilisation: float) -> str:
    enough = (
        "enough" if busy <= there * utilisation else f"NOT enough: have {math.ceil(busy / utilisation):,}"
    )
    return f"{busy:,.1f} busy of {there:,}, {enough}"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.1f} GB"


def _purge(costs: Costs, demand: Demand) -> str:
    hours = 24 * demand.creates / costs.purged
    return f"{hours:,.1f} h of a day" + (": CANNOT keep up, raise its share" if hours > 24 else "")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--creates", type=float, default=1000, help="per second, under new keys (%(default)s)"
    )
    parser.add_argument("--retries", type=float, default=0.3, help="replays for each create (%(default)s)")
    parser.add_argument("--events", type=float, default=0, help="of telemetry, a day (%(default)s)")
    parser.add_argument("--web-cores", type=int, default=8, help="(%(default)s)")
    parser.add_argument("--database-cores", type=int, default=8, help="(%(default)s)")
    parser.add_argument("--threads", type=int, default=4, help="WEB_THREADS (%(default)s)")
    parser.add_argument("--utilisation", type=float, default=0.6, help="of the cores (%(default)s)")
    parser.add_argument("--ttl", type=float, default=DAY, help="IDEMPOTENCY_TTL, in s (%(default)s)")
    parser.add_argument(
        "--purge-interval", type=float, default=DAY, help="IDEMPOTENCY_PURGE_INTERVAL, in s (%(default)s)"
    )
    parser.add_argument(
        "--checkpoint", type=float, default=300, help="checkpoint_timeout, in s (%(default)s)"
    )
    parser.add_argument(
        "--round-trip", type=float, default=0, help="between web and database, in s (%(default)s)"
    )


def run(options: argparse.Namespace, _say: Say) -> None:
    """Print the plan."""
    demand, machines = Demand(**_chosen(Demand, options)), Machines(**_chosen(Machines, options))
    report.on_terminal(COLUMNS, rows(read(), demand, machines))


def _chosen(kind: type, options: argparse.Namespace) -> dict[str, Any]:
    """Return the options that are fields of a dataclass."""
    return {field.name: getattr(options, field.name) for field in fields(kind)}
