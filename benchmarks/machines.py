"""Creates and replays on two machines: web processes on one; PostgreSQL and Valkey on the other, a network away.

The network is the proxy of `chaos`, with and without a delay, in turn. The figures of `capacity` stand beside.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import cycle

import psutil
import psycopg

from benchmarks import report
from benchmarks.bodies import fund
from benchmarks.capacity import Cost, Costs, most_requests, read
from benchmarks.cpu import used
from benchmarks.figures import Sample, Summary, quantile, ratios, rotated, summary
from benchmarks.load import keep_sending, posts_with_new_keys
from benchmarks.report import described, spread, table
from benchmarks.rounds import WARM_UP_MAX, Say
from benchmarks.scale import stored
from benchmarks.servers import CORELESS, Server, Site, serving
from benchmarks.stack import Stack, machine, stack
from chaos.proxied import Proxied
from fundapi.web.serve import THREADS

CORES = psutil.cpu_count() or 1
# Web processes, and clients: one for each thread.
CROWDS = ((1, 1), (1, THREADS), (2, 2 * THREADS), (4, 4 * THREADS))
TRIPS = 300  # of SELECT 1, to measure the delay
SPEED = (
    *("what", "processes", "clients", "delay ms", "requests/s", "spread", "model", "model / measured"),
    *("p50 ms", "p99 ms", "CPU ms: web", "PostgreSQL", "network"),
)
DELAY = ("what", "processes", "clients", "rate", "spread", "ms longer", "trips", "trips by the model")


@dataclass(frozen=True)
class Case:
    """A measured case: an action, the web processes and clients of it, and whether the network delays it."""

    action: str
    processes: int
    clients: int
    delayed: bool


@dataclass(frozen=True)
class Reading:
    """The sample of one case in one round, and ms of CPU for each request."""

    sample: Sample
    web: float
    database: float
    network: float


@dataclass
class Found:
    """The figures of a run. ``trip``: ms of a SELECT 1 over the network, without and with the delay."""

    described: dict[str, str]
    trip: tuple[float, float]
    readings: dict[Case, list[Reading]] = field(default_factory=dict)

    @property
    def delay(self) -> float:
        """Return the ms that the network really adds to a round trip."""
        return self.trip[1] - self.trip[0]

    def rate(self, case: Case) -> Summary:
        return summary([reading.sample.rate for reading in self.readings[case]])


class Network:
    """The proxy before PostgreSQL and Valkey, and the environment of programs on the other machine."""

    def __init__(self, running: Stack, delay: float) -> None:
        self.proxy = Proxied(*running.sockets())
        self.delay = delay  # ms of a round trip
        postgres, valkey = self.proxy.ports
        self.web = running.behind(postgres=postgres, valkey=valkey)

    def slow(self, delayed: bool) -> None:  # noqa: FBT001 - read from a case
        """Delay everything, half of the round trip in each direction, or nothing."""
        self.proxy.say("delay", str(self.delay / 2000 if delayed else 0))

    def trip(self) -> float:
        """Return the median ms of a SELECT 1."""
        taken = []
        with psycopg.connect(self.web.database_url, autocommit=True) as connection:
            for _ in range(TRIPS):
                began = time.perf_counter()
                connection.execute("SELECT 1")
                taken.append(time.perf_counter() - began)
        return 1000 * quantile(taken, 50)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--delay", type=float, default=1.0, help="ms that the network adds to a round trip (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each variant in each round")


def run(options: argparse.Namespace, say: Say) -> None:
    """Measure, print, and write machines.md and machines.json."""
    found = _measured(options, say)
    settings = {
        "command": report.command(),
        "rounds": str(options.rounds),
        "seconds": str(options.seconds),
        **found.described,
    }
    report.on_terminal(SPEED[:8], [row[:8] for row in speed_rows(found, read())])
    readings = [
        {**asdict(case), "rounds": [asdict(each) for each in rounds]}
        for case, rounds in found.readings.items()
    ]
    report.write(
        "machines",
        rendered(found, settings),
        {"settings": settings, "trip": found.trip, "readings": readings},
    )


def _measured(options: argparse.Namespace, say: Say) -> Found:
    about = machine()
    with stack() as running, _network(running, options.delay) as network, ExitStack() as servers:
        token = running.token()
        trips = []
        for delayed in (False, True):
            network.slow(delayed)
            trips.append(network.trip())
        network.slow(delayed=False)
        found = Found(about, (trips[0], trips[1]))
        say("starting web servers of 1, 2 and 4 processes")
        cases: dict[Case, Callable[[float], Reading]] = {}
        for processes in dict(CROWDS):
            site = Site(f"web-{processes}", environ=CORELESS)
            server = servers.enter_context(serving(site, network.web, workers=processes))
            cases |= _cases(server, processes, token, running, network)
        for number in range(options.rounds + 1):
            say(f"round {number} of {options.rounds}")
            for case in rotated(list(cases), number):
                network.slow(case.delayed)
                reading = cases[case](options.seconds if number else min(options.seconds, WARM_UP_MAX))
                if number:
                    found.readings.setdefault(case, []).append(reading)
    found.readings = {case: found.readings[case] for case in cases}
    return found


@contextmanager
def _network(running: Stack, delay: float) -> Iterator[Network]:
    network = Network(running, delay)
    try:
        yield network
    finally:
        network.proxy.stop()


def _cases(
    server: Server, processes: int, token: str, running: Stack, network: Network
) -> dict[Case, Callable[[float], Reading]]:
    replays = stored(server, token)
    programs = (server.process.pid, running.postmaster(), network.proxy.process.pid)

    def reading(action: str, clients: int) -> Callable[[float], Reading]:
        if action == "create":
            streams = [posts_with_new_keys("/api/funds", token=token, body=fund()) for _ in range(clients)]
        else:
            streams = [cycle(replays[number::clients]) for number in range(clients)]

        def read_once(seconds: float) -> Reading:
            before = [used(pid) for pid in programs]
            expected = 201 if action == "create" else 200
            sample = keep_sending(server.port, streams, seconds=seconds, expected=expected)
            web, database, proxy = (
                1000 * (used(pid) - earlier) / sample.count
                for pid, earlier in zip(programs, before, strict=True)
            )
            return Reading(sample, web, database, proxy)

        return read_once

    return {
        Case(action, processes, clients, delayed): reading(action, clients)
        for action in ("create", "replay")
        for each, clients in CROWDS
        if each == processes
        for delayed in (False, True)
    }


def modelled(found: Found, costs: Costs) -> dict[Case, float]:
    """Return the requests per second of each case by the model.

    The machine may be faster or slower than when the costs were measured. One client without a delay says how much, for
    creates and for replays; every other figure is a prediction.
    """
    rates = {}
    for case in found.readings:
        alone = Case(case.action, processes=1, clients=1, delayed=False)
        cost: Cost = getattr(costs, case.action)
        slower = 1 / (cost.both * found.rate(alone).median)
        rates[case] = most_requests(
            replace(cost, web=cost.web * slower, database=cost.database * slower),
            cores=CORES,
            processes=case.processes,
            clients=case.clients,
            round_trip=found.delay / 1000 if case.delayed else 0.0,
        )
    return rates


def speed_rows(found: Found, costs: Costs) -> list[list[str]]:
    """Return a row for each case, with the figure of the model."""
    by_model = modelled(found, costs)
    rows = []
    for case, readings in found.readings.items():
        rate, samples = found.rate(case), [reading.sample for reading in readings]
        means = [
            _median(getattr(reading, of) for reading in readings) for of in ("web", "database", "network")
        ]
        rows.append(
            [
                *(case.action, str(case.processes), str(case.clients)),
                f"{found.delay:.1f}" if case.delayed else "0",
                *(f"{rate.median:.0f}", spread(rate)),
                *(f"{by_model[case]:.0f}", f"{by_model[case] / rate.median:.2f}"),
                f"{_median(sample.p50 for sample in samples):.1f}",
                f"{_median(sample.p99 for sample in samples):.1f}",
                *(f"{mean:.2f}" for mean in means),
            ]
        )
    return rows


def delay_rows(found: Found, costs: Costs) -> list[list[str]]:
    """Return a row for each pair of cases: requests per second with the delay and without, and the trips of one."""
    rows = []
    for case in (case for case in found.readings if case.delayed):
        slow, fast = (
            [reading.sample for reading in found.readings[each]]
            for each in (case, replace(case, delayed=False))
        )
        ratio = summary(ratios(slow, fast))
        longer = _median(a.p50 - b.p50 for a, b in zip(slow, fast, strict=True))
        alone = case.clients == 1  # with more clients, a request waits for other requests as well
        trips: int = getattr(costs, case.action).trips
        rows.append(
            [
                *(
                    case.action,
                    str(case.processes),
                    str(case.clients),
                    f"{ratio.median:.2f}",
                    spread(ratio, 2),
                ),
                *((f"{longer:.1f}", f"{longer / found.delay:.1f}", str(trips)) if alone else ("", "", "")),
            ]
        )
    return rows


def rendered(found: Found, settings: Mapping[str, str]) -> list[str]:
    """Return the lines of machines.md."""
    costs = read()
    return [
        "# Two machines",
        "",
        *described(settings),
        "Web processes with four threads each reach PostgreSQL and Valkey over TCP through the proxy of `chaos`, which",
        "forwards everything at once, or later by half of the delay in each direction. A `SELECT 1` takes",
        f"{found.trip[0]:.2f} ms without it and {found.trip[1]:.2f} ms with it; the tables have the difference.",
        "All programs share the cores of one machine. Each client sends its next request when it has the answer to the",
        "last one. All cases are measured in turn, round after round, and each round begins with another one.",
        "",
        "CPU is the time of all cores for one request: of the web processes, of PostgreSQL with its background",
        "processes, and of the proxy. Clients and Valkey take the rest.",
        "",
        "The model is that of `python -m benchmarks capacity`, on a machine as fast as one client without a delay is",
        "served here. It predicts all other rows.",
        "",
        *table(SPEED, speed_rows(found, costs)),
        "## With the delay, relative to without",
        "",
        "With one client, what a request takes longer, and how many round trips that makes.",
        "",
        *table(DELAY, delay_rows(found, costs)),
    ]


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)
