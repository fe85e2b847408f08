"""The storms: the fault of each, and its pace."""

import random
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import psutil
import psycopg

from chaos.stack import Stack

Wait = float  # s
Harm = Callable[[Stack, random.Random], Iterator[Wait]]
SILENT = 1100  # connections: more than the server and the kernel take together
HUNG = (2.0, 6.0)  # s
FROZEN = 25.0  # s; by then a frozen process has been replaced


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


def _hanging(stack: Stack, random: random.Random) -> Iterator[Wait]:
    both = (stack.valkey_proxy, stack.proxy)
    hung = random.choice((both[:1], both[1:], both))
    for proxy in hung:
        proxy.say("stall")
    yield random.uniform(*HUNG)
    if stack.proxy not in hung:
        stack.must_create("while Valkey hangs", within=2)
    for proxy in hung:
        proxy.say(random.choice(("resume", "strand")))  # they come back, or only new connections work
    yield 1.0
    stack.must_create("after PostgreSQL or Valkey hung", within=5)


def _read_only(stack: Stack, _random: random.Random) -> Iterator[Wait]:
    stack.configure("default_transaction_read_only", "on")
    yield 2.0
    stack.must_not_be_ready("while PostgreSQL is read-only")
    stack.configure("default_transaction_read_only", "off")
    yield 2.0
    stack.must_create("after PostgreSQL was read-only", within=5)


def _frozen(stack: Stack, random: random.Random) -> Iterator[Wait]:
    name = random.choice(("web", "worker", "checks", "beat"))
    with suppress(psutil.NoSuchProcess, IndexError):
        process = random.choice(stack.web_workers() if name == "web" else stack.processes(name))
        process.suspend()
        yield FROZEN
        if process.is_running() and process.status() == psutil.STATUS_STOPPED:
            stack.complaints.append(f"a frozen process of {name} was not replaced in {FROZEN:g} s")
            process.resume()
    yield 1.0


def _silent(stack: Stack, _random: random.Random) -> Iterator[Wait]:
    with ExitStack() as connections:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * SILENT), hard))
        connections.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with suppress(OSError):
            for _ in range(SILENT):
                address = ("127.0.0.1", stack.port)
                connections.enter_context(socket.create_connection(address, timeout=1))
        yield 5.0
    yield 2.0
    stack.must_create("after silent connections", within=5)


def _migrated(stack: Stack, _random: random.Random) -> Iterator[Wait]:
    stack.manage("migrate", "idempotency", "0001", "--verbosity", "0")
    yield 2.0
    stack.must_not_be_ready("while the schema is one migration behind")
    stack.manage("migrate", "--verbosity", "0")
    yield 2.0
    with stack.postgres.superuser() as connection:
        connection.execute("ALTER TABLE fundapi_fund ADD next_version text")
        connection.execute("INSERT INTO django_migrations VALUES (DEFAULT, 'fundapi', '9999_next', now())")
        yield 2.0
        stack.must_create("while the schema is one migration ahead", within=5)
        stack.must_be_ready("while the schema is one migration ahead")
        connection.execute("ALTER TABLE fundapi_fund DROP next_version")
        connection.execute("DELETE FROM django_migrations WHERE name = '9999_next'")


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
    Storm(
        "stall", "Valkey, PostgreSQL or both accept and never answer, for 2 to 6 s", _hanging, proxied=True
    ),
    Storm("readonly", "PostgreSQL refuses writes, for 2 s of 4", _read_only),
    Storm("frozen", "SIGSTOP of a process of web, worker or beat, until it is replaced", _frozen),
    Storm("silent", f"{SILENT:,} connections that say nothing, for 5 s of 7", _silent),
    Storm("behind", "the schema is one migration behind, then one ahead", _migrated),
    Storm("everything", "kill -9 of every process at once, every 8 s", _everything),
]
