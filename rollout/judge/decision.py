"""The decision about a rollout, given its telemetry. Pure: no Django, no clock, no I/O.

:func:`decide` is called once a check (every minute), with all that it may know: the :class:`State` of the rollout and
its earlier checks, the :class:`Evidence` of this one, the time, the policy. All four are stored with the check, so
that any past decision can be replayed.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from rollout.judge import scoring, statistics, timeline, wording
from rollout.judge.cells import Cell, Condition, Table
from rollout.judge.cells import cells as judge_cells
from rollout.judge.evidence import Evidence
from rollout.judge.policy import Policy
from rollout.judge.scoring import Signal, Thresholds, worst
from rollout.judge.state import Action, Carry, State


class AlertKind(StrEnum):
    """Kind of an alert."""

    RED = "red"
    TRIPPED = "tripped"  # the breaker, while auto-rollback is off
    ROLLED_BACK = "rolled_back"
    NO_DATA = "hold"  # stored, and sent to webhooks, as `hold` from the beginning
    WEATHER = Condition.WEATHER.value
    BASELINE = Condition.BASELINE.value
    UNSIGNED = Condition.UNSIGNED.value
    COMPLETED = "completed"


@dataclass(frozen=True, slots=True)
class Decision:
    """Result of a check. Stored as JSON: fields keep their names."""

    signal: Signal
    absolute: Signal  # by the runbook's thresholds
    statistical: Signal  # by the statistical tests
    cells: tuple[Cell, ...]
    holds: tuple[str, ...]  # reasons for the signal *no data*; empty when there is data
    assessment: statistics.Assessment
    action: Action
    target: Decimal | None  # percent, of a promotion
    advice: Action  # the due action, also when the judge may only advise
    reason: str
    next: str  # the next step, in words
    due_at: datetime | None  # its earliest time
    alerts: tuple[AlertKind, ...]
    carry: Carry
    thresholds: Thresholds | None = None  # of clients with the feature; None in checks of earlier versions
    # Time on the clock of the stage that the next step needs; None: a person decides.
    wait: timedelta | None = None

    @property
    def tripped(self) -> bool:
        return Action.ROLL_BACK in (self.action, self.advice)


def decide(state: State, evidence: Evidence, now: datetime, policy: Policy) -> Decision:
    """Decide one check. The same arguments always give the same decision."""
    windows = windows_of(state, now, policy)
    carry = _remember(state, evidence, now, policy)
    assessment = _assess(state, carry, policy)
    table = Table(
        evidence, carry, windows, float(state.percentage), difference=assessment.comparison_e, policy=policy
    )
    cells = tuple(judge_cells(table))
    conditions = {cell.condition for cell in cells if cell.condition}
    if Condition.WEATHER in conditions:  # the errors of everybody say nothing about the feature
        carry = _remember(state, evidence, now, policy, weather=True)
        assessment = _assess(state, carry, policy)
    red = Signal.RED in {cell.signal for cell in cells}
    if assessment.everybody and assessment.clients_e >= assessment.red_at and not red:
        conditions.add(Condition.WEATHER)
    no_data = tuple(_reasons_for_no_data(state, evidence, carry, now, policy))
    absolute = worst([*(cell.signal for cell in cells), *(Signal.NO_DATA for _ in no_data[:1])])
    # The stage's numbers do not get worse by themselves: where nothing arrived, nothing new is known of them.
    signal = worst([absolute, assessment.signal]) if evidence.events else Signal.NO_DATA
    fresh = _is_fresh(cells, assessment, evidence)
    carry = _count(state, carry, signal, now, fresh=fresh)
    carry = _advance_clock(state, carry, window_of(state, now), table, conditions=conditions)
    plan = timeline.plan(state, carry, signal, now, policy, blocked=bool(conditions))
    allowed = timeline.is_allowed(state, plan.action)
    action = plan.action if plan.due and allowed else Action.NONE
    reds_left = policy.breaker_checks - carry.reds if signal is Signal.RED else None
    return Decision(
        signal=signal,
        absolute=absolute,
        statistical=assessment.signal,
        cells=cells,
        holds=no_data,
        assessment=assessment,
        action=action,
        target=plan.target if action is Action.PROMOTE else None,
        advice=plan.action if plan.due else Action.NONE,
        reason=wording.reason(signal, _because(signal, cells, no_data, assessment), plan),
        next=wording.next_step(state, plan, reds_left, fresh=fresh, allowed=allowed),
        due_at=plan.due_at if allowed else None,
        alerts=tuple(_alerts(state.carry, carry, action, policy, conditions=conditions, now=now)),
        carry=_note(carry, conditions, now),
        thresholds=table.trusted,
        wait=plan.wait,
    )


def window_of(state: State, now: datetime) -> timedelta:
    """Return the length of a check's window: since the previous check, or since the begin of the stage."""
    # A clock that was set back by an hour puts the begin of the stage ahead of its checks: these still go on.
    since = state.carry.checked_at or state.stage_started_at
    return max(now - since, timedelta(0))


