"""A rehearsal: a rollout of its own on generated traffic, judged by the real tick, in seconds instead of hours.

All of it happens in one database transaction that is rolled back. So it leaves nothing behind and tells nobody, and
may run beside a live system: no live row is read or locked, nor is the lock between intake and judge taken.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from uuid import UUID, uuid4

import msgspec
from django.db import transaction

from rollout import operations, store
from rollout.conf import conf
from rollout.judge.decision import Decision
from rollout.judge.scoring import Signal
from rollout.judge.state import Action
from rollout.models import Alert, Check, Incident, Rollout, Stage
from rollout.presentation.charts import Point
from rollout.rehearsal.scenario import Expected, Outcome, Scenario
from rollout.rehearsal.traffic import Browsers
from rollout.tick import check
from rollout.units import percent

START = datetime(2000, 1, 1, tzinfo=UTC)  # midnight, so that a plot's clock says how long it has been
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Look:
    """A check of the judge, at a minute of the rehearsal."""

    minute: int
    percentage: float  # before the action
    signal: Signal
    score: int
    succeeded: int  # clients whose migration succeeded, in the stage
    failed: int
    action: Action
    advice: Action
    target: float | None  # percent, when promoted
    reason: str
    next: str
    alerts: tuple[str, ...]

    @property
    def migration_success(self) -> float | None:
        """Return the share of clients whose migration succeeded in the stage; none: there was none."""
        migrations = self.succeeded + self.failed
        return self.succeeded / migrations if migrations else None


@dataclass(frozen=True, slots=True)
class Trip:
    """An incident that the judge recorded."""

    began: int  # minute of the first red check
    tripped: int
    reason: str


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a rehearsal. Minutes are counted from its beginning."""

    seed: int
    outcome: Outcome
    ended: int  # minute
    percentage: float
    looks: tuple[Look, ...]
    trips: tuple[Trip, ...]
    messages: int  # alerts that the configured channels would have got
    broke: int | None  # first minute of a broken segment
    exposed: int  # clients with the feature while something was broken
    clients: int
    sessions: int
    events: int
    failures: int  # events that report one
    took: float  # s

    @property
    def highest(self) -> float:
        return max([self.percentage, *(look.percentage for look in self.looks)])

    @property
    def full_at(self) -> int | None:
        """Return the minute at which everybody had the feature."""
        return next((look.minute for look in self.looks if look.target == 100), None)

    @property
    def rolled_back_after(self) -> int | None:
        """Return how many minutes after the break, or the beginning, the rollback came."""
        return self.ended - (self.broke or 0) if self.outcome is Outcome.ROLLED_BACK else None


def rehearse(scenario: Scenario, *, seed: int | None = None) -> Run:
    """Run a scenario to the end of its rollout, or of its hours. ``seed`` takes the place of its own."""
    with transaction.atomic(durable=True):
        store.isolate()
        run = _rehearse(scenario, scenario.seed if seed is None else seed)
        transaction.set_rollback(True)
    return run


def _rehearse(scenario: Scenario, seed: int) -> Run:
    began = time.monotonic()
    rollout = Rollout.objects.create(
        feature=f"SIMULATION_{uuid4().hex[:12].upper()}",
        timeline=scenario.timeline,
        auto_rollback=scenario.auto_rollback,
        stage_started_at=START,
    )
    feature, percentage = rollout.feature, round(Decimal(str(scenario.percentage)), 2)
    rollout = operations.set_percentage(feature, percentage, reason="a rehearsal", at=START)
    browsers = Browsers(feature, variant=min(conf.variants_with), seed=seed)
    looks: list[Look] = []
    exposed: set[UUID] = set()
    broke, minute, events, failures = None, 0, 0, 0
    while minute < scenario.hours * 60 and rollout.percentage and rollout.stage != Stage.COMPLETE:
        conditions = scenario.conditions(minute, float(rollout.percentage))
        arrived = browsers.minute(conditions, rollout.config)
        store.arrive(arrived, fence=store.REHEARSAL_FENCE)
        events += len(arrived)
        failures += sum(not event.ok for event in arrived)
        if conditions.broken:
            broke = minute if broke is None else broke
            exposed.update(event.client for event in arrived if event.variant == browsers.variant)
        minute += 1
        made = check(feature, upto=store.last_seq(), now=START + minute * MINUTE)
        if made is not None:
            looks.append(_look(made, minute))
            if made.action != Action.NONE:
                rollout.refresh_from_db()
    incidents = Incident.objects.filter(rollout=rollout).order_by("tripped_at")
    return Run(
        seed=seed,
        outcome=_outcome(rollout, looks),
        ended=minute,
        percentage=float(rollout.percentage),
        looks=tuple(looks),
        trips=tuple(Trip(_minute(i.began_at), _minute(i.tripped_at), i.reason) for i in incidents),
        messages=Alert.objects.filter(rollout=rollout).count(),
        broke=broke,
        exposed=len(exposed),
        clients=len(browsers.clients),
        sessions=browsers.began,
        events=events,
        failures=failures,
        took=time.monotonic() - began,
    )


