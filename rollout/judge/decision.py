"""What to do with a rollout, given what its telemetry says. Pure: no Django, no clock, no I/O.

:func:`decide` is called once a check (every minute). It is given all that it may know: the :class:`State` of the
rollout with what is remembered of earlier checks, the :class:`Evidence` of this one, the time, the policy. All four
are stored with the check, so that any past decision can be replayed.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from rollout.judge import scoring, statistics
from rollout.judge.policy import Policy
from rollout.judge.scoring import Signal, worst
from rollout.units import duration, percent, ratio


class Action(StrEnum):
    NONE = "none"
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"
    COMPLETE = "complete"


class Alert(StrEnum):
    """What is worth waking somebody for."""

    RED = "red"
    TRIPPED = "tripped"  # three reds in a row, and auto-rollback is off
    ROLLED_BACK = "rolled_back"
    HOLD = "hold"
    COMPLETED = "completed"


@dataclass(frozen=True, slots=True)
class Counts:
    """Clients (and sessions) that did something for the first time in the stage."""

    succeeded: int = 0  # clients whose migration succeeded
    failed: int = 0  # clients whose migration failed
    kill_switch: int = 0  # clients that used a kill switch
    sample: int = 0  # clients with a heartbeat that have the feature, or do not say
    treatment: int = 0  # clients that said they have the feature
    control: int = 0  # clients that said only that they do not
    treatment_errors: int = (
        0  # clients with a failed event other than a migration, while they had the feature
    )
    control_errors: int = 0  # while they had not
    sessions: int = 0  # sessions with a heartbeat
    error_sessions: int = 0  # sessions with a failed event

    def __add__(self, other: "Counts") -> "Counts":
        mine, theirs = asdict(self), asdict(other)
        return Counts(**{name: mine[name] + theirs[name] for name in mine})


@dataclass(frozen=True, slots=True)
class Evidence:
    """What arrived since the previous check."""

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


@dataclass(frozen=True, slots=True)
class Carry:
    """What is remembered of the stage's earlier checks."""

    checks: int = 0
    checked_at: datetime | None = None
    signal: Signal | None = None
    reds: int = 0  # consecutive
    reds_in_stage: int = 0
    errors_in_stage: int = 0  # failed events
    worst_score: int = 0
    heartbeat_at: datetime | None = None  # the latest check that saw one
    silent: timedelta = timedelta(0)  # time without heartbeats: it counts for no timeline
    hold_since: datetime | None = None
    score_high_at: datetime | None = None  # the latest check at or over the watch's limit
    totals: Counts = Counts()
    tests: statistics.Memory = field(default_factory=statistics.Memory)


@dataclass(frozen=True, slots=True)
class State:
    """The rollout as the check found it."""

    feature: str
    percentage: Decimal
    stage_started_at: datetime
    timeline: str  # accelerated, conservative, manual
    on_hold: bool
    auto_rollback: bool
    carry: Carry


@dataclass(frozen=True, slots=True)
class Cell:
    """One line of the runbook's table: a number, its colour, and both in words."""

    name: str
    signal: Signal
    says: str


@dataclass(frozen=True, slots=True)
class Decision:
    signal: Signal
    absolute: Signal  # the runbook's thresholds
    statistical: Signal  # the tests
    cells: tuple[Cell, ...]
    holds: tuple[str, ...]  # why nobody can tell; empty unless the signal could not be told
    assessment: statistics.Assessment
    action: Action
    target: Decimal | None  # percent, when promoting
    advice: Action  # what the judge would do, were it allowed to
    reason: str
    next: str  # what happens next, in words
    due_at: datetime | None  # when, if nothing gets in the way
    alerts: tuple[Alert, ...]
    carry: Carry

    @property
    def tripped(self) -> bool:
        return Action.ROLL_BACK in (self.action, self.advice)


