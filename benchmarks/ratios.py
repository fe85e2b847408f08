"""The ratios of a comparison: dividend, divisor and meaning of each."""

from collections.abc import Mapping, Sequence

from benchmarks.contestants import OURS, Contestant
from benchmarks.figures import Sample, fastest, ratios

P0, P1, QUEUED = "plain", "unguarded", f"{OURS} with its queue"
CREATE, REPLAY = f"{OURS}: create", f"{OURS}: replay"
FIXED = {
    "create_vs_p1": (CREATE, P1),
    "create_vs_plain": (CREATE, P0),
    "replay_vs_plain": (REPLAY, P0),
    "create_vs_floor": (CREATE, "floor: bare WSGI"),
    "create_vs_pgbench": (CREATE, "floor: pgbench"),
    "queued_create_vs_create": (f"{QUEUED}: create", CREATE),
    "queued_replay_vs_replay": (f"{QUEUED}: replay", REPLAY),
    "rollouts_304_vs_plain": ("rollouts 304", P0),
    "ofrep_vs_plain": ("ofrep", P0),
}
MEANING = {
    "create_vs_p1": "What is left of the speed of our own view once it is guarded.",
    "create_vs_plain": "A guarded create beside the create of stock DRF without idempotency.",
    "replay_vs_plain": "A replay beside the create of stock DRF, which a retry would be without idempotency.",
    "create_vs_floor": "A create beside its own SQL under a bare WSGI function.",
    "create_vs_pgbench": "A create beside its own SQL sent by pgbench, with no web server and no Python at all.",
    "queued_create_vs_create": "What it costs that requests wait where they can be counted and refused (WEB_QUEUE).",
    "queued_replay_vs_replay": "The same of a replay: a thread for each, where the others have one for all.",
    "rollouts_304_vs_plain": "A poll that finds nothing new, beside the create of stock DRF.",
    "ofrep_vs_plain": "The evaluation of one flag, beside the create of stock DRF.",
    "create_vs_best_peer": "Beside the fastest create of all Django peers, wherever they keep their keys.",
    "create_vs_best_database_peer": "Beside the fastest create of the Django peers that keep keys in PostgreSQL.",
    "replay_vs_best_peer": (
        "Beside the fastest replay of all Django peers. That one may answer a stored key to anybody who sends it, and "
        "skip what our replay must do: ask who is calling, and whether they may."
    ),
    "replay_vs_best_database_peer": "The same among the Django peers that keep keys in PostgreSQL.",
    "replay_vs_best_authenticating_peer": (
        "Beside the fastest replay of those Django peers that refuse a stored key without a token: like with like."
    ),
    "create_vs_best_safe_peer": (
        "Beside the fastest create of those Django peers that were found safe: they replay, refuse another body, make "
        "one row of eight requests at once, and show a stored answer to nobody but its user."
    ),
    "replay_vs_best_safe_peer": "Beside the fastest replay of the same peers.",
}

Samples = Mapping[str, Sequence[Sample]]


def compared(samples: Samples, contestants: Sequence[Contestant]) -> dict[str, tuple[str, str]]:
    """Return the ratios to report: name → (over, under). Those whose variants are missing are left out."""
    django = [each for each in contestants if each.peer and each.peer.framework == "django"]
    peers = [each for each in django if each.peer and each.peer.store != "none"]
    rivals = {
        "best_peer": peers,
        "best_database_peer": [each for each in peers if each.peer and each.peer.store == "database"],
        "best_safe_peer": [each for each in peers if each.facts and each.facts.safe],
    }
    authenticating = [each for each in peers if each.facts and each.facts.refuses_without_token]
    pairs = dict(FIXED)
    for action, mine in (("create", CREATE), ("replay", REPLAY)):
        groups = rivals if action == "create" else {**rivals, "best_authenticating_peer": authenticating}
        for label, group in groups.items():
            names = [f"{each.name}: {action}" for each in group]
            measured = {name: samples[name] for name in names if name in samples}
            if measured:
                pairs[f"{action}_vs_{label}"] = (mine, fastest(measured))
    return {name: pair for name, pair in pairs.items() if pair[0] in samples and pair[1] in samples}


def ratio_rounds(samples: Samples, contestants: Sequence[Contestant]) -> dict[str, list[float]]:
    """Return each ratio, round by round."""
    return {
        name: ratios(samples[over], samples[under])
        for name, (over, under) in compared(samples, contestants).items()
    }
