"""Compare working trees: CPU of each kind of request, in turn, so that a step is told by its own figure.

Give each tree a name: ``python -m benchmarks trees before=../before after=.``; each has its own ``.venv``. All use one
database, which this tree migrates. With more trees than cores, none has a core of its own.
"""

import argparse
import statistics
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from benchmarks import product, report
from benchmarks.bodies import fund
from benchmarks.figures import Sample, cpu_ratios, summary
from benchmarks.footprint import memory
from benchmarks.load import ask, request
from benchmarks.rounds import Say, Variant, creating, measure, repeating
from benchmarks.servers import CORELESS, Server, Site, serving
from benchmarks.stack import stack
from fundapi.web.serve import cores

COLUMNS = ("request", "tree", "CPU ms", "least", "spread", "of the first tree's")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("trees", nargs="+", metavar="NAME=DIRECTORY", type=_tree)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--seconds", type=float, default=0.4, help="of each request of each tree in each round"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="REQUEST", help="such as create replay")


def _tree(text: str) -> tuple[str, Path]:
    name, _, directory = text.partition("=")
    tree = Path(directory).resolve()
    if not (directory and (tree / ".venv/bin/python").exists()):
        raise argparse.ArgumentTypeError(
            f"{text} is not NAME=DIRECTORY of a tree with a .venv: make .venv there."
        )
    return name, tree


def run(options: argparse.Namespace, say: Say) -> None:
    """Measure and print."""
    trees = dict(options.trees)
    environ = CORELESS if len(trees) > cores() else ()
    with stack() as running, ExitStack() as servers:
        token = running.token()
        started = {
            name: servers.enter_context(serving(_site(name, tree, environ), running))
            for name, tree in trees.items()
        }
        variants = [
            replace(variant, name=f"{variant.name} {name}")
            for variants in zip(*(_variants(server, token) for server in started.values()), strict=True)
            for name, variant in zip(started, variants, strict=True)
            if not options.only or variant.name in options.only
        ]
        measured = measure(variants, rounds=options.rounds, seconds=options.seconds, say=say)
        resident = {name: memory(server)[0].rss for name, server in started.items()}
    for name, failure in measured.failures.items():
        say(f"{name} failed: {failure}")
    report.on_terminal(COLUMNS, _rows(list(trees), measured.samples))
    say("MiB resident: " + ", ".join(f"{name} {mib:.0f}" for name, mib in resident.items()))


def _site(name: str, tree: Path, environ: tuple[tuple[str, str], ...]) -> Site:
    return Site(name, python=str(tree / ".venv/bin/python"), environ=environ, tree=tree)


def _variants(server: Server, token: str) -> list[Variant]:
    stored = request("POST", "/api/funds", token=token, body=fund(), key=uuid.uuid4().hex)
    ask(server.port, stored)
    return [
        Variant("create", "", creating(server, "/api/funds", token=token, body=fund())),
        Variant("replay", "", repeating(server, stored, expected=200)),
        *product.variants(server),
    ]


def _rows(trees: Sequence[str], samples: dict[str, list[Sample]]) -> list[list[str]]:
    rows = []
    for name, found in samples.items():
        what, _, tree = name.partition(" ")
        first = samples[f"{what} {trees[0]}"]
        cpu = summary([sample.cpu for sample in found])
        ratio = statistics.median(cpu_ratios(first, found))
        rows.append(
            [what, tree, f"{cpu.median:.3f}", f"{cpu.lowest:.3f}", report.spread(cpu, 3), f"{ratio:.3f}"]
        )
    return rows
