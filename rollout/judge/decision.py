"""The decision about a rollout, given its telemetry. Pure: no Django, no clock, no I/O.

:func:`decide` is called once a check (every minute), with all that it may know: the :class:`State` of the rollout and
its earlier checks, the :class:`Evidence` of this one, the time, the policy. All four are stored with the check, so
that any past decision can be replayed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from rollout.judge import scoring, statistics, timeline, wording
from rollout.judge.evidence import Evidence
from rollout.judge.policy import Policy
from rollout.judge.scoring import Signal, worst
from rollout.judge.state import Action, Carry, State


class AlertKind(StrEnum):
    """Kind of an alert."""

    RED = "red"
    TRIPPED = "tripped"  # the breaker, while auto-rollback is off
    ROLLED_BACK = "rolled_back"
    NO_DATA = "hold"  # stored, and sent to webhooks, as `hold` from the beginning
    COMPLETED = "completed"


@dataclass(frozen=True, slots=True)
class Cell:
    """A line of the runbook's table of signals: a number, its signal and its text."""

    name: str
    signal: Signal
    says: str


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

    @property
    def tripped(self) -> bool:
        return Action.ROLL_BACK in (self.action, self.advice)


def decide(state: State, evidence: Evidence, now: datetime, policy: Policy) -> Decision:
    """Decide one check. The same arguments always give the same decision."""
    carry = _remember(state, evidence, now, policy)
    cells = tuple(_cells(evidence, carry, policy))
    no_data = tuple(_reasons_for_no_data(state, evidence, carry, now, policy))
    absolute = worst([*(cell.signal for cell in cells), *(Signal.NO_DATA for _ in no_data[:1])])
    assessment = _assess(state, carry, policy)
    # The stage's numbers do not get worse by themselves: where nothing arrived, nothing new is known of them.
    signal = worst([absolute, assessment.signal]) if evidence.events else Signal.NO_DATA
    carry = _count_reds(state.carry, carry, signal, now)
    plan = timeline.plan(state, carry, signal, now, policy)
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
        next=wording.next_step(state, plan, reds_left, allowed=allowed),
        due_at=plan.due_at if allowed else None,
        alerts=tuple(_alerts(state.carry, carry, action, now, policy)),
        carry=carry,
    )


def limits(policy: Policy) -> statistics.Limits:
    """Return the parameters of the statistical tests."""
    return statistics.Limits(
        p0=policy.failure_rate_good,
        p1=policy.failure_rate_bad,
        goal=policy.migration_success_green,
        alpha=policy.alpha,
        ratio_alpha=policy.ratio_alpha,
    )


def _remember(state: State, evidence: Evidence, now: datetime, policy: Policy) -> Carry:
    """Return the stage's memory with this check's evidence added."""
    before = state.carry
    since = max(before.checked_at or state.stage_started_at, state.stage_started_at)
    window = statistics.Window(
        # Negative when clients failed after a success: they no longer count as successes.
        succeeded=max(evidence.new.succeeded, 0),
        failed=evidence.new.failed,
        treatment=evidence.treatment,
        control=evidence.control,
        treatment_errors=evidence.new.treatment_errors,
        control_errors=evidence.new.control_errors,
    )
    return replace(
        before,
        checks=before.checks + 1,
        checked_at=now,
        errors_in_stage=before.errors_in_stage + sum(evidence.errors.values()),
        worst_score=max(before.worst_score, evidence.score),
        heartbeat_at=now if evidence.heartbeats else before.heartbeat_at,
        silent=before.silent if evidence.heartbeats else before.silent + max(now - since, timedelta(0)),
        score_high_at=now if evidence.score >= policy.watch_score else before.score_high_at,
        totals=before.totals + evidence.new,
        tests=statistics.advance(before.tests, window, limits(policy)),
    )


def _count_reds(before: Carry, carry: Carry, signal: Signal, now: datetime) -> Carry:
    """Count consecutive reds. A check without data neither adds to them nor ends the row."""
    red, no_data = signal is Signal.RED, signal is Signal.NO_DATA
    return replace(
        carry,
        signal=signal,
        reds=before.reds + 1 if red else before.reds if no_data else 0,
        reds_in_stage=before.reds_in_stage + red,
        hold_since=(before.hold_since or now) if no_data else None,
    )


def _assess(state: State, carry: Carry, policy: Policy) -> statistics.Assessment:
    totals = statistics.Totals(
        succeeded=carry.totals.succeeded,
        failed=carry.totals.failed,
        treatment=carry.totals.treatment,
        control=carry.totals.control,
    )
    return statistics.assess(carry.tests, totals, state.percentage / 100, limits(policy))


def _cells(evidence: Evidence, carry: Carry, policy: Policy) -> Iterator[Cell]:
    totals = carry.totals
    score = scoring.score_signal(evidence.score, policy)
    migrations = scoring.migration_signal(totals.succeeded, totals.failed, policy)
    kill_switch = scoring.kill_switch_signal(totals.kill_switch, policy)
    console = scoring.console_signal(evidence.console_warnings, evidence.console_errors, policy)
    yield Cell("score", score, wording.score(evidence))
    yield Cell("migrations", migrations, wording.migrations(totals))
    yield Cell("kill switch", kill_switch, wording.kill_switch(totals))
    yield Cell("console", console, wording.console(evidence))


def _reasons_for_no_data(
    state: State, evidence: Evidence, carry: Carry, now: datetime, policy: Policy
) -> Iterator[str]:
    if not evidence.heartbeats:
        yield wording.no_heartbeat(now - (carry.heartbeat_at or state.stage_started_at))
    if carry.totals.sample < policy.sample_min:
        yield wording.too_few_samples(carry.totals.sample, policy)
    if evidence.lossy_clients > max(policy.loss_max * evidence.clients, policy.red_clients_min - 1):
        yield wording.telemetry_lost(evidence)


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


def _alerts(
    before: Carry, carry: Carry, action: Action, now: datetime, policy: Policy
) -> Iterator[AlertKind]:
    red = carry.signal is Signal.RED
    if action is Action.ROLL_BACK:
        yield AlertKind.ROLLED_BACK
    elif red and carry.reds == policy.breaker_checks:
        yield AlertKind.TRIPPED
    elif red and carry.reds == 1:  # the first of a row, which checks without data do not end
        yield AlertKind.RED
    if carry.hold_since and before.checked_at:
        long_before = before.hold_since and before.checked_at - before.hold_since >= policy.hold_alert
        if now - carry.hold_since >= policy.hold_alert and not long_before:
            yield AlertKind.NO_DATA
    if action is Action.COMPLETE:
        yield AlertKind.COMPLETED
