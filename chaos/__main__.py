"""Break everything under load, and count what that has cost: `make chaos`, or `python -m chaos [STORM ...]`.

Clients create funds under thousands of keys, each again and again until it is answered, while a storm kills, cuts and
fills up what it can. Then every acknowledged fund is looked for, and every key is asked for once more. Ends by itself,
with status 1 if anything was lost, doubled or answered wrongly.
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
from chaos.disk import NotRoot
from chaos.stack import running
from chaos.storms import STORMS
from chaos.trial import Options, Result

WHAT = {storm.name: storm.what for storm in STORMS} | {
    "disk": "PostgreSQL's disk is full, for 4 s of 8 (for root, who may mount a small one)",
    "failover": "the primary is killed, and its synchronous standby takes over",
    "failover-asynchronous": "the same without synchronous replication, which has to lose: else this tool is blind",
}
ALONE: dict[str, Callable[[Options], Result]] = {  # each in a deployment of its own
    "disk": trial.disk,
    "failover": partial(trial.failover, synchronous=True),
    "failover-asynchronous": partial(trial.failover, synchronous=False),
}


def results(names: Sequence[str], options: Options, console: Console) -> Iterator[Result]:
    """Go through the storms one after the other."""
    storms = [storm for storm in STORMS if storm.name in names]
    if storms:
        with running() as stack:
            for storm in storms:
                console.log(f"{storm.name}: {storm.what}")
                yield trial.storm(stack, storm, options)
    for name, alone in ALONE.items():
        if name in names:
            console.log(f"{name}: {WHAT[name]}")
            try:
                yield alone(options)
            except NotRoot as error:
                console.log(f"{name}: left out: {error}")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m chaos",
        description=__doc__ + "\n" + "\n".join(f"  {name:22} {what}" for name, what in WHAT.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("storms", nargs="*", metavar="STORM", help="one or more of the above (default: all)")
    parser.add_argument("--seconds", type=float, default=20, help="of each storm (default: 20)")
    parser.add_argument("--clients", type=int, default=16, help="at once (default: 16)")
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of all dice"
    )
    arguments = parser.parse_args()
    names = arguments.storms or list(WHAT)
    if unknown := set(names) - set(WHAT):
        parser.error(f"there is no storm called {', '.join(sorted(unknown))}: choose from {', '.join(WHAT)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # everything stops on the way out
    options = Options(arguments.seconds, arguments.clients, arguments.seed)
    table = Table(
        *trial.COLUMNS,
        title=f"python -m chaos --seconds {options.seconds:g} --clients {options.clients} --seed {options.seed}",
    )
    wrong = []
    for result in results(names, options, Console(stderr=True)):
        table.add_row(*result.row(), style=None if result else "red")
        wrong += [] if result else [result]
    Console(width=None if sys.stdout.isatty() else 150).print(table)
    for result in wrong:
        if result.control:
            print(f"{result.name} has lost nothing, so this run has proved nothing.")
        for what, count in result.journal.unexpected.items():
            print(f"{result.name}: {count} unexpected answers: {what}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
