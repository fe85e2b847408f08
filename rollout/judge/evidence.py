"""Evidence of a check: the telemetry of its window, counted by client so that a noisy one cannot dominate. Pure."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import IntFlag
from typing import Protocol
from uuid import UUID

from rollout.judge.events import ErrorClass, Event, classify
from rollout.judge.policy import Policy
from rollout.judge.scoring import points, score

NAMES = 10  # the most frequent failed events that a check keeps by name


@dataclass(frozen=True, slots=True)
class Counts:
    """Clients and sessions by behaviour, each counted once in a stage. Stored: fields keep their names."""

    succeeded: int = 0  # clients whose migration succeeded
    failed: int = 0  # clients whose migration failed
    kill_switch: int = 0  # clients that used a kill switch
    sample: int = 0  # clients with a heartbeat that have the feature, or do not say
    treatment: int = 0  # clients that said they have the feature
    control: int = 0  # clients that said only that they do not
    treatment_errors: int = 0  # clients with the feature and a failed event other than a migration
    control_errors: int = 0  # the same of clients without it
    sessions: int = 0  # sessions with a heartbeat
    error_sessions: int = 0  # sessions with a failed event

    def __add__(self, other: "Counts") -> "Counts":
        mine, theirs = asdict(self), asdict(other)
        return Counts(**{name: mine[name] + theirs[name] for name in mine})


@dataclass(frozen=True, slots=True)
class Evidence:
    """Telemetry since the previous check, summed up. Stored: fields keep their names."""

    events: int = 0
    clients: int = 0
    heartbeats: int = 0  # sessions that sent one
    treatment: int = 0  # clients with a heartbeat that have the feature
    control: int = 0
    score: int = 0  # capped for each client
    points: int = 0  # not capped
    errors: dict[str, int] = field(default_factory=dict)  # failed events by class
    names: dict[str, int] = field(default_factory=dict)  # the most frequent failed events by name
    console_warnings: int = 0  # clients
    console_errors: int = 0  # clients
    lost: int = 0  # events that browsers dropped, of the sessions that reported a new loss
    lossy_clients: int = 0
    new: Counts = Counts()


class Behaviour(IntFlag):
    """Behaviour flags of a client or a session in a stage. Their numbers are stored and never change."""

    HEARTBEAT = 1
    WITH_FEATURE = 2  # an event with a variant that means the feature
    WITHOUT_FEATURE = 4  # an event with another variant
    MIGRATED = 8
    MIGRATION_FAILED = 16
    KILL_SWITCH = 32
    ERROR_WITH_FEATURE = 64  # a failed event other than a migration
    SESSION_HEARTBEAT = 128
    SESSION_ERROR = 256
    ERROR_WITHOUT_FEATURE = 512


class EventsAlike(Protocol):
    """A row of :func:`rollout.store.window`."""

    @property
    def client(self) -> UUID: ...
    @property
    def session(self) -> UUID: ...
    @property
    def event(self) -> str: ...
    @property
    def category(self) -> str: ...
    @property
    def ok(self) -> bool: ...
    @property
    def variant(self) -> str | None: ...
    @property
    def count(self) -> int: ...
    @property
    def lost(self) -> int: ...


def behaviours(rows: Collection[EventsAlike], variants_with: frozenset[str]) -> dict[UUID, Behaviour]:
    """Return the behaviour flags of each client and each session in a window."""
    flags: defaultdict[UUID, Behaviour] = defaultdict(lambda: Behaviour(0))
    for row in rows:
        if row.event == Event.HEARTBEAT:
            flags[row.client] |= Behaviour.HEARTBEAT
            flags[row.session] |= Behaviour.SESSION_HEARTBEAT
        with_feature = None if row.variant is None else row.variant in variants_with
        if with_feature is not None:
            flags[row.client] |= Behaviour.WITH_FEATURE if with_feature else Behaviour.WITHOUT_FEATURE
        if row.event == Event.MIGRATION_SUCCEEDED and row.ok:
            flags[row.client] |= Behaviour.MIGRATED
        if row.event == Event.KILL_SWITCH_USED:
            flags[row.client] |= Behaviour.KILL_SWITCH
        if not row.ok:
            flags[row.session] |= Behaviour.SESSION_ERROR
            if classify(row.event, row.category) is ErrorClass.MIGRATION:
                flags[row.client] |= Behaviour.MIGRATION_FAILED
            elif with_feature is not None:
                flags[row.client] |= (
                    Behaviour.ERROR_WITH_FEATURE if with_feature else Behaviour.ERROR_WITHOUT_FEATURE
                )
    return dict(flags)


def gather(
    rows: Collection[EventsAlike],
    behaviour: Mapping[UUID, Behaviour],
    changes: Iterable[tuple[int, int, int]],
    policy: Policy,
) -> Evidence:
    """Return the evidence of a window, from its rows, its behaviour flags and the flags that are new in the stage.

    ``changes`` are ``(flags before, flags after, how many)``, as :func:`rollout.store.remember` returns them.
    """
    errors: Counter[str] = Counter()
    names: Counter[str] = Counter()
    failed: defaultdict[UUID, Counter[ErrorClass]] = defaultdict(Counter)
    with_warnings, with_errors, lossy = set(), set(), set()
    lost: Counter[UUID] = Counter()
    events = 0
    for row in rows:
        if row.lost:
            lossy.add(row.client)
            lost[row.session] = max(lost[row.session], row.lost)
            continue
        events += row.count
        if row.ok:
            continue
        error_class = classify(row.event, row.category)
        errors[error_class.value] += row.count
        names[row.event] += row.count
        failed[row.client][error_class] += row.count
        if row.event == Event.CONSOLE_WARNING:
            with_warnings.add(row.client)
        if row.event == Event.CONSOLE_ERROR:
            with_errors.add(row.client)
    alive = [flags for flags in behaviour.values() if Behaviour.HEARTBEAT in flags]
    return Evidence(
        events=events,
        clients=len({row.client for row in rows}),
        heartbeats=sum(Behaviour.SESSION_HEARTBEAT in flags for flags in behaviour.values()),
        treatment=sum(Behaviour.WITH_FEATURE in flags for flags in alive),
        control=sum(_is_control(flags) for flags in alive),
        score=score(failed.values(), policy),
        points=sum(points(errors, policy) for errors in failed.values()),
        errors=dict(errors),
        names=dict(names.most_common(NAMES)),
        console_warnings=len(with_warnings),
        console_errors=len(with_errors),
        lost=lost.total(),
        lossy_clients=len(lossy),
        new=count_new(changes),
    )


def count_new(changes: Iterable[tuple[int, int, int]]) -> Counts:
    """Count clients and sessions by flags that are new. A client that gets the feature leaves the control group."""
    new: Counter[str] = Counter()
    for before, after, many in changes:
        was, now = _counted_as(Behaviour(before)), _counted_as(Behaviour(after))
        for name in now:
            new[name] += (now[name] - was[name]) * many
    return Counts(**new)


def _counted_as(flags: Behaviour) -> dict[str, int]:
    """Return the :class:`Counts` of one client or session with these flags."""
    return {
        "succeeded": Behaviour.MIGRATED in flags and Behaviour.MIGRATION_FAILED not in flags,
        "failed": Behaviour.MIGRATION_FAILED in flags,
        "kill_switch": Behaviour.KILL_SWITCH in flags,
        "sample": Behaviour.HEARTBEAT in flags and not _is_control(flags),
        "treatment": Behaviour.HEARTBEAT in flags and Behaviour.WITH_FEATURE in flags,
        "control": Behaviour.HEARTBEAT in flags and _is_control(flags),
        "treatment_errors": Behaviour.ERROR_WITH_FEATURE in flags,
        "control_errors": Behaviour.ERROR_WITHOUT_FEATURE in flags,
        "sessions": Behaviour.SESSION_HEARTBEAT in flags,
        "error_sessions": Behaviour.SESSION_ERROR in flags,
    }


def _is_control(flags: Behaviour) -> bool:
    return Behaviour.WITHOUT_FEATURE in flags and Behaviour.WITH_FEATURE not in flags
