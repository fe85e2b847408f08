"""The cost of a storm: acknowledgements compared with the funds that are there afterwards. Pure functions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A fund that the server said it had created: the first 201 or 200 that its client read."""

    key: str  # which is the fund's name as well
    body: str


@dataclass(slots=True)
class Journal:
    """Answers that the clients of a storm received."""

    requests: int = 0
    turned_away: int = 0  # answers that ask to try again: 409 in progress, 429, 502, 503, 504
    keys: list[str] = field(default_factory=list)  # of every fund that was asked for, acknowledged or not
    acknowledgements: list[Acknowledgement] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)  # keys with two answers that are not the same bytes
    unexpected: dict[str, int] = field(default_factory=dict)  # status and code of answers that nobody may get
    pending: int = 0  # keys that had no answer when patience was over


@dataclass(frozen=True, slots=True)
class Replay:
    """The answer to a key once more, after the storm."""

    created: bool  # it had been forgotten, and took effect anew
    body: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The figures of a storm. Without loss: all of them 0."""

    lost: int  # acknowledged, and there is no such fund, or its key is forgotten
    doubled: int  # keys with more than one fund, acknowledged or not
    differing: int  # answers to one key that are not the same bytes
    unexpected: int
    pending: int

    def __bool__(self) -> bool:
        """Whether nothing was lost, doubled or wrong."""
        return not (self.lost or self.doubled or self.differing or self.unexpected or self.pending)


def judge(journal: Journal, funds: Iterable[str], replays: Mapping[str, Replay]) -> Verdict:
    """Compare what clients were told with the names of all ``funds`` there are and the ``replays`` of their keys."""
    there: dict[str, int] = {}
    for name in funds:
        there[name] = there.get(name, 0) + 1
    lost, differing = 0, set(journal.differing)
    for told in journal.acknowledgements:
        replay = replays.get(told.key)
        if told.key not in there or replay is None or replay.created:
            lost += 1
        elif replay.body != told.body:
            differing.add(told.key)
    return Verdict(
        lost=lost,
        doubled=sum(there.get(key, 0) > 1 for key in journal.keys),
        differing=len(differing),
        unexpected=sum(journal.unexpected.values()),
        pending=journal.pending,
    )