def _look(made: Check, minute: int) -> Look:
    decision = msgspec.convert(made.decision, Decision, strict=False)
    return Look(
        minute=minute,
        percentage=float(made.percentage),
        signal=decision.signal,
        score=made.score,
        succeeded=decision.carry.totals.succeeded,
        failed=decision.carry.totals.failed,
        action=decision.action,
        advice=decision.advice,
        target=None if decision.target is None else float(decision.target),
        reason=decision.reason,
        next=decision.next,
        alerts=tuple(decision.alerts),
    )


def _minute(at: datetime) -> int:
    return (at - START) // MINUTE


def _outcome(rollout: Rollout, looks: list[Look]) -> Outcome:
    if rollout.stage == Stage.COMPLETE:
        return Outcome.COMPLETED
    if not rollout.percentage:
        return Outcome.ROLLED_BACK
    if any(look.advice is Action.ROLL_BACK for look in looks):
        return Outcome.TRIPPED
    return Outcome.HELD if not looks or looks[-1].signal is Signal.NO_DATA else Outcome.UNDER_WAY


def notable(looks: Sequence[Look]) -> list[Look]:
    """Return the checks worth a line: the first and the last, actions, advice, alerts, changes of the signal.

    Green and yellow may take turns for hours: of these only the first of each in a stage counts.
    """
    mild = {Signal.GREEN, Signal.YELLOW}
    seen: set[Signal] = set()  # in the stage
    told = []
    for before, look in pairwise([None, *looks]):
        if look is None:
            continue
        turns = before is not None and {before.signal, look.signal} <= mild and look.signal in seen
        changed = before is None or (look.signal is not before.signal and not turns)
        advised = before is not None and look.advice is not before.advice and look.advice is not Action.NONE
        if changed or advised or look.action is not Action.NONE or look.alerts or look is looks[-1]:
            told.append(look)
        seen = seen | {look.signal} if look.action is Action.NONE else set()
    return told


def points(run: Run) -> list[Point]:
    """Return what a plot shows: each check, and what the last one left."""
    checks = [
        Point(START + look.minute * MINUTE, look.signal.value, look.score, look.percentage)
        for look in run.looks
    ]
    return [*checks, Point(START + (run.ended + 1) * MINUTE, "", 0, run.percentage)]


def unmet(run: Run, expected: Expected) -> list[str]:
    """Say what did not end as it was expected. Empty: all did."""
    after = run.rolled_back_after
    rules = [
        (run.outcome is expected.outcome, f"expected {expected.outcome}, not {run.outcome}"),
        (
            expected.highest is None or run.highest == expected.highest,
            f"expected to reach {percent(expected.highest or 0)}, not {percent(run.highest)}",
        ),
        (
            expected.by_minute is None or run.ended <= expected.by_minute,
            f"expected by minute {expected.by_minute}, not {run.ended}",
        ),
        (
            expected.within_minutes is None or (after is not None and after <= expected.within_minutes),
            f"expected to be rolled back {expected.within_minutes} min after the break, not {after}",
        ),
    ]
    return [says for holds, says in rules if not holds]
