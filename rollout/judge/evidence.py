"""Evidence of a check: the telemetry of its window, counted by voice so that a noisy one cannot dominate. Pure.

A *voice* counts as one client: the user of a ticket, however many browsers; without a ticket, by
``ROLLOUT_UNSIGNED_TELEMETRY``, each client id (then it is trusted as a ticket is) or each network.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import IntFlag
from typing import Protocol
from uuid import UUID

from rollout.judge.events import ErrorClass, Event, classify
from rollout.judge.policy import Policy
from rollout.judge.scoring import points, score

NAMES = 10  # the most frequent failed events that a check keeps by name


@dataclass(frozen=True, slots=True)
class Counts:
    """Voices and sessions by behaviour, each counted once in a stage. Stored: fields keep their names."""

    succeeded: int = 0  # whose migration succeeded
    failed: int = 0  # whose migration failed
    kill_switch: int = 0  # that had the feature and used a kill switch
    treatment: int = 0  # with a heartbeat and the feature
    control: int = 0  # with a heartbeat, and never with the feature
    treatment_errors: int = 0  # with the feature and an error: a failure that is no migration and no warning
    control_errors: int = 0  # the same without the feature
    assigned: int = 0  # whose first browser in the stage had the feature
    unassigned: int = 0  # whose first browser did not: the other half of the sample ratio
    # With the feature; of a user with a ticket, at most one of each in a check:
    sessions: int = 0  # with a heartbeat
    error_sessions: int = 0  # with any failure

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


@dataclass(frozen=True, slots=True)
class Side:
    """Reports of voices of one kind in a window. Stored: fields keep their names."""

    active: int = 0  # voices with a heartbeat; of the server's own reports, with any
    score: int = 0  # points, capped for each voice
    points: int = 0  # not capped
    errors: int = 0  # failed events
    failing: int = 0  # voices with a failed event
    console_warnings: int = 0  # voices
    console_errors: int = 0  # voices


@dataclass(frozen=True, slots=True)
class Evidence:
    """Telemetry since the previous check, summed up. Stored: fields keep their names."""

    events: int = 0
    clients: int = 0  # voices
    feature: Side = Side()  # trusted, with the feature: whom the check counts
    baseline: Side = Side()  # trusted, without it
    unknown: Side = Side()  # events without a flag or a variant, trusted or not
    unsigned: Side = Side()  # networks, with the feature
    unsigned_baseline: Side = Side()  # networks, without it
    server: Side = Side()  # the server's own reports about users with the feature
    server_baseline: Side = Side()
    networks: int = 0  # that sent anything unsigned
    unsigned_events: int = 0
    unjudged: dict[str, int] = field(default_factory=dict)  # events that were left out, by reason
    errors: dict[str, int] = field(default_factory=dict)  # failed events by class, but those of the baselines
    names: dict[str, int] = field(default_factory=dict)  # the most frequent of them by name
    lost: int = 0  # events that browsers dropped, of the sessions that reported a new loss
    lossy_clients: int = 0  # trusted
    new: Counts = Counts()  # trusted
    new_unsigned: Counts = Counts()  # networks


class Behaviour(IntFlag):
    """Behaviour flags of a voice or a session in a stage. Their numbers are stored and never change."""

    HEARTBEAT = 1
    WITH_FEATURE = 2  # an event with a variant that means the feature
    WITHOUT_FEATURE = 4  # an event with another variant
    MIGRATED = 8  # with the feature, as the next
    MIGRATION_FAILED = 16
    KILL_SWITCH = 32
    ERROR_WITH_FEATURE = 64  # a failed event other than a migration or a warning
    SESSION_HEARTBEAT = 128
    SESSION_ERROR = 256
    ERROR_WITHOUT_FEATURE = 512
    UNSIGNED = 1024  # a network
    FIRST_WITH_FEATURE = 2048  # of the browser that is looked at first
    FIRST_WITHOUT_FEATURE = 4096


class EventsAlike(Protocol):
    """A row of :func:`rollout.store.window`."""

    @property
    def voice(self) -> UUID: ...
    @property
    def client(self) -> UUID | None: ...
    @property
    def session(self) -> UUID | None: ...
    @property
    def trusted(self) -> bool: ...
    @property
    def server(self) -> bool: ...
    @property
    def flagged(self) -> bool: ...
    @property
    def variant(self) -> str | None: ...
    @property
    def event(self) -> str: ...
    @property
    def category(self) -> str: ...
    @property
    def ok(self) -> bool: ...
    @property
    def count(self) -> int: ...
    @property
    def lost(self) -> int: ...


def has_feature(row: EventsAlike, variants_with: frozenset[str]) -> bool | None:
    """Return whether an event is of a client with the feature; ``None`` if it names no flag or no variant."""
    return row.variant in variants_with if row.flagged and row.variant is not None else None


def behaviours(
    rows: Collection[EventsAlike], variants_with: frozenset[str], *, first_check: bool = False
) -> dict[UUID, Behaviour]:
    """Return the behaviour flags of each voice and each session in a window.

    In the first check of a stage, browsers may still have the percentage of the stage before: none counts for the
    sample ratio yet.

    Reports of the server have a cell of their own and give none: their users need not send telemetry, so the tests
    would see those who failed and miss those who did not.
    """
    flags: defaultdict[UUID, Behaviour] = defaultdict(lambda: Behaviour(0))
    visits = _Visits()
    for row in rows:
        if row.server:
            continue
        has = has_feature(row, variants_with)
        flags[row.voice] |= _flags(row, has=has)
        if has is not None:
            visits.add(row, has=has)
    for session, flag in visits.sessions():
        flags[session] |= flag
    if not first_check:
        for voice, flag in visits.first_browsers():
            flags[voice] |= flag
    return dict(flags)


class _Visits:
    """The browsers and sessions behind trusted voices: of a user one of each counts, however many there are."""

    def __init__(self) -> None:
        self._browsers: dict[UUID, tuple[UUID, bool]] = {}  # the first by id, and whether it has the feature
        self._sessions: dict[tuple[UUID, Behaviour], UUID] = {}

    def add(self, row: EventsAlike, *, has: bool) -> None:
        if row.client is None or row.session is None:
            return
        alive = row.event == Event.HEARTBEAT
        if alive:
            # The smallest id, and of one id the feature: the order of the rows means nothing.
            first, had = self._browsers.get(row.voice, (row.client, has))
            if row.client <= first:
                self._browsers[row.voice] = row.client, has or (had and row.client == first)
        if has and (alive or not row.ok):
            flag = Behaviour.SESSION_HEARTBEAT if alive else Behaviour.SESSION_ERROR
            # A client id without a ticket is a voice by itself: each of its sessions counts.
            key = (row.session if row.voice == row.client else row.voice), flag
            self._sessions[key] = min(row.session, self._sessions.get(key, row.session))

    def sessions(self) -> Iterator[tuple[UUID, Behaviour]]:
        for (_, flag), session in self._sessions.items():
            yield session, flag

    def first_browsers(self) -> Iterator[tuple[UUID, Behaviour]]:
        for voice, (_, had) in self._browsers.items():
            yield voice, Behaviour.FIRST_WITH_FEATURE if had else Behaviour.FIRST_WITHOUT_FEATURE


def _flags(row: EventsAlike, *, has: bool | None) -> Behaviour:
    """Return the flags that an event gives to its voice."""
    flags = Behaviour(0) if row.trusted else Behaviour.UNSIGNED
    if row.event == Event.KILL_SWITCH_USED and row.flagged:
        flags |= Behaviour.KILL_SWITCH
    if has is None:
        return flags
    if row.event == Event.HEARTBEAT:
        flags |= Behaviour.HEARTBEAT
    return flags | (Behaviour.WITH_FEATURE if has else Behaviour.WITHOUT_FEATURE) | _outcome(row, has=has)


def _outcome(row: EventsAlike, *, has: bool) -> Behaviour:
    """Return the flags of an event's success or failure."""
    if row.ok:
        migrated = row.event == Event.MIGRATION_SUCCEEDED and has
        return Behaviour.MIGRATED if migrated else Behaviour(0)
    match classify(row.event, row.category):
        case ErrorClass.MIGRATION:
            return Behaviour.MIGRATION_FAILED if has else Behaviour(0)
        case ErrorClass.WARNING:
            return Behaviour(0)
    return Behaviour.ERROR_WITH_FEATURE if has else Behaviour.ERROR_WITHOUT_FEATURE