def decide(state: State, evidence: Evidence, now: datetime, policy: Policy) -> Decision:
    """Judge one check. The same arguments give the same decision, whenever and wherever."""
    carry = _remember(state, evidence, now, policy)
    cells = tuple(_cells(evidence, carry, policy))
    holds = tuple(_holds(state, evidence, carry, now, policy))
    assessment = statistics.assess(
        carry.tests,
        statistics.Totals(
            succeeded=carry.totals.succeeded,
            failed=carry.totals.failed,
            treatment=carry.totals.treatment,
            control=carry.totals.control,
        ),
        state.percentage / 100,
        limits(policy),
    )
    absolute = worst([*(cell.signal for cell in cells), *(Signal.HOLD for _ in holds[:1])])
    # The stage's numbers do not get worse by themselves: where nothing arrived, nothing new is known of them.
    signal = worst([absolute, assessment.signal]) if evidence.events else Signal.HOLD
    carry = _count_reds(state.carry, carry, signal, now)
    tripped = signal is Signal.RED and carry.reds >= policy.breaker_checks
    plan = (
        Plan(Action.ROLL_BACK, due=True, says=f"{carry.reds} consecutive red checks")
        if tripped
        else _plan(state, carry, signal, now, policy)
    )
    allowed = _allowed(state, plan.action)
    action = plan.action if plan.due and allowed else Action.NONE
    return Decision(
        signal=signal,
        absolute=absolute,
        statistical=assessment.signal,
        cells=cells,
        holds=holds,
        assessment=assessment,
        action=action,
        target=plan.target if action is Action.PROMOTE else None,
        advice=plan.action if plan.due else Action.NONE,
        reason=_reason(plan.says, signal, cells, holds, assessment),
        next=_next(
            state, plan, policy.breaker_checks - carry.reds if signal is Signal.RED else None, allowed=allowed
        ),
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


# --- What is known ------------------------------------------------------------------------------------------------


def _remember(state: State, evidence: Evidence, now: datetime, policy: Policy) -> Carry:
    """Add this check's evidence to what is remembered of the stage."""
    before = state.carry
    since = max(before.checked_at or state.stage_started_at, state.stage_started_at)
    window = statistics.Window(
        succeeded=max(evidence.new.succeeded, 0),  # whoever fails after a success counts no longer as one
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
    """A hold neither adds to the consecutive reds nor ends them: it knows nothing."""
    red = signal is Signal.RED
    return replace(
        carry,
        signal=signal,
        reds=before.reds + 1 if red else before.reds if signal is Signal.HOLD else 0,
        reds_in_stage=before.reds_in_stage + red,
        hold_since=(before.hold_since or now) if signal is Signal.HOLD else None,
    )


def _cells(evidence: Evidence, carry: Carry, policy: Policy) -> Iterator[Cell]:
    totals = carry.totals
    of_all = "" if evidence.points == evidence.score else f", of {evidence.points} before the cap per client"
    yield Cell(
        "score",
        scoring.score_signal(evidence.score, policy),
        f"{evidence.score} points in this check{of_all}",
    )
    migrations = totals.succeeded + totals.failed
    yield Cell(
        "migrations",
        scoring.migration_signal(totals.succeeded, totals.failed, policy),
        f"{totals.failed} of {migrations} clients' migrations failed in this stage"
        if migrations
        else "no migrations in this stage yet",
    )
    yield Cell(
        "kill switch",
        scoring.kill_switch_signal(totals.kill_switch, policy),
        f"{totals.kill_switch} users of a kill switch in this stage",
    )
    yield Cell(
        "console",
        scoring.console_signal(evidence.console_warnings, evidence.console_errors, policy),
        f"clients with console errors: {evidence.console_errors}, with warnings: {evidence.console_warnings}",
    )


def _holds(state: State, evidence: Evidence, carry: Carry, now: datetime, policy: Policy) -> Iterator[str]:
    """Say why nobody can tell."""
    if not evidence.heartbeats:
        yield f"no heartbeat for {duration(now - (carry.heartbeat_at or state.stage_started_at))}"
    if carry.totals.sample < policy.sample_min:
        yield f"too few samples: {carry.totals.sample} of {policy.sample_min} clients with the feature"
    if evidence.lossy_clients > max(policy.loss_max * evidence.clients, policy.red_clients_min - 1):
        yield f"telemetry is lost: {evidence.lossy_clients} of {evidence.clients} clients report dropped events"


# --- What to do ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """What the timeline wants, whether it is time, and what is in the way."""

    action: Action
    due: bool
    says: str
    target: Decimal | None = None
    due_at: datetime | None = None


def _plan(state: State, carry: Carry, signal: Signal, now: datetime, policy: Policy) -> Plan:
    """Look up the timeline (design: docs/how-to/rollouts.md, "Timelines")."""
    start = state.stage_started_at + carry.silent
    if state.percentage >= 100:
        return _watch(state, carry, signal, now, policy)
    target = next((Decimal(step) for step in policy.steps if step > state.percentage), Decimal(100))
    canary = state.percentage < 50
    known_good = signal is Signal.GREEN
    tolerable = signal in {Signal.GREEN, Signal.YELLOW}
    clean = carry.errors_in_stage == 0
    calm = carry.reds_in_stage == 0 and carry.worst_score < policy.error_threshold

    if state.timeline == "accelerated" and clean:
        wait = policy.accelerated_canary if canary else policy.accelerated_partial
        rules = [(wait, known_good, "no error event in the stage")]
    elif canary:
        rules = [
            (policy.conservative_canary_green, calm and known_good, "green, and no red in the stage"),
            (policy.conservative_canary, calm and tolerable, "every score under the threshold, none red"),
        ]
    else:
        rules = [(policy.conservative_partial, carry.reds_in_stage == 0 and tolerable, "no red in the stage")]
    for wait, holds, why in rules:
        if holds and now - start >= wait:
            says = f"{duration(wait)} at {percent(state.percentage)}: {why}"
            return Plan(Action.PROMOTE, due=True, says=says, target=target)
    if carry.reds_in_stage:
        says = f"a check of this stage was red: only a person promotes to {percent(target)}"
        return Plan(Action.PROMOTE, due=False, says=says, target=target)
    wait, _, why = next((rule for rule in rules if now - start < rule[0]), rules[-1])
    says = f"to {percent(target)} after {duration(wait)}, if: {why}"
    if signal is Signal.HOLD:
        says += "; it waits for data"
    elif now - start >= wait:
        says += "; the latest check is not"
    return Plan(Action.PROMOTE, due=False, says=says, target=target, due_at=max(start + wait, now))


def _watch(state: State, carry: Carry, signal: Signal, now: datetime, policy: Policy) -> Plan:
    """24 hours at 100 % (runbook, "Phase 5" and "Success Criteria"). The hours begin anew after a high score."""
    totals = carry.totals
    start = max(state.stage_started_at + carry.silent, carry.score_high_at or state.stage_started_at)
    migrations = totals.succeeded + totals.failed
    unmet = [
        says
        for holds, says in [
            (signal in {Signal.GREEN, Signal.YELLOW}, f"the latest check is {signal}"),
            (
                totals.succeeded >= policy.watch_migration_success * migrations,
                f"migration success under {ratio(policy.watch_migration_success)}",
            ),
            (
                totals.error_sessions < policy.watch_error_rate * max(totals.sessions, 1)
                or not totals.error_sessions,
                f"{totals.error_sessions} of {totals.sessions} sessions had errors",
            ),
            (
                totals.kill_switch <= policy.watch_kill_switch_max,
                f"{totals.kill_switch} users of a kill switch",
            ),
        ]
        if not holds
    ]
    if now - start >= policy.watch and not unmet:
        return Plan(Action.COMPLETE, due=True, says=f"{duration(policy.watch)} at 100 % within the limits")
    says = f"complete after {duration(policy.watch)} at 100 %"
    if unmet:
        says += f"; not yet met: {', '.join(unmet)}"
    return Plan(Action.COMPLETE, due=False, says=says, due_at=max(start + policy.watch, now))


def _allowed(state: State, action: Action) -> bool:
    if action is Action.ROLL_BACK:
        return state.auto_rollback
    return state.timeline != "manual" and not state.on_hold


def _next(state: State, plan: Plan, reds_left: int | None, *, allowed: bool) -> str:
    ready = {
        Action.PROMOTE: f"Ready for {percent(plan.target or state.percentage)}",
        Action.COMPLETE: "Ready to be completed",
    }
    why = "it is on hold" if state.on_hold else "its timeline is manual"
    match plan:
        case Plan(action=Action.ROLL_BACK) if allowed:
            return "Rolled back to 0 %, and on hold until somebody resumes it."
        case Plan(action=Action.ROLL_BACK):
            return f"Roll it back: {plan.says}, and auto-rollback is off."
        case _ if reds_left is not None:
            many = "1 more red check" if reds_left == 1 else f"{reds_left} more red checks in a row"
            then = "it is rolled back" if state.auto_rollback else "the breaker trips; auto-rollback is off"
            return f"{many}, and {then}."
        case _ if allowed:
            return f"{plan.says[0].upper()}{plan.says[1:]}."
        case Plan(due=True):
            return f"{ready[plan.action]} ({plan.says}), but {why}."
    return f"It stays where it is, for {why}. Otherwise: {plan.says}."


def _reason(
    says: str,
    signal: Signal,
    cells: tuple[Cell, ...],
    holds: tuple[str, ...],
    assessment: statistics.Assessment,
) -> str:
    """Say why the signal is what it is, and what that leads to: in one line, for the history and for messages.

    The statistics speak where the runbook's thresholds do not; the check has all of them.
    """
    blamed: list[str] = [cell.says for cell in cells if cell.signal is signal and signal is not Signal.GREEN]
    if signal is Signal.HOLD:
        blamed += holds
    if assessment.signal is signal and signal is not Signal.GREEN and not blamed:
        blamed += (reason.rstrip(".") for reason in assessment.reasons)
    return f"{signal}: {'; '.join(blamed) or 'nothing speaks against it'} ({says})"


def _alerts(before: Carry, carry: Carry, action: Action, now: datetime, policy: Policy) -> Iterator[Alert]:
    red = carry.signal is Signal.RED
    if action is Action.ROLL_BACK:
        yield Alert.ROLLED_BACK
    elif red and carry.reds == policy.breaker_checks:
        yield Alert.TRIPPED
    elif red and carry.reds == 1:  # the first of a row, which holds do not end
        yield Alert.RED
    if carry.hold_since and before.checked_at:
        long_before = before.hold_since and before.checked_at - before.hold_since >= policy.hold_alert
        if now - carry.hold_since >= policy.hold_alert and not long_before:
            yield Alert.HOLD
    if action is Action.COMPLETE:
        yield Alert.COMPLETED
