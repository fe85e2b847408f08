"""The result of a comparison."""

from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.contestants import OURS, Contestant
from benchmarks.figures import Sample
from benchmarks.footprint import Memory
from benchmarks.ratios import ratio_rounds
from benchmarks.storm import StormFigures
from benchmarks.variables import Message


@dataclass
class Comparison:
    """The figures of a run."""

    contestants: list[Contestant] = field(default_factory=list)
    what: dict[str, str] = field(default_factory=dict)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    memory: dict[str, list[Memory]] = field(default_factory=dict)
    cold_starts: dict[str, list[float]] = field(default_factory=dict)
    weather: StormFigures | None = None
    create_sql: tuple[Message, ...] = ()
    replay_sql: tuple[Message, ...] = ()
    commands: dict[str, str] = field(default_factory=dict)
    described: dict[str, str] = field(default_factory=dict)


def as_json(found: Comparison) -> dict[str, Any]:
    """Return all figures, round by round."""
    return {
        "settings": found.described,
        "commands": found.commands,
        "samples": {name: [asdict(sample) for sample in samples] for name, samples in found.samples.items()},
        "ratios": ratio_rounds(found.samples, found.contestants),
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
        "sql": {
            "create": [asdict(message) for message in found.create_sql],
            "replay": [asdict(message) for message in found.replay_sql],
        },
    }