class _Tally:
    """Count the events of one kind of voices."""

    def __init__(self) -> None:
        self.active: set[UUID] = set()
        self.failed: defaultdict[UUID, Counter[ErrorClass]] = defaultdict(Counter)
        self.console: defaultdict[str, set[UUID]] = defaultdict(set)

    def add(self, row: EventsAlike) -> None:
        if row.event == Event.HEARTBEAT or row.server:
            self.active.add(row.voice)
        if not row.ok:
            self.failed[row.voice][classify(row.event, row.category)] += row.count
            self.console[row.event].add(row.voice)

    def side(self, policy: Policy, windows: int) -> Side:
        return Side(
            active=len(self.active),
            score=score(self.failed.values(), policy, windows),
            points=sum(points(errors, policy) for errors in self.failed.values()),
            errors=sum(errors.total() for errors in self.failed.values()),
            failing=len(self.failed),
            console_warnings=len(self.console[Event.CONSOLE_WARNING]),
            console_errors=len(self.console[Event.CONSOLE_ERROR]),
        )


def _side_of(row: EventsAlike, *, has: bool | None) -> str:
    """Return the side of :class:`Evidence` that an event belongs to."""
    if has is None:
        return "unknown"
    if row.server:
        return "server" if has else "server_baseline"
    if row.trusted:
        return "feature" if has else "baseline"
    return "unsigned" if has else "unsigned_baseline"


