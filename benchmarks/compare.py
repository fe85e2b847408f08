"""Everything side by side: ours, P0, P1, the peers, the floors. One machine, one database, in turn, several rounds."""

import argparse
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import repeat
from typing import Any

from benchmarks import floor, footprint, storm
from benchmarks.bodies import NAME, fund
from benchmarks.contestants import OURS, Contestant, contestants
from benchmarks.figures import Sample, fastest, ratios, rotated
from benchmarks.load import (
    UnexpectedAnswer,
    ask,
    keep_sending,
    posts_with_new_keys,
    request,
)
from benchmarks.servers import Server, Site, serving, shown
from benchmarks.stack import Stack, machine, stack

CONNECTIONS = 2  # for one worker with one thread: the next request always waits
FLAG = "USE_FUND_STORE"
P0, P1 = "plain", "unguarded"
OFREP_BODY = b'{"context": {"targetingKey": "2f0f8a76-6f1b-4d53-9a36-6c1f2d4a9b1c"}}'

Say = Callable[[str], None]


@dataclass(frozen=True)
class Variant:
    """One thing to measure, and how to measure it for so many seconds."""

    name: str
    what: str
    run: Callable[[float], Sample]


@dataclass
class Comparison:
    """All that a run has found."""

    contestants: list[Contestant] = field(default_factory=list)
    what: dict[str, str] = field(default_factory=dict)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    memory: dict[str, list[footprint.Memory]] = field(default_factory=dict)
    cold_starts: dict[str, list[float]] = field(default_factory=dict)
    weather: storm.StormFigures | None = None
    create_sql: tuple[str, ...] = ()
    replay_sql: tuple[str, ...] = ()
    commands: dict[str, str] = field(default_factory=dict)
    described: dict[str, str] = field(default_factory=dict)


def compare(options: argparse.Namespace, say: Say) -> Comparison:
    """Run everything."""
    found = Comparison(described=machine())
    with stack() as running:
        tokens = running.token(), running.token("somebody-else")
        say("recording the SQL of a create")
        recording = floor.record(running, tokens[0])
        found.create_sql, found.replay_sql = recording.create.statements, recording.replay
        found.contestants = contestants(running, tokens, say)
        with ExitStack() as servers:
            variants = _variants(found, running, servers, tokens[0], recording)
            _measure(variants, found, rounds=options.rounds, seconds=options.seconds, say=say)
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
    """Start a server for each contestant and floor, all of them idle but the one that is measured."""

    def start(site: Site) -> Server:
        server = servers.enter_context(serving(site, running))
        environ = " ".join("=".join(pair) for pair in site.environ)
        found.commands[site.name] = f"{environ} {shown(server.command)}".strip()
        return server

    made: list[Variant] = []
    started: dict[str, Server] = {}
    for contestant in found.contestants:
        if contestant.facts is not None:
            server = started[contestant.name] = start(contestant.site)
            made += _of_contestant(contestant, server, token)
    made += _of_ours(started[OURS], token)
    bare, script = floor.write(recording, running.home)
    bare_server = start(Site("bare", "benchmarks.bare:create", environ=(("BENCH_FLOOR", str(bare)),)))
    nothing = start(Site("nothing", "benchmarks.bare:nothing"))
    pgbench = floor.pgbench_command(running, script, 1)
    found.commands["pgbench"] = shown(pgbench)
    made += [
        Variant(
            "floor: bare WSGI",
            "the SQL of our create under a bare WSGI function",
            _constant(bare_server, request("POST", "/", body=fund()), 201),
        ),
        Variant(
            "floor: pgbench",
            "the SQL of our create, by pgbench",
            lambda seconds: floor.run_pgbench(floor.pgbench_command(running, script, seconds)),
        ),
        Variant(
            "ceiling",
            "an empty answer: the load generator's own limit",
            _constant(nothing, request("GET", "/"), 200),
        ),
    ]
    found.what = {variant.name: variant.what for variant in made}
    servers.callback(
        lambda: found.memory.update((name, footprint.memory(each)) for name, each in started.items())
    )
    return made


def _of_contestant(contestant: Contestant, server: Server, token: str) -> list[Variant]:
    """Creation under new keys and, for who replays, replay of one stored key."""
    name, path, body = contestant.name, contestant.path, contestant.body(NAME)
    streams = [posts_with_new_keys(path, token=token, body=body) for _ in range(CONNECTIONS)]

    def create(seconds: float) -> Sample:
        return keep_sending(server.port, streams, seconds=seconds, expected=201)

    if name == P0:
        return [Variant(P0, "P0: stock DRF, no idempotency", create)]
    made = [Variant(f"{name}: create", "new keys", create)]
    if contestant.facts and contestant.facts.replay_status:
        stored = request("POST", path, token=token, body=body, key=uuid.uuid4().hex)
        answer = ask(server.port, stored)
        if answer.status != 201:
            raise UnexpectedAnswer(f"{name}: {answer.status}")
        made.append(
            Variant(
                f"{name}: replay", "one stored key", _constant(server, stored, contestant.facts.replay_status)
            )
        )
    return made


