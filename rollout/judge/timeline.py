"""The timelines: which action comes next, and when (docs/reference/judge.md, "Timelines"). Pure."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from rollout.judge import wording
from rollout.judge.policy import Policy
from rollout.judge.scoring import Signal
from rollout.judge.state import Action, Carry, Plan, State


class Rule(NamedTuple):
    """A promotion after ``wait`` in the stage, if the condition is met."""

    wait: timedelta
    met: bool
    condition: str


def plan(
    state: State, carry: Carry, signal: Signal, now: datetime, policy: Policy, *, blocked: bool = False
) -> Plan:
    """Return the next action: a rollback once the breaker trips, else a promotion, at 100 % the completion.

    ``blocked``: something else than the feature is wrong, so nothing is promoted.
    """
    if signal is Signal.RED and carry.reds >= policy.breaker_checks:
        return Plan(Action.ROLL_BACK, due=True, reason=wording.breaker(carry.reds))
    if state.percentage >= 100:
        return _completion(carry, signal, now, policy, blocked=blocked)
    return _promotion(state, carry, signal, now, policy, blocked=blocked)


def is_strict(state: State, carry: Carry) -> bool:
    """Return whether only green checks count: accelerated, which an error or a red check makes conservative."""
    return state.timeline == "accelerated" and not carry.errors_in_stage and not carry.reds_in_stage


def is_allowed(state: State, action: Action) -> bool:
    """Return whether the judge may act by itself, or only advise."""
    if action is Action.ROLL_BACK:
        return state.auto_rollback
    return state.timeline != "manual" and not state.on_hold


def _promotion(
    state: State, carry: Carry, signal: Signal, now: datetime, policy: Policy, *, blocked: bool
) -> Plan:
    """Plan the next step, by the clock of the stage."""
    target = next((Decimal(step) for step in policy.steps if step > state.percentage), Decimal(100))
    rules = _rules(state, carry, signal, policy)
    for rule in rules:
        if rule.met and carry.watched >= rule.wait and not blocked:
            reason = wording.promotion_due(rule.wait, state.percentage, rule.condition)
            return Plan(Action.PROMOTE, due=True, reason=reason, target=target, wait=rule.wait)
    if carry.reds_in_stage and _is_canary(state):
        return Plan(Action.PROMOTE, due=False, reason=wording.only_a_person_promotes(target), target=target)
    rule = next((rule for rule in rules if carry.watched < rule.wait), rules[-1])
    left = max(rule.wait - carry.watched, timedelta(0))
    reason = wording.promotion(
        target, rule.wait, rule.condition, no_data=signal is Signal.NO_DATA, overdue=not left
    )
    return Plan(Action.PROMOTE, due=False, reason=reason, target=target, due_at=now + left, wait=rule.wait)


def _is_canary(state: State) -> bool:
    return state.percentage < 50


def _rules(state: State, carry: Carry, signal: Signal, policy: Policy) -> list[Rule]:
    """Return the rules of the state's timeline, the shortest wait first.

    Accelerated becomes conservative with the first error event of a stage. A red check ends a canary's promotions by
    itself; later, its hours begin anew.
    """
    canary = _is_canary(state)
    green = signal is Signal.GREEN
    green_or_yellow = signal in {Signal.GREEN, Signal.YELLOW}
    never_red = carry.reds_in_stage == 0
    if is_strict(state, carry):
        wait = policy.accelerated_canary if canary else policy.accelerated_partial
        return [Rule(wait, green, wording.NO_ERRORS)]
    if canary:
        return [
            Rule(policy.conservative_canary_green, green and never_red, wording.GREEN_AND_NEVER_RED),
            Rule(policy.conservative_canary, green_or_yellow and never_red, wording.UNDER_THRESHOLD),
        ]
    return [Rule(policy.conservative_partial, green_or_yellow, wording.NO_RED)]


def _completion(carry: Carry, signal: Signal, now: datetime, policy: Policy, *, blocked: bool) -> Plan:
    """Plan the end of the watch: 24 h at 100 % (runbook, "Phase 5" and "Success Criteria").

    The hours begin anew after a high score.
    """
    totals = carry.totals
    migrations = totals.succeeded + totals.failed
    errors_max = policy.watch_error_rate * max(totals.sessions, 1)
    # It grows as the limits of the signal do, with 0.1 % of the stage's clients.
    grown = totals.treatment / policy.score_clients / 10 if policy.score_clients else 0
    criteria = [
        (signal in {Signal.GREEN, Signal.YELLOW}, wording.latest_check(signal)),
        (not blocked, wording.BLOCKED),
        (totals.succeeded >= policy.watch_migration_success * migrations, wording.migrations_missed(policy)),
        (totals.error_sessions < errors_max or not totals.error_sessions, wording.error_sessions(totals)),
        (totals.kill_switch <= max(policy.watch_kill_switch_max, grown), wording.kill_switch_users(totals)),
    ]
    unmet = [reason for met, reason in criteria if not met]
    if carry.calm >= policy.watch and not unmet:
        return Plan(Action.COMPLETE, due=True, reason=wording.completion_due(policy.watch), wait=policy.watch)
    due_at = now + max(policy.watch - carry.calm, timedelta(0))
    reason = wording.completion(policy.watch, unmet)
    return Plan(Action.COMPLETE, due=False, reason=reason, due_at=due_at, wait=policy.watch)