def gather(
    rows: Collection[EventsAlike],
    changes: Iterable[tuple[int, int, int]],
    policy: Policy,
    *,
    variants_with: frozenset[str],
    windows: int = 1,
    unjudged: Mapping[str, int] | None = None,
) -> Evidence:
    """Return the evidence of a window, from its rows and the behaviour flags that are new in the stage.

    Args:
        changes: ``(flags before, flags after, how many)``, as :func:`rollout.store.remember` returns them.
        windows: length of the window in check intervals, at least 1.
        unjudged: number of events that are not among the rows, by reason.
    """
    sides: defaultdict[str, _Tally] = defaultdict(_Tally)
    errors: Counter[str] = Counter()
    names: Counter[str] = Counter()
    lost: Counter[UUID] = Counter()
    lossy, networks = set(), set()
    events = unsigned = 0
    for row in rows:
        if row.lost:
            if row.trusted:
                lossy.add(row.voice)
                lost[row.session or row.voice] = max(lost[row.session or row.voice], row.lost)
            continue
        events += row.count
        if not row.trusted:
            networks.add(row.voice)
            unsigned += row.count
        side = _side_of(row, has=has_feature(row, variants_with))
        sides[side].add(row)
        if not row.ok and not side.endswith("baseline"):
            errors[classify(row.event, row.category).value] += row.count
            names[row.event] += row.count
    new, new_unsigned = count_new(changes)
    return Evidence(
        **{name: tally.side(policy, windows) for name, tally in sides.items()},
        events=events,
        clients=len({row.voice for row in rows}),
        networks=len(networks),
        unsigned_events=unsigned,
        unjudged=dict(unjudged or {}),
        errors=dict(errors),
        names=dict(names.most_common(NAMES)),
        lost=lost.total(),
        lossy_clients=len(lossy),
        new=new,
        new_unsigned=new_unsigned,
    )


def count_new(changes: Iterable[tuple[int, int, int]]) -> tuple[Counts, Counts]:
    """Count voices and sessions by flags that are new: the trusted, and networks.

    A voice that gets the feature leaves the control group.
    """
    new: Counter[str] = Counter()
    unsigned: Counter[str] = Counter()
    for before, after, many in changes:
        was, now = _counted_as(Behaviour(before)), _counted_as(Behaviour(after))
        counter = unsigned if Behaviour.UNSIGNED in Behaviour(after) else new
        for name in now:
            counter[name] += (now[name] - was[name]) * many
        if not Behaviour(before) & (Behaviour.FIRST_WITH_FEATURE | Behaviour.FIRST_WITHOUT_FEATURE):
            counter["assigned"] += (Behaviour.FIRST_WITH_FEATURE in Behaviour(after)) * many
            counter["unassigned"] += (Behaviour.FIRST_WITHOUT_FEATURE in Behaviour(after)) * many
    return Counts(**new), Counts(**unsigned)


def _counted_as(flags: Behaviour) -> dict[str, int]:
    """Return the :class:`Counts` of one voice or session with these flags."""
    alive, with_feature = Behaviour.HEARTBEAT in flags, Behaviour.WITH_FEATURE in flags
    return {
        "succeeded": Behaviour.MIGRATED in flags and Behaviour.MIGRATION_FAILED not in flags,
        "failed": Behaviour.MIGRATION_FAILED in flags,
        "kill_switch": Behaviour.KILL_SWITCH in flags and with_feature,
        "treatment": alive and with_feature,
        "control": alive and not with_feature,
        "treatment_errors": Behaviour.ERROR_WITH_FEATURE in flags,
        "control_errors": Behaviour.ERROR_WITHOUT_FEATURE in flags,
        "sessions": Behaviour.SESSION_HEARTBEAT in flags,
        "error_sessions": Behaviour.SESSION_ERROR in flags,
    }
