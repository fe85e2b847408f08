"""Create and replay beside 0, a tenth of, and all of so many live keys; and the bytes of a key.

Three databases on one PostgreSQL, a web server on each, measured in turn.
"""

import argparse
import uuid
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import cycle

from benchmarks import report
from benchmarks.atrest import AtRest, at_rest
from benchmarks.bodies import fund
from benchmarks.figures import ratios, summary
from benchmarks.filling import BODY, PACKED, check_space, fill_live
from benchmarks.load import Connection, UnexpectedAnswer, request
from benchmarks.report import SPEED_COLUMNS, described, speed_row, spread, table
from benchmarks.rounds import CONNECTIONS, SERVED, Measured, Say, Variant, creating, measure, sending
from benchmarks.servers import CORELESS, Server, Site, serving
from benchmarks.stack import machine, stack

REPLAYED = 500  # stored keys that are replayed in turn
RATIO_COLUMNS = ("ratio", "median", "spread")


@dataclass(frozen=True)
class Scale:
    """The figures of a run. ``sizes`` are the numbers of live keys at the start."""

    described: dict[str, str]
    sizes: tuple[int, ...]
    what: dict[str, str]
    measured: Measured
    at_rest: tuple[AtRest, ...]

    def ratios(self) -> dict[str, list[float]]:
        """Return the speed of each relative to the same without keys, round by round."""
        samples = self.measured.samples
        pairs = [(action, size) for action in ("create", "replay") for size in self.sizes[1:]]
        return {
            f"{_name(action, size)} / {_name(action, 0)}": ratios(over, under)
            for action, size in pairs
            if (over := samples.get(_name(action, size))) and (under := samples.get(_name(action, 0)))
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keys", type=int, default=5_000_000, help="live keys of the fullest database (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each variant in each round")


def run(options: argparse.Namespace, say: Say) -> None:
    """Measure, print, and write scale.md and scale.json. Raises TooLittleSpace."""
    found = _measured(options, say)
    settings = {"command": report.command(), **found.described}
    report.on_terminal(SPEED_COLUMNS, _speed_rows(found))
    report.on_terminal(("what", "MiB", "bytes per key"), found.at_rest[-1].rows() if found.at_rest else [])
    document = {
        "settings": settings,
        "sizes": found.sizes,
        **asdict(found.measured),
        "ratios": found.ratios(),
        "at rest": [asdict(each) for each in found.at_rest],
    }
    report.write("scale", rendered(found, settings), document)


def _measured(options: argparse.Namespace, say: Say) -> Scale:
    about = machine()
    sizes = (0, options.keys // 10, options.keys)
    check_space(sum(sizes))
    with stack() as running, ExitStack() as servers:
        token = running.token()
        databases = [running.copied(f"keys_{size}") for size in sizes]
        for size, database in zip(sizes, databases, strict=True):
            if size:
                say(f"filling a database with {size:,} live keys")
                fill_live(database, size, say)
        sized = tuple(at_rest(database) for size, database in zip(sizes, databases, strict=True) if size)
        say("starting a web server on each database")
        variants: list[Variant] = []
        for size, database in zip(sizes, databases, strict=True):
            server = servers.enter_context(serving(Site(f"keys-{size}", environ=CORELESS), database))
            variants += _variants(server, size, token)
        measured = measure(variants, rounds=options.rounds, seconds=options.seconds, say=say)
    return Scale(about, sizes, {variant.name: variant.what for variant in variants}, measured, sized)


def _variants(server: Server, size: int, token: str) -> list[Variant]:
    replays = stored(server, token)
    streams = [cycle(replays[number::CONNECTIONS]) for number in range(CONNECTIONS)]
    create = creating(server, "/api/funds", token=token, body=fund())
    return [
        Variant(_name("create", size), "new keys", create),
        Variant(
            _name("replay", size), f"{REPLAYED} stored keys in turn", sending(server, streams, expected=200)
        ),
    ]


def stored(server: Server, token: str) -> list[bytes]:
    """Create funds by the API; return the requests, which are replays from now on."""
    sent = [
        request("POST", "/api/funds", token=token, body=fund(), key=uuid.uuid4().hex) for _ in range(REPLAYED)
    ]
    connection = Connection(server.port)
    for each in sent:
        answer = connection.send(each)
        if answer.status != 201:
            raise UnexpectedAnswer(f"{answer.status}: {answer.body[:300]!r}")
    connection.close()
    return sent


def _name(action: str, size: int) -> str:
    return f"{action}, {size:,} keys"


def _speed_rows(found: Scale) -> list[list[str]]:
    return [speed_row(name, found.what[name], each) for name, each in found.measured.samples.items()]


def rendered(found: Scale, settings: dict[str, str]) -> list[str]:
    """Return the lines of scale.md."""
    ratio_rows = [
        [name, f"{ratio.median:.2f}", spread(ratio, 2)]
        for name, rounds in found.ratios().items()
        if (ratio := summary(rounds))
    ]
    lines = [
        "# Ever more keys",
        "",
        *described(settings),
        "Three databases on one PostgreSQL, each with a web server of its own, measured in turn, round after round:",
        f"{SERVED}. No server has a core of its own: there may be more of them than cores.",
        "The keys were filled in by SQL, as rows that the product would have written: random",
        f"digests and tokens, bodies of {BODY} bytes as the product packs them, expiries spread over a day and in",
        "the order of creation, through all indexes; then VACUUM and ANALYZE. No key expires within the run. The table",
        f"of funds holds only the funds of the run, and each database {REPLAYED} keys and the creates of the run on",
        "top of what its name says.",
        "",
        "## Speed",
        "",
        *table(SPEED_COLUMNS, _speed_rows(found)),
        *table(RATIO_COLUMNS, ratio_rows),
        "## Bytes at rest",
        "",
        f"After VACUUM, before any request. A row has a body of {BODY} bytes, packed to {PACKED}, a token of 36",
        "characters and a `Location`; the heap's figure has its free-space and visibility maps in it.",
        "",
    ]
    for each in found.at_rest:
        lines += table((f"{each.keys:,} keys", "MiB", "bytes per key"), each.rows())
    if found.measured.failures:
        lines += table(
            ("could not be measured", "why"), [list(pair) for pair in found.measured.failures.items()]
        )
    return lines
