"""Rehearsals: a temporary rollout on generated traffic, evaluated by the real judge, in seconds instead of hours.

A rehearsal is one database transaction that is rolled back. It leaves no data and sends no alerts. It may run beside a
live system: it reads and locks no live row, and does not take the lock between intake and judge.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from uuid import UUID, uuid4

import msgspec
from django.db import transaction
from django.db.models.functions import Now

from rollout import operations, store
from rollout.conf import conf
from rollout.judge.decision import Decision
from rollout.judge.events import Event
from rollout.judge.scoring import Signal
from rollout.judge.state import Action
from rollout.models import Check, Incident, Rollout, Stage, Watch
from rollout.presentation.charts import Point
from rollout.rehearsal.scenario import Conditions, Expected, Outcome, Scenario
from rollout.rehearsal.traffic import Browsers
from rollout.store import Arrival
from rollout.tick import check
from rollout.units import percent

# Midnight, so that the clock of a chart shows the time since the start.
START = datetime(2000, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
MIGRATIONS = {Event.MIGRATION_SUCCEEDED, Event.MIGRATION_FAILED}


@dataclass(frozen=True, slots=True)
class RehearsedCheck:
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
        """Return the share of clients whose migration succeeded in the stage; ``None`` without migrations."""
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
    """The result of a rehearsal. Minutes count from its start."""

    seed: int
    outcome: Outcome
    ended: int  # minute
    percentage: float
    looks: tuple[RehearsedCheck, ...]  # the checks, by the name that the JSON output has
    trips: tuple[Trip, ...]
    messages: int  # alerts, of which none is sent
    broke: int | None  # first minute of a broken segment
    exposed: int  # clients with the feature while something was broken
    clients: int
    sessions: int
    events: int
    failures: int  # failed events
    took: float  # s

    @property
    def highest(self) -> float:
        return max([self.percentage, *(made.percentage for made in self.looks)])

    @property
    def full_at(self) -> int | None:
        """Return the minute at which everybody had the feature."""
        return next((made.minute for made in self.looks if made.target == 100), None)

    @property
    def rolled_back_after(self) -> int | None:
        """Return the minutes from the fault, or from the start, to the rollback."""
        return self.ended - (self.broke or 0) if self.outcome is Outcome.ROLLED_BACK else None


def rehearse(scenario: Scenario, *, seed: int | None = None) -> Run:
    """Run a scenario to the end of its rollout or of its hours. ``seed`` overrides that of the scenario."""
    with transaction.atomic(durable=True):
        store.isolate()
        run = _rehearse(scenario, scenario.seed if seed is None else seed)
        transaction.set_rollback(True)
    return run


def _rehearse(scenario: Scenario, seed: int) -> Run:
    began = time.monotonic()
    rollout = _begin(scenario)
    policy = replace(conf.policy, unsigned_telemetry=scenario.unsigned_telemetry)
    browsers = Browsers(rollout.feature, variant=min(conf.variants_with), seed=seed)
    checks: list[RehearsedCheck] = []
    exposed: set[UUID] = set()
    broke, minute, stage_began, events, failures = None, 0, 0, 0, 0
    while minute < scenario.hours * 60 and rollout.percentage and rollout.stage != Stage.COMPLETE:
        conditions = scenario.conditions(minute, float(rollout.percentage))
        arrived = _arrived(browsers.minute(conditions, rollout.config), conditions, rollout)
        store.arrive(arrived, fence=store.REHEARSAL_FENCE)
        events += len(arrived)
        failures += sum(not event.ok for event in arrived)
        if conditions.broken:
            broke = minute if broke is None else broke
            exposed.update(event.client for event in arrived if event.variant == browsers.variant)
        minute += 1
        made = None
        if not conditions.judge_away:
            now = START + (minute + conditions.clock_minutes) * MINUTE
            # The transaction has one time, at which all events arrive; the stage began so many minutes earlier.
            stage_age = (minute - stage_began) * MINUTE
            Watch.objects.filter(rollout=rollout).update(began_at=Now() - stage_age)
            made = check(rollout.feature, upto=store.last_seq(), now=now, policy=policy)
        if made is not None:
            checks.append(_rehearsed_check(made, minute))
            if made.action != Action.NONE:
                rollout.refresh_from_db()
                stage_began = minute
    incidents = Incident.objects.filter(rollout=rollout).order_by("tripped_at")
    return Run(
        seed=seed,
        outcome=_outcome(rollout, checks),
        ended=minute,
        percentage=float(rollout.percentage),
        looks=tuple(checks),
        trips=tuple(Trip(_minute(i.began_at), _minute(i.tripped_at), i.reason) for i in incidents),
        messages=sum(len(made.alerts) for made in checks),
        broke=broke,
        exposed=len(exposed),
        clients=len(browsers.clients),
        sessions=browsers.began,
        events=events,
        failures=failures,
        took=time.monotonic() - began,
    )


def _begin(scenario: Scenario) -> Rollout:
    """Return the rollout of a scenario at the begin of its first stage."""
    rollout = Rollout.objects.create(
        feature=f"SIMULATION_{uuid4().hex[:12].upper()}",
        timeline=scenario.timeline,
        auto_rollback=scenario.auto_rollback,
        track_migrations=scenario.track_migrations,
        stage_started_at=START,
    )
    feature, why = rollout.feature, "Rehearsal"
    if scenario.completed_before:
        operations.set_percentage(feature, Decimal(100), reason=why, at=START)
        operations.complete(feature, reason=why, at=START)
        operations.roll_back(feature, reason=why, at=START)
        operations.resume(feature, reason=why)
    percentage = round(Decimal(str(scenario.percentage)), 2)
    return operations.set_percentage(feature, percentage, reason=why, at=START)


def _arrived(sent: list[Arrival], conditions: Conditions, rollout: Rollout) -> list[Arrival]:
    """Return the events that the intake keeps: migrations only while they are tracked."""
    if conditions.telemetry_away:
        return []
    if rollout.track_migrations:
        return sent
    return [event for event in sent if event.event not in MIGRATIONS]


def _rehearsed_check(made: Check, minute: int) -> RehearsedCheck:
    decision = msgspec.convert(made.decision, Decision, strict=False)
    return RehearsedCheck(
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


def _outcome(rollout: Rollout, checks: list[RehearsedCheck]) -> Outcome:
    if rollout.stage == Stage.COMPLETE:
        return Outcome.COMPLETED
    if not rollout.percentage:
        return Outcome.ROLLED_BACK
    if any(made.advice is Action.ROLL_BACK for made in checks):
        return Outcome.TRIPPED
    return Outcome.HELD if not checks or checks[-1].signal is Signal.NO_DATA else Outcome.UNDER_WAY


def notable(checks: Sequence[RehearsedCheck]) -> list[RehearsedCheck]:
    """Return the notable checks: the first and the last, actions, advice, alerts, changes of the signal.

    Green and yellow may alternate for hours: of these only the first of each in a stage is notable.
    """
    mild = {Signal.GREEN, Signal.YELLOW}
    seen: set[Signal] = set()  # in the stage
    chosen = []
    for before, made in pairwise([None, *checks]):
        if made is None:
            continue
        turns = before is not None and {before.signal, made.signal} <= mild and made.signal in seen
        changed = before is None or (made.signal is not before.signal and not turns)
        advised = before is not None and made.advice is not before.advice and made.advice is not Action.NONE
        if changed or advised or made.action is not Action.NONE or made.alerts or made is checks[-1]:
            chosen.append(made)
        seen = seen | {made.signal} if made.action is Action.NONE else set()
    return chosen


def points(run: Run) -> list[Point]:
    """Return the points of a chart: each check, and the percentage after the last one."""
    checks = [
        Point(START + made.minute * MINUTE, made.signal.value, made.score, made.percentage)
        for made in run.looks
    ]
    return [*checks, Point(START + (run.ended + 1) * MINUTE, "", 0, run.percentage)]


def unmet(run: Run, expected: Expected) -> list[str]:
    """Return the expectations that were not met, as text. Empty: all were met."""
    after, last = run.rolled_back_after, run.looks[-1].signal if run.looks else None
    signals = {made.signal for made in run.looks}
    alerts = {alert for made in run.looks for alert in made.alerts}
    rules = [
        (run.outcome is expected.outcome, f"expected {expected.outcome}, not {run.outcome}"),
        (
            expected.signal is None or last is expected.signal,
            f"expected {_label(expected.signal)} at the end, not {_label(last)}",
        ),
        (
            expected.percentage is None or run.percentage == expected.percentage,
            f"expected to end at {percent(expected.percentage or 0)}, not {percent(run.percentage)}",
        ),
        (
            expected.highest is None or run.highest == expected.highest,
            f"expected to reach {percent(expected.highest or 0)}, not {percent(run.highest)}",
        ),
        *((signal not in signals, f"expected never {signal.label}") for signal in expected.never),
        *((alert in alerts, f"expected the alert '{alert}'") for alert in expected.alerts),
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


def _label(signal: Signal | None) -> str:
    return signal.label if signal else "no check"
