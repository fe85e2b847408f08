"""The contestants: ours, and each peer that can be installed, set up and asked."""

import re
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import distributions

from benchmarks import killing
from benchmarks.bodies import fund, stock_fund
from benchmarks.load import request
from benchmarks.peers.catalog import PEERS, Peer
from benchmarks.peers.facts import Body, Count, Facts, Probe
from benchmarks.peers.install import NotInstalled, python_for
from benchmarks.servers import Server, Site, serving
from benchmarks.stack import PROJECT, Stack

OURS = "fundapi"
WORKERS = 2  # as `make run` serves on two cores: storms meet each other


@dataclass(frozen=True)
class Contestant:
    """An implementation to measure. If it does not work here, ``facts`` is None and ``failure`` says why."""

    name: str
    site: Site
    path: str
    body: Body  # of a fund with this name
    peer: Peer | None = None
    version: str = ""
    facts: Facts | None = None
    failure: str = ""


def contestants(stack: Stack, tokens: tuple[str, str], say: Callable[[str], None]) -> list[Contestant]:
    """Yield ours first, then P0, then the peers."""
    found = [_asked(Contestant(OURS, Site("ours"), "/api/funds", fund), stack, tokens)]
    for peer in PEERS.values():
        say(f"setting up and asking: {peer.name}")
        found.append(prepared(peer, stack, tokens))
        if failure := found[-1].failure:
            say(f"  {failure}")
    return found


def prepared(peer: Peer, stack: Stack, tokens: tuple[str, str]) -> Contestant:
    """Install, set up and ask a peer."""
    try:
        python = python_for(peer)
    except NotInstalled as error:
        return Contestant(
            peer.name, Site(peer.name), "", stock_fund, peer, failure=f"cannot be installed: {error}"
        )
    site = Site(
        name=_slug(peer.name),
        application=(
            "benchmarks.peers.wsgi:application"
            if peer.framework == "django"
            else "benchmarks.peers.on_fastapi:application"
        ),
        interface="wsgi" if peer.framework == "django" else "asgi",
        python=python,
        settings="benchmarks.peers.settings",
        environ=(("BENCH_PEER", peer.name),),
    )
    contestant = Contestant(peer.name, site, "/bench/funds", stock_fund, peer, _version(peer))
    if peer.setup:
        arguments = [part.format(database_url=stack.database_url) for part in peer.setup]
        environ = {**stack.environ, "DJANGO_SETTINGS_MODULE": site.settings, **dict(site.environ)}
        done = subprocess.run(
            [python, *arguments], cwd=PROJECT, env=environ, check=False, capture_output=True, text=True
        )
        if done.returncode != 0:
            return _failed(contestant, f"cannot be set up: {_last_line(done.stderr)}")
    return _asked(contestant, stack, tokens)


def _asked(contestant: Contestant, stack: Stack, tokens: tuple[str, str]) -> Contestant:
    def count(name: str) -> int:
        with stack.superuser() as connection:
            row = connection.execute("SELECT count(*) FROM fundapi_fund WHERE name = %s", [name]).fetchone()
        return int(row[0]) if row else 0

    try:
        with serving(contestant.site, stack, workers=WORKERS) as server:
            try:
                facts = Probe(server.port, contestant.path, tokens, contestant.body, count).facts()
            except (OSError, AssertionError) as error:
                return _failed(contestant, f"does not work: {error} ({_exception(server)})")
    except RuntimeError as error:
        return _failed(contestant, f"does not start: {_last_line(str(error))}")
    return replace(contestant, facts=replace(facts, killed=_killed(contestant, stack, tokens[0], count)))


def _killed(contestant: Contestant, stack: Stack, token: str, count: Count) -> str:
    def post(key: str, name: str) -> bytes:
        return request("POST", contestant.path, token=token, body=contestant.body(name), key=key)

    try:
        return killing.killed(contestant.site, stack, post, count)
    except (OSError, RuntimeError) as error:
        return f"could not be found out: {_last_line(str(error))}"


def _exception(server: Server) -> str:
    """Return the latest exception in a server's log, which is JSON if the server is ours, and plain otherwise."""
    said = server.last_words()
    found = re.findall(r'"exc_value":"(.*?)(?<!\\)"', said)
    return str(found[-1]) if found else _last_line(said)


def _failed(contestant: Contestant, failure: str) -> Contestant:
    return replace(contestant, failure=failure)


def _version(peer: Peer) -> str:
    """Return the versions that are installed beside that Python, not those that are pinned."""
    if peer.store == "none":
        return ""
    where = [
        str(path) for path in (PROJECT / ".bench").glob(f"peers/{peer.package}/lib/python3.*/site-packages")
    ]
    with suppress(StopIteration):
        return next(found.version for found in distributions(path=where) if found.name == peer.package)
    return ""


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def _slug(name: str) -> str:
    return "".join(character if character.isalnum() else "-" for character in name.lower())