def windows_of(state: State, now: datetime, policy: Policy) -> int:
    """Return the length of a check's window in intervals: the limits of the score grow with it.

    Rounded, and at least 1: a beat that is a second late changes no limit.
    """
    return max(round(window_of(state, now) / policy.check_interval), 1)


def limits(policy: Policy) -> statistics.Limits:
    """Return the parameters of the statistical tests."""
    return statistics.Limits(
        p0=policy.failure_rate_good,
        p1=policy.failure_rate_bad,
        e0=policy.error_rate_good,
        e1=policy.error_rate_bad,
        goal=policy.migration_success_green,
        alpha=policy.alpha,
        ratio_alpha=policy.ratio_alpha,
        difference=policy.weather_evidence,
        baseline_min=policy.baseline_min,
    )


def _remember(
    state: State, evidence: Evidence, now: datetime, policy: Policy, *, weather: bool = False
) -> Carry:
    """Return the stage's memory with this check's evidence added.

    In weather, errors are left out of the tests that need no control group. The comparison goes on: alike, they say
    nothing there, and if the feature has more of them, it must become known.
    """
    before, new = state.carry, evidence.new
    window = statistics.Window(
        # Negative when clients failed after a success: they no longer count as successes.
        succeeded=max(new.succeeded, 0),
        failed=new.failed,
        treatment=evidence.feature.active,
        control=evidence.baseline.active,
        treatment_errors=new.treatment_errors,
        control_errors=new.control_errors,
        treatment_sessions=max(new.sessions, new.treatment),
        control_new=new.control,
    )
    goal = limits(policy)
    tests = compared = statistics.advance(before.tests, window, goal)
    if weather:
        tests = statistics.advance(before.tests, statistics.without_errors(window), goal)
        tests = replace(tests, error_rounds=compared.error_rounds, comparison=compared.comparison)
    return replace(
        before,
        checks=before.checks + 1,
        checked_at=now,
        errors_in_stage=before.errors_in_stage + sum(evidence.errors.values()),
        heartbeat_at=now if evidence.feature.active else before.heartbeat_at,
        totals=before.totals + new,
        totals_unsigned=before.totals_unsigned + evidence.new_unsigned,
        tests=tests,
    )


def _is_fresh(cells: Sequence[Cell], assessment: statistics.Assessment, evidence: Evidence) -> bool:
    """Return whether this check brought new evidence for a red; one that is merely still red does not add up."""
    new, red_at = evidence.new, assessment.red_at
    errors = new.treatment_errors > 0
    return (
        any(cell.fresh for cell in cells if cell.signal is Signal.RED)
        or (assessment.failures_e >= red_at and new.failed > 0)
        or (assessment.clients_e >= red_at and not assessment.everybody and errors)
        or (assessment.comparison_e >= red_at and errors)
    )


def _count(state: State, carry: Carry, signal: Signal, now: datetime, *, fresh: bool) -> Carry:
    """Count consecutive reds. A check without data, or without news, neither adds to them nor ends the row."""
    before = state.carry
    red, no_data = signal is Signal.RED, signal is Signal.NO_DATA
    return replace(
        carry,
        signal=signal,
        reds=before.reds + fresh if red else before.reds if no_data else 0,
        reds_in_stage=before.reds_in_stage + red,
        hold_since=min(before.hold_since or now, now) if no_data else None,
    )


