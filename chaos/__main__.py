"""Break everything under load, and count the losses: `make chaos`, or `python -m chaos [TRIAL ...]`.

Clients create funds under thousands of keys, each again and again until it is answered, while a storm kills, cuts and
fills the disk. Then every acknowledged fund must exist, and every key is sent once more. The command ends by itself,
with status 1 if anything was lost, doubled or answered wrongly, or if a load exceeded a bound.
"""

import argparse
import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from rich.console import Console
from rich.table import Table

from chaos import trial
from chaos.cluster.deployment import cluster
from chaos.cluster.engines import MissingEngine
from chaos.cluster.faults import CONTROL, FAULTS
from chaos.disk import NotRoot
from chaos.overload import Overload, Soak, overload, soak
from chaos.stack import running
from chaos.storms import STORMS
from chaos.trial import Options, Result

SOAK = "soak"  # long, so only by its name
LOADS: dict[str, Callable[[float], Overload | Soak]] = {"overload": overload, SOAK: soak}
ALONE: dict[str, Callable[[Options], Result]] = {  # each in a deployment of its own
    "disk": trial.disk,
    "failover": partial(trial.failover, synchronous=True),
    "failover-asynchronous": partial(trial.failover, synchronous=False),
    "rolling": partial(trial.rolling, careless=False),
    "rolling-careless": partial(trial.rolling, careless=True),
}
WHAT = {storm.name: storm.what for storm in STORMS} | {
    "disk": "PostgreSQL's disk is full, for 4 s of 8 (for root, who may mount a small one)",
    "failover": "the primary is killed, and its synchronous standby takes over",
    "failover-asynchronous": "the same without synchronous replication: a control, which must show losses",
    "rolling": "the next version takes over, with migrations between; no answer but 200, 201 and 409 in progress",
    "rolling-careless": "the same with a migration that breaks the old version: a control, which must show failures",
    "cluster": "PostgreSQL under Patroni: leader, etcd, HAProxy, PgBouncer are killed; the leader pauses, is cut off",
    "cluster-asynchronous": "a leader without synchronous replication dies: a control, which must show losses",
    "overload": "three times the load that the server can take",
    SOAK: "70 % of it for a long time: resources must not grow (only when it is named; --seconds 1800)",
}
# Each fault of `cluster` alone, only by its name.
FAULT = {f"cluster-{fault.name}": fault.what for fault in FAULTS}


def storms(names: Sequence[str], options: Options, console: Console) -> Iterator[Result]:
    """Run the storms one after the other."""
    for proxied in (False, True):
        chosen = [storm for storm in STORMS if storm.name in names and storm.proxied is proxied]
        if not chosen:
            continue
        with running(proxied=proxied) as stack:
            for storm in chosen:
                console.log(f"{storm.name}: {storm.what}")
                yield trial.storm(stack, storm, options)
    for name, alone in ALONE.items():
        if name in names:
            console.log(f"{name}: {WHAT[name]}")
            try:
                yield alone(options)
            except NotRoot as error:
                console.log(f"{name}: left out: {error}")


def clusters(names: Sequence[str], options: Options, console: Console) -> Iterator[Result]:
    """Run the faults of a cluster's engines, one after the other."""
    for name, faults, synchronous in (("cluster", FAULTS, True), ("cluster-asynchronous", [CONTROL], False)):
        chosen = [fault for fault in faults if {name, f"{name}-{fault.name}"} & set(names)]
        if not chosen:
            continue
        try:
            with cluster(synchronous=synchronous, linked=True) as made:
                for step in made.start():
                    console.log(f"{name}: starting {step}")
                for fault in chosen:
                    console.log(f"{name}: {fault.what}")
                    yield trial.fail(made, fault, options, control="" if synchronous else "lost")
        except MissingEngine as error:
            console.log(f"{name}: left out: {error}")


def table_of_storms(results: Sequence[Result], title: str) -> Table:
    table = Table(*trial.COLUMNS, title=title)
    for result in results:
        table.add_row(*result.row(), style=None if result else "red")
    return table


def table_of_load(name: str, measured: Overload | Soak) -> Table:
    row = measured.row()
    table = Table(*row, title=f"{name}: {WHAT[name]}")
    table.add_row(*row.values(), style="red" if list(measured.faults()) else None)
    return table


def faults(result: Result) -> Iterator[str]:
    """Yield the faults of a trial that its row does not show, in words."""
    if result.control and not result:
        yield f"it has to show something {result.control}, so this run has proved nothing"
    yield from result.complaints
    for what, count in {} if result.control else result.journal.unexpected.items():
        yield f"{count} unexpected answers: {what}"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m chaos",
        description=__doc__
        + "\n"
        + "\n".join(f"  {name:22} {what}" for name, what in WHAT.items())
        + "\n\nOne fault of `cluster` alone, when it is named:\n\n"
        + "\n".join(f"  {name:22} {what}" for name, what in FAULT.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "trials", nargs="*", metavar="TRIAL", help="one or more of the above (default: all but soak)"
    )
    parser.add_argument("--seconds", type=float, default=20, help="of each (default: 20)")
    parser.add_argument("--clients", type=int, default=16, help="at once, in storms (default: 16)")
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of all random numbers"
    )
    arguments = parser.parse_args()
    names = arguments.trials or [name for name in WHAT if name != SOAK]
    if unknown := set(names) - {*WHAT, *FAULT}:
        parser.error(
            f"there is no trial called {', '.join(sorted(unknown))}: choose from {', '.join([*WHAT, *FAULT])}"
        )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # everything stops on the way out
    options = Options(arguments.seconds, arguments.clients, arguments.seed)
    progress, out = Console(stderr=True), Console(width=None if sys.stdout.isatty() else 150)
    results = [*storms(names, options, progress), *clusters(names, options, progress)]
    says = [f"{result.name}: {fault}" for result in results for fault in faults(result)]
    if results:
        shown = (
            f"python -m chaos --seconds {options.seconds:g} --clients {options.clients} --seed {options.seed}"
        )
        out.print(table_of_storms(results, shown))
    bad = not all(results)
    for name, load in LOADS.items():
        if name in names:
            progress.log(f"{name}: {WHAT[name]}")
            measured = load(options.seconds)
            out.print(table_of_load(name, measured))
            found = list(measured.faults())
            says += [f"{name}: {fault}" for fault in found]
            bad |= bool(found)
    for line in says:
        print(line)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
