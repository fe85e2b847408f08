"""The storms: the fault of each, and its pace."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import psutil
import psycopg

from chaos.stack import Stack

Wait = float  # s
Harm = Callable[[Stack, random.Random], Iterator[Wait]]


@dataclass(frozen=True)
class Storm:
    """A kind of fault. ``harm`` causes it once, and yields the seconds to wait during and after it.

    ``proxied``: the fault is one of the proxy in front of the database.
    """

    name: str
    what: str
    harm: Harm | None = None
    proxied: bool = False


def _web_workers(stack: Stack, random: random.Random) -> Iterator[Wait]:
    if workers := stack.web_workers():
        with suppress(psutil.NoSuchProcess):
            random.choice(workers).kill()
    yield 1.0


def _celery(stack: Stack, random: random.Random) -> Iterator[Wait]:
    stack.kill_programs(random.choice(("worker", "checks", "beat")))
    yield 1.0


def _postgres_restarted(stack: Stack, _random: random.Random) -> Iterator[Wait]:
    stack.postgres.stop()
    stack.postgres.start()
    yield 3.0


def _postgres_killed(stack: Stack, random: random.Random) -> Iterator[Wait]:
    stack.postgres.kill()
    yield random.uniform(0, 1)
    stack.postgres.start()
    yield 3.0


def _connections(stack: Stack, _random: random.Random) -> Iterator[Wait]:
    stack.proxy.say("cut")
    url = stack.postgres.url("fundapi", "fundapi")
    with ExitStack() as taken:
        with suppress(psycopg.OperationalError):
            while True:
                taken.enter_context(psycopg.connect(url, connect_timeout=5))
        yield 2.0
    yield 2.0


def _valkey(stack: Stack, random: random.Random) -> Iterator[Wait]:
    stack.kill_valkey()
    yield random.uniform(0, 2)
    stack.valkey.start()
    yield 2.0


def _network(stack: Stack, random: random.Random) -> Iterator[Wait]:
    match random.choice(("cut", "stall", "half_close", "delay", "refuse")):
        case "stall":
            stack.proxy.say("stall")
            yield random.uniform(0.5, 2)
            stack.proxy.say("resume")
        case "delay":
            stack.proxy.say("delay", "0.05")
            yield 2.0
            stack.proxy.say("delay", "0")
        case "refuse":
            stack.proxy.say("refuse")
            yield 1.0
            stack.proxy.say("accept")
        case other:
            stack.proxy.say(other)
    yield 1.0


def _everything(stack: Stack, _random: random.Random) -> Iterator[Wait]:
    stack.kill_programs("web", "worker", "checks", "beat")
    stack.postgres.kill()
    stack.kill_valkey()
    yield 0.5
    stack.postgres.start()
    stack.valkey.start()
    yield 8.0


STORMS = [
    Storm("calm", "answers that nobody reads, the same request from two tabs; and nothing else"),
    Storm("web", "kill -9 of a web worker, every second", _web_workers),
    Storm("celery", "kill -9 of a Celery worker or of beat, every second", _celery),
    Storm("restart", "PostgreSQL is restarted, every 3 s", _postgres_restarted),
    Storm("postgres", "kill -9 of all of PostgreSQL, every 4 s", _postgres_killed),
    Storm("connections", "PostgreSQL is out of connections, for 2 s of 4", _connections, proxied=True),
    Storm("valkey", "kill -9 of Valkey, away for up to 2 s of 4", _valkey),
    Storm(
        "network",
        "between web and database: cut, stalled, half-closed, delayed, refused",
        _network,
        proxied=True,
    ),
    Storm("everything", "kill -9 of every process at once, every 8 s", _everything),
]