def _of_ours(server: Server, token: str) -> list[Variant]:
    tag = ask(server.port, request("GET", "/api/rollouts")).header("ETag") or ""
    unguarded = request("POST", "/bench/unguarded", token=token, body=fund())
    polled = request("GET", "/api/rollouts", headers=[("If-None-Match", tag)])
    evaluated = request("POST", f"/ofrep/v1/evaluate/flags/{FLAG}", body=OFREP_BODY)
    return [
        Variant(P1, "P1: our view without @idempotent", _constant(server, unguarded, 201)),
        Variant("rollouts 304", "GET /api/rollouts, not modified", _constant(server, polled, 304)),
        Variant("ofrep", "OFREP evaluation of one flag", _constant(server, evaluated, 200)),
    ]


def _constant(server: Server, sent: bytes, expected: int) -> Callable[[float], Sample]:
    def run(seconds: float) -> Sample:
        streams = [repeat(sent) for _ in range(CONNECTIONS)]
        return keep_sending(server.port, streams, seconds=seconds, expected=expected)

    return run


def _measure(
    variants: Sequence[Variant], found: Comparison, *, rounds: int, seconds: float, say: Say
) -> None:
    """Measure all in turn, each round begun with another one. Round 0 warms up.

    Who fails in the middle is left out and named in ``failures``.
    """
    found.samples = {variant.name: [] for variant in variants}
    for number in range(rounds + 1):
        say(f"round {number} of {rounds}")
        for variant in rotated(variants, number):
            if variant.name in found.failures:
                continue
            try:
                sample = variant.run(seconds if number else min(seconds, 1.0))
            except (OSError, UnexpectedAnswer) as error:
                found.failures[variant.name] = repr(error)
                del found.samples[variant.name]
                continue
            if number:
                found.samples[variant.name].append(sample)


def compared(found: Comparison) -> dict[str, tuple[str, str]]:
    """The ratios to report: name → (over, under). Those whose variants are missing are left out."""
    ours = f"{OURS}: create", f"{OURS}: replay"
    pairs = {
        "create_vs_p1": (ours[0], P1),
        "create_vs_plain": (ours[0], P0),
        "replay_vs_plain": (ours[1], P0),
        "create_vs_floor": (ours[0], "floor: bare WSGI"),
        "create_vs_pgbench": (ours[0], "floor: pgbench"),
        "rollouts_304_vs_plain": ("rollouts 304", P0),
        "ofrep_vs_plain": ("ofrep", P0),
    }
    for action, mine in zip(("create", "replay"), ours, strict=True):
        for label, stores in (("peer", ("database", "valkey")), ("database_peer", ("database",))):
            rivals = {
                name: found.samples[name]
                for contestant in found.contestants
                if contestant.peer
                and contestant.peer.framework == "django"
                and contestant.peer.store in stores
                if (name := f"{contestant.name}: {action}") in found.samples
            }
            if rivals:
                pairs[f"{action}_vs_best_{label}"] = (mine, fastest(rivals))
    return {
        name: pair for name, pair in pairs.items() if pair[0] in found.samples and pair[1] in found.samples
    }


def ratio_rounds(found: Comparison) -> dict[str, list[float]]:
    return {
        name: ratios(found.samples[over], found.samples[under])
        for name, (over, under) in compared(found).items()
    }


def as_json(found: Comparison) -> dict[str, Any]:
    """Everything, round by round."""
    return {
        "settings": found.described,
        "commands": found.commands,
        "samples": {name: [asdict(sample) for sample in samples] for name, samples in found.samples.items()},
        "ratios": ratio_rounds(found),
        "peers": {
            contestant.name: {
                "package": contestant.peer.package if contestant.peer else OURS,
                "version": contestant.version,
                "facts": asdict(contestant.facts) if contestant.facts else None,
                "failure": contestant.failure,
            }
            for contestant in found.contestants
        },
        "failures": found.failures,
        "memory": {name: [asdict(each) for each in workers] for name, workers in found.memory.items()},
        "cold_starts": found.cold_starts,
        "storm": asdict(found.weather) if found.weather else None,
        "sql": {"create": found.create_sql, "replay": found.replay_sql},
    }
