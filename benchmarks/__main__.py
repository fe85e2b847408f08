"""Measure the product: `make bench`, or `python -m benchmarks COMMAND`.

compare   ours, P0, P1, the peers and the floors side by side (what `make bench` runs)
scale     create and replay beside ever more live keys, and the bytes of a key
purge     creates while expired keys are purged, and while none are
partitions  the purge of one table, and of two with a partition to drop; what the second costs creates and replays
machines  creates and replays with a network between web and database, beside the capacity model
judge     what the judge's checks, the intake of telemetry and its purge cost the database
trees     CPU of each kind of request of two working trees, in turn: what a change has brought
capacity  measures nothing: how many cores, connections and bytes so many creates take, by the committed figures
"""

import argparse
import signal
import sys

from rich.console import Console

from benchmarks import capacity, compare, judge, machines, partitions, purge, scale, trees
from benchmarks.filling import TooLittleSpace
from benchmarks.purge import PurgeEnded

COMMANDS = {
    "compare": compare,
    "scale": scale,
    "purge": purge,
    "partitions": partitions,
    "machines": machines,
    "judge": judge,
    "trees": trees,
    "capacity": capacity,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in COMMANDS.items():
        module.add_arguments(commands.add_parser(name, description=module.__doc__))
    arguments = sys.argv[1:]
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in {"-h", "--help"}):
        arguments = ["compare", *arguments]
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers and services stop on the way out
    try:
        COMMANDS[options.command].run(options, Console(stderr=True).log)
    except (PurgeEnded, TooLittleSpace) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
