"""Measure the product: `make bench`, or `python -m benchmarks COMMAND`.

compare   ours, P0, P1, the peers and the floors side by side (what `make bench` runs)
scale     create and replay in a table of ever more live keys, and the bytes of a key
purge     creates while expired keys are purged, and while none are
"""

import argparse
import signal
import sys

from rich.console import Console

from benchmarks import compare, report


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command")
    comparing = commands.add_parser("compare", help="all side by side; the default")
    comparing.add_argument("--rounds", type=int, default=9)
    comparing.add_argument("--seconds", type=float, default=2.0, help="of each variant in each round")
    arguments = sys.argv[1:]
    if not arguments or arguments[0].startswith("--"):
        arguments = ["compare", *arguments]
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers and services stop on the way out
    say = Console(stderr=True).log
    if options.command == "compare":
        found = compare.compare(options, say)
        report.comparison(
            found, {"command": report.command(), "rounds": options.rounds, "seconds": options.seconds}
        )


if __name__ == "__main__":
    main()
