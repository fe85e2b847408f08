"""What a window of telemetry tells the judge. Clients are counted, lest one of them speak for many. Pure."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from enum import IntFlag
from typing import Protocol
from uuid import UUID

from rollout.judge.decision import Counts, Evidence
from rollout.judge.policy import Policy
from rollout.judge.scoring import ErrorClass, classify, points, score

NAMES = 10  # the most frequent failed events that a check keeps by name


class Did(IntFlag):
    """What a client, or a session, has done in a stage. Stored; never renumber."""

    BEAT = 1
    HAS = 2  # said that it has the feature
    HAS_NOT = 4  # said that it does not
    MIGRATED = 8
    FAILED = 16  # to migrate
    KILLED = 32  # used a kill switch
    ERRED_WITH = 64  # a failed event other than a migration, while it had the feature
    SESSION_BEAT = 128
    SESSION_ERRED = 256
    ERRED_WITHOUT = 512


class Row(Protocol):
    """Events that are alike, as :func:`rollout.store.window` returns them."""

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


def deeds(rows: Collection[Row], variants_with: frozenset[str]) -> dict[UUID, Did]:
    """Return what each client and each session did in a window."""
    did: defaultdict[UUID, Did] = defaultdict(lambda: Did(0))
    for row in rows:
        if row.event == "heartbeat":
            did[row.client] |= Did.BEAT
            did[row.session] |= Did.SESSION_BEAT
        has = None if row.variant is None else row.variant in variants_with
        if has is not None:
            did[row.client] |= Did.HAS if has else Did.HAS_NOT
        if row.event == "migration_succeeded" and row.ok:
            did[row.client] |= Did.MIGRATED
        if row.event == "kill_switch_used":
            did[row.client] |= Did.KILLED
        if not row.ok:
            did[row.session] |= Did.SESSION_ERRED
            if classify(row.event, row.category) is ErrorClass.MIGRATION:
                did[row.client] |= Did.FAILED
            elif has is not None:
                did[row.client] |= Did.ERRED_WITH if has else Did.ERRED_WITHOUT
    return dict(did)


def gather(
    rows: Collection[Row],
    did: Mapping[UUID, Did],
    changes: Iterable[tuple[int, int, int]],
    policy: Policy,
) -> Evidence:
    """Sum up a window: its rows, what each client did in it, and what was new in the stage.

    ``changes`` are ``(flags before, flags after, how many)``, as :func:`rollout.store.remember` returns them.
    """
    errors: Counter[str] = Counter()
    names: Counter[str] = Counter()
    failed: defaultdict[UUID, Counter[ErrorClass]] = defaultdict(Counter)
    warned, cried, lossy = set(), set(), set()
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
        if row.event == "console_warning":
            warned.add(row.client)
        if row.event == "console_error":
            cried.add(row.client)
    beating = [flags for flags in did.values() if Did.BEAT in flags]
    return Evidence(
        events=events,
        clients=len({row.client for row in rows}),
        heartbeats=sum(Did.SESSION_BEAT in flags for flags in did.values()),
        treatment=sum(Did.HAS in flags for flags in beating),
        control=sum(_control(flags) for flags in beating),
        score=score(failed.values(), policy),
        points=sum(points(errors, policy) for errors in failed.values()),
        errors=dict(errors),
        names=dict(names.most_common(NAMES)),
        console_warnings=len(warned),
        console_errors=len(cried),
        lost=lost.total(),
        lossy_clients=len(lossy),
        new=count_new(changes),
    )


def count_new(changes: Iterable[tuple[int, int, int]]) -> Counts:
    """Count what was done for the first time. A client that comes to have the feature leaves the control group."""
    new: Counter[str] = Counter()
    for before, after, many in changes:
        was, now = _standing(Did(before)), _standing(Did(after))
        for name in now:
            new[name] += (now[name] - was[name]) * many
    return Counts(**new)


def _standing(flags: Did) -> dict[str, int]:
    """Return what a client or session with these flags counts as."""
    return {
        "succeeded": Did.MIGRATED in flags and Did.FAILED not in flags,
        "failed": Did.FAILED in flags,
        "kill_switch": Did.KILLED in flags,
        "sample": Did.BEAT in flags and not _control(flags),
        "treatment": Did.BEAT in flags and Did.HAS in flags,
        "control": Did.BEAT in flags and _control(flags),
        "treatment_errors": Did.ERRED_WITH in flags,
        "control_errors": Did.ERRED_WITHOUT in flags,
        "sessions": Did.SESSION_BEAT in flags,
        "error_sessions": Did.SESSION_ERRED in flags,
    }


def _control(flags: Did) -> bool:
    return Did.HAS_NOT in flags and Did.HAS not in flags
