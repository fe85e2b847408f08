"""A comparison with made-up figures."""

from benchmarks.comparison import Comparison
from benchmarks.contestants import OURS, Contestant
from benchmarks.figures import Sample
from benchmarks.footprint import Memory
from benchmarks.peers.catalog import Peer
from benchmarks.peers.facts import Facts
from benchmarks.servers import Site
from benchmarks.storm import Storm, StormFigures
from benchmarks.variables import Message


def samples(*rates: float) -> list[Sample]:
    """Samples of these rates, of a worker that is busy all the time."""
    return [Sample(count=int(rate), rate=rate, p50=1.5, p99=9.25, cpu=1000 / rate) for rate in rates]


def facts(no_token: str) -> Facts:
    return Facts(
        replay_status=200,
        replay="200, same bytes",
        other_body="409",
        storm="1 row (1 x 201, 7 x 409)",
        other_user="201, a row of their own",
        no_token=no_token,
        killed="1 row (1 x 200, 2 x 201)",
    )


def contestant(
    name: str, peer: Peer | None = None, *, no_token: str = "401", failure: str = ""
) -> Contestant:
    found = None if failure else facts(no_token)
    return Contestant(name, Site(name), "/", lambda _: b"{}", peer, "1.2", found, failure)


def comparison() -> Comparison:
    """Ours and five others: one has keys in Valkey and answers anybody, one does not work, one is no Django."""
    contestants = [
        contestant(OURS),
        contestant("plain", Peer("plain", "none", "none")),
        contestant("open", Peer("open", "open", "valkey"), no_token="201, the stored answer"),
        contestant("strict", Peer("strict", "strict", "database")),
        contestant("on FastAPI", Peer("on FastAPI", "other", "database", "fastapi")),
        contestant("broken", Peer("broken", "broken", "database"), failure="does not start: no | such\nfile"),
    ]
    rates = {
        f"{OURS}: create": (100, 110, 120),
        f"{OURS}: replay": (400, 440, 480),
        "plain": (100, 100, 100),
        "open: create": (50, 50, 50),
        "open: replay": (800, 800, 800),
        "strict: create": (40, 40, 40),
        "strict: replay": (200, 200, 200),
        "on FastAPI: create": (200, 200, 200),
        "on FastAPI: replay": (1000, 1000, 1000),
    }
    measured = {name: samples(*of) for name, of in rates.items()}
    storm = Storm(waves=1, statuses={201: 1, 409: 63}, claims=64)
    return Comparison(
        contestants=contestants,
        what=dict.fromkeys(measured, "new keys"),
        samples=measured,
        failures={"ofrep": "ConnectionError()"},
        memory={OURS: [Memory(rss=80.4, pss=60, uss=50)], "plain": [Memory(rss=99, pss=70, uss=60)]},
        cold_starts={"ours": [1.25, 1.5], "plain": [1.0, 2.0]},
        weather=StormFigures(
            {"calm": samples(100), "64 clients, one key": samples(20)}, {"64 clients": storm}
        ),
        create_sql=(Message("BEGIN; SELECT 1"), Message("SELECT $1", ("%%uuid0%%",), prepared=True)),
        replay_sql=(Message("SELECT 1"),),
        commands={"ours": "python -m granian"},
        described={"python": "3.11"},
    )
