"""Compare ours, P0, P1, the peers and the floors: on one machine and one database, in turn, in several rounds."""

import argparse
import uuid
from contextlib import ExitStack

from benchmarks import floor, footprint, pgbench, product, report, results, storm
from benchmarks.bodies import NAME, fund
from benchmarks.comparison import Comparison
from benchmarks.contestants import OURS, Contestant, contestants
from benchmarks.load import UnexpectedAnswer, ask, request
from benchmarks.ratios import P0, P1
from benchmarks.rounds import Say, Variant, creating, measure, repeating
from benchmarks.servers import Server, Site, serving, shown
from benchmarks.stack import Stack, machine, stack


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each variant in each round")


def run(options: argparse.Namespace, say: Say) -> None:
    """Measure, print, and write results.md and results.json."""
    settings = {"command": report.command(), "rounds": options.rounds, "seconds": options.seconds}
    results.write(_compared(options, say), settings)


def _compared(options: argparse.Namespace, say: Say) -> Comparison:
    found = Comparison(described=machine())
    with stack() as running:
        tokens = running.token(), running.token("somebody-else")
        say("recording the SQL of a create")
        recording = floor.record(running, tokens[0])
        found.create_sql, found.replay_sql = recording.create, recording.replay
        found.contestants = contestants(running, tokens, say)
        with ExitStack() as servers:
            variants = _variants(found, running, servers, tokens[0], recording)
            measured = measure(variants, rounds=options.rounds, seconds=options.seconds, say=say)
            found.samples, found.failures = measured.samples, measured.failures
        sites = [contestant.site for contestant in found.contestants if contestant.facts]
        say("cold starts")
        found.cold_starts = footprint.cold_starts(sites[:2], running, rounds=options.rounds)
        say("storms")
        found.weather = storm.measure(
            running, tokens[0], rounds=options.rounds, seconds=max(options.seconds, storm.SECONDS_MIN)
        )
    return found


def _variants(
    found: Comparison, running: Stack, servers: ExitStack, token: str, recording: floor.Recording
) -> list[Variant]:
    """Start a server for each contestant and floor. Only the one that is measured works."""

    def start(site: Site) -> Server:
        server = servers.enter_context(serving(site, running))
        environ = {"DJANGO_SETTINGS_MODULE": site.settings, **dict(site.environ)}
        variables = [f"{name}={value}" for name, value in environ.items()]
        found.commands[site.name] = shown(["env", *variables, *server.command])
        return server

    made: list[Variant] = []
    started: dict[str, Server] = {}
    for contestant in found.contestants:
        if contestant.facts is not None:
            server = started[contestant.name] = start(contestant.site)
            made += _of_contestant(contestant, server, token)
    unguarded = request("POST", "/bench/unguarded", token=token, body=fund())
    ours = started[OURS]
    made += [
        Variant(P1, "P1: our view without @idempotent", repeating(ours, unguarded, expected=201)),
        *product.variants(ours),
    ]
    bare, script = floor.write(recording, running.home)
    bare_server = start(Site("bare", "benchmarks.bare:create", environ=(("BENCH_FLOOR", str(bare)),)))
    nothing = start(Site("nothing", "benchmarks.bare:nothing"))
    found.commands["pgbench"] = shown(pgbench.command(running, script, 1))
    made += [
        Variant(
            "floor: bare WSGI",
            "the SQL of our create under a bare WSGI function",
            repeating(bare_server, request("POST", "/", body=fund()), expected=201),
        ),
        Variant(
            "floor: pgbench",
            "the SQL of our create, by pgbench",
            lambda seconds: pgbench.run(pgbench.command(running, script, seconds)),
        ),
        Variant(
            "ceiling",
            "an empty answer: the load generator's own limit",
            repeating(nothing, request("GET", "/"), expected=200),
        ),
    ]
    found.what = {variant.name: variant.what for variant in made}
    servers.callback(
        lambda: found.memory.update((name, footprint.memory(each)) for name, each in started.items())
    )
    return made


def _of_contestant(contestant: Contestant, server: Server, token: str) -> list[Variant]:
    """Return the variants of a contestant: creates under new keys and, if it replays, replays of one stored key."""
    name, path, body = contestant.name, contestant.path, contestant.body(NAME)
    create = creating(server, path, token=token, body=body)
    if name == P0:
        return [Variant(P0, "P0: stock DRF, no idempotency", create)]
    made = [Variant(f"{name}: create", "new keys", create)]
    if contestant.facts and contestant.facts.replay_status:
        stored = request("POST", path, token=token, body=body, key=uuid.uuid4().hex)
        answer = ask(server.port, stored)
        if answer.status != 201:
            raise UnexpectedAnswer(f"{name}: {answer.status}")
        replay = repeating(server, stored, expected=contestant.facts.replay_status)
        made.append(Variant(f"{name}: replay", "one stored key", replay))
    return made
