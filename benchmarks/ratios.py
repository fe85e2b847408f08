"""The ratios of a comparison: of CPU, because it holds on a busy machine, where requests per second do not."""

from collections.abc import Mapping, Sequence

from benchmarks.contestants import OURS, Contestant
from benchmarks.figures import Sample, cheapest, cpu_ratios

P0, P1 = "plain", "unguarded"
CREATE, REPLAY = f"{OURS}: create", f"{OURS}: replay"
NAMED = {"fastapi_idempotency": "fastapi-idempotency, PostgreSQL", "idemkit": "idemkit, PostgreSQL"}
FIXED = {
    "create_vs_p1": (CREATE, P1),
    "create_vs_plain": (CREATE, P0),
    "replay_vs_plain": (REPLAY, P0),
    "create_vs_floor": (CREATE, "floor: bare WSGI"),
    "poll_vs_plain": ("poll", P0),
    "ofrep_vs_plain": ("ofrep", P0),
    **{
        f"{action}_vs_{label}": (mine, f"{name}: {action}")
        for label, name in NAMED.items()
        for action, mine in (("create", CREATE), ("replay", REPLAY))
    },
}
MEANING = {
    "create_vs_p1": "Our own view unguarded, beside a create: below 1 by what the guard takes.",
    "create_vs_plain": "The create of stock DRF without idempotency, beside a guarded create.",
    "replay_vs_plain": "The create of stock DRF, which a retry would be without idempotency, beside a replay.",
    "create_vs_floor": "The SQL of a create under a bare WSGI function, beside the create.",
    "poll_vs_plain": "The create of stock DRF, beside a poll that finds nothing new.",
    "ofrep_vs_plain": "The create of stock DRF, beside the evaluation of one flag.",
    "create_vs_fastapi_idempotency": "The create of the cheapest peer of FastAPI that keeps its keys in PostgreSQL.",
    "replay_vs_fastapi_idempotency": "Its replay.",
    "create_vs_idemkit": "The create of the Django peer that keeps most of the promises, in PostgreSQL too.",
    "replay_vs_idemkit": "Its replay.",
    "create_vs_best_peer": "The cheapest create of all peers, of any framework, wherever they keep their keys.",
    "replay_vs_best_peer": (
        "The cheapest replay of all peers. That one may answer a stored key to anybody who sends it, and skip what our "
        "replay must do: ask who is calling, and whether they may."
    ),
    "create_vs_best_django_peer": "The cheapest create of the Django peers.",
    "replay_vs_best_django_peer": "The cheapest replay of the Django peers, with the same reservation.",
    "create_vs_best_safe_peer": (
        "The cheapest create of the peers of any framework that were found safe, if only until a kill."
    ),
    "replay_vs_best_safe_peer": "Their cheapest replay.",
}

Samples = Mapping[str, Sequence[Sample]]


def compared(samples: Samples, contestants: Sequence[Contestant]) -> dict[str, tuple[str, str]]:
    """Return the ratios to report: name → (ours, theirs). Those whose variants are missing are left out."""
    peers = [each for each in contestants if each.peer and each.peer.store != "none"]
    rivals = {
        "best_peer": peers,
        "best_django_peer": [each for each in peers if each.peer and each.peer.framework == "django"],
        "best_safe_peer": [each for each in peers if each.facts and each.facts.safe],
    }
    pairs = dict(FIXED)
    for action, mine in (("create", CREATE), ("replay", REPLAY)):
        for label, group in rivals.items():
            names = [f"{each.name}: {action}" for each in group]
            measured = {name: samples[name] for name in names if name in samples}
            if measured:
                pairs[f"{action}_vs_{label}"] = (mine, cheapest(measured))
    return {name: pair for name, pair in pairs.items() if pair[0] in samples and pair[1] in samples}


def ratio_rounds(samples: Samples, contestants: Sequence[Contestant]) -> dict[str, list[float]]:
    """Return each ratio, round by round: how many times our CPU theirs is."""
    return {
        name: cpu_ratios(samples[mine], samples[theirs])
        for name, (mine, theirs) in compared(samples, contestants).items()
    }