def _advance_clock(
    state: State, carry: Carry, window: timedelta, table: Table, *, conditions: Collection[Condition]
) -> Carry:
    """Advance the clock of the stage: by a check that meets the timeline, and by two intervals at most.

    A red check sets it back to 0.
    """
    policy, ours = table.policy, table.evidence.feature
    too_high = scoring.grown(policy.watch_score * table.windows, ours.active, policy)
    high = ours.score >= too_high and Condition.WEATHER not in conditions
    good = {Signal.GREEN} if timeline.is_strict(state, carry) else {Signal.GREEN, Signal.YELLOW}
    counts = carry.signal in good and ours.active > 0
    passed = min(window, 2 * policy.check_interval) if counts else timedelta(0)
    return replace(
        carry,
        watched=timedelta(0) if carry.signal is Signal.RED else carry.watched + passed,
        calm=timedelta(0) if high else carry.calm + passed,
    )


def _assess(state: State, carry: Carry, policy: Policy) -> statistics.Assessment:
    counts = carry.totals
    totals = statistics.Totals(
        succeeded=counts.succeeded,
        failed=counts.failed,
        treatment=counts.treatment,
        treatment_errors=counts.treatment_errors,
        control=counts.control,
        control_errors=counts.control_errors,
        assigned=counts.assigned,
        unassigned=counts.unassigned,
    )
    return statistics.assess(carry.tests, totals, state.percentage / 100, limits(policy))


def _reasons_for_no_data(
    state: State, evidence: Evidence, carry: Carry, now: datetime, policy: Policy
) -> Iterator[str]:
    if not evidence.feature.active:
        silence = now - max(carry.heartbeat_at or state.stage_started_at, state.stage_started_at)
        yield wording.no_heartbeat(silence, unsigned=evidence.unsigned.active)
    if carry.totals.treatment < policy.sample_min:
        yield wording.too_few_samples(carry.totals.treatment, policy)
    migrations = carry.totals.succeeded + carry.totals.failed
    if state.track_migrations and migrations < policy.sample_min:
        yield wording.too_few_migrations(migrations, policy)
    counted = evidence.feature.active + evidence.baseline.active
    if evidence.lossy_clients > max(policy.loss_max * counted, policy.red_clients_min - 1):
        yield wording.telemetry_lost(evidence.lossy_clients, counted)


def _because(
    signal: Signal, cells: tuple[Cell, ...], no_data: tuple[str, ...], assessment: statistics.Assessment
) -> list[str]:
    """Return the texts behind a signal that is not green; those of the statistics only where there are no others."""
    if signal is Signal.GREEN:
        return []
    because = [cell.says for cell in cells if cell.signal is signal]
    if signal is Signal.NO_DATA:
        because += no_data
    if assessment.signal is signal and not because:
        because = [reason.rstrip(".") for reason in assessment.reasons]
    return because


def _note(carry: Carry, conditions: Collection[Condition], now: datetime) -> Carry:
    """Return the memory with the conditions of this check."""
    return replace(carry, conditions=carry.conditions | {condition.value: now for condition in conditions})


def _alerts(
    before: Carry,
    carry: Carry,
    action: Action,
    policy: Policy,
    *,
    conditions: Collection[Condition],
    now: datetime,
) -> Iterator[AlertKind]:
    red = carry.signal is Signal.RED
    if action is Action.ROLL_BACK:
        yield AlertKind.ROLLED_BACK
    elif red and carry.reds == policy.breaker_checks and before.reds < carry.reds:
        yield AlertKind.TRIPPED
    elif red and carry.reds == 1 and before.reds == 0:  # the first of a row
        yield AlertKind.RED
    for condition in sorted(conditions):  # at once, and again only after a calm time
        latest = before.conditions.get(condition.value)
        if latest is None or now - latest >= policy.hold_alert:
            yield AlertKind(condition.value)
    if carry.hold_since and before.checked_at:
        long_before = before.hold_since and before.checked_at - before.hold_since >= policy.hold_alert
        if now - carry.hold_since >= policy.hold_alert and not long_before:
            yield AlertKind.NO_DATA
    if action is Action.COMPLETE:
        yield AlertKind.COMPLETED
