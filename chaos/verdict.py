"""The cost of a storm: acknowledgements compared with the funds that exist afterwards. Pure functions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A fund that the server acknowledged: the first 201 or 200 that its client read."""

    key: str  # which is the fund's name as well
    body: str
    at: float = 0.0  # s, of the clients' clock


@dataclass(slots=True)
class Journal:
    """Answers that the clients of a storm received."""

    requests: int = 0
    turned_away: int = 0  # answers to retry: 409 in progress, 429, 502, 503, 504
    keys: list[str] = field(default_factory=list)  # of every fund that was asked for, acknowledged or not
    acknowledgements: list[Acknowledgement] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)  # keys with two answers that are not the same bytes
    unexpected: dict[str, int] = field(default_factory=dict)  # wrong answers by status and code
    pending: int = 0  # keys without an answer at the end


@dataclass(frozen=True, slots=True)
class Replay:
    """The answer to a key once more, after the storm."""

    created: bool  # the key had been lost, and created its fund again
    body: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The figures of a storm. Without loss: all of them 0."""

    lost: int  # acknowledged funds that do not exist, or whose key was lost
    doubled: int  # keys with more than one fund, acknowledged or not
    differing: int  # answers to one key that are not the same bytes
    unexpected: int
    pending: int

    def __bool__(self) -> bool:
        """Return True if nothing was lost, doubled or wrong."""
        return not (self.lost or self.doubled or self.differing or self.unexpected or self.pending)


def longest_pause(journal: Journal) -> float:
    """Return the longest time without an acknowledgement, in seconds."""
    times = sorted(acknowledged.at for acknowledged in journal.acknowledgements)
    return max((after - before for before, after in pairwise(times)), default=0.0)


def judge(journal: Journal, funds: Iterable[str], replays: Mapping[str, Replay]) -> Verdict:
    """Compare the acknowledgements with the names of all existing ``funds`` and the ``replays`` of their keys."""
    there: dict[str, int] = {}
    for name in funds:
        there[name] = there.get(name, 0) + 1
    lost, differing = 0, set(journal.differing)
    for acknowledged in journal.acknowledgements:
        replay = replays.get(acknowledged.key)
        if acknowledged.key not in there or replay is None or replay.created:
            lost += 1
        elif replay.body != acknowledged.body:
            differing.add(acknowledged.key)
    return Verdict(
        lost=lost,
        doubled=sum(there.get(key, 0) > 1 for key in journal.keys),
        differing=len(differing),
        unexpected=sum(journal.unexpected.values()),
        pending=journal.pending,
    )
