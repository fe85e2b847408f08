"""The judge's texts: cells, reasons for no data, plans, the reason of a signal, the next step. Pure."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from math import ceil, floor

from rollout.judge.evidence import Counts, Side
from rollout.judge.policy import Policy
from rollout.judge.scoring import Signal, Thresholds
from rollout.judge.state import Action, Plan, State
from rollout.units import duration, percent, points, ratio

# Conditions of the timelines.
NO_ERRORS = "no error event in the stage"
GREEN_AND_NEVER_RED = "green, and no red in the stage"
UNDER_THRESHOLD = "every score under the threshold, none red"
NO_RED = "no red in that time"
WEATHER = "not the feature: everybody has errors"
BLOCKED = "something else than the feature is wrong"

# --- Cells: their numbers are whole, so a limit is the next whole number that passes it -----------------------------


def score(ours: Side, unknown: Side, limits: Thresholds) -> str:
    uncapped = "" if ours.points == ours.score else f", of {ours.points:,} before the cap per client"
    of_unknown = f"; {unknown.score:,} more from events without a flag or a variant" if unknown.score else ""
    return f"{points(ours.score)} in this check{uncapped}{of_unknown}{_limit(limits)}"


def server(ours: Side, theirs: Side, limits: Thresholds) -> str:
    others = f"; without it {theirs.failing:,} of {theirs.active:,}" if theirs.active else ""
    return (
        f"creates with the feature failed for {ours.failing:,} of {ours.active:,} users{others}"
        f" ({points(ours.score)}{_limit(limits)})"
    )


def migrations(totals: Counts) -> str:
    tried = totals.succeeded + totals.failed
    if not tried:
        return "no migrations in this stage yet"
    return f"{totals.failed:,} of {tried:,} clients' migrations failed in this stage"


def kill_switch(totals: Counts, limits: Thresholds) -> str:
    return f"{kill_switch_users(totals)} in this stage, red over {floor(limits.kill_switch_red):,}"


def console(ours: Side, unknown: Side, limits: Thresholds) -> str:
    of_unknown = f"; {unknown.console_errors:,} without a flag or a variant" if unknown.console_errors else ""
    return (
        f"clients with console errors: {ours.console_errors:,} (red from {ceil(limits.console_red):,}), "
        f"with warnings: {ours.console_warnings:,}{of_unknown}"
    )


def unsigned(ours: Side, totals: Counts, limits: Thresholds, enough: int) -> str:
    console = f", {ours.console_errors:,} of them console errors" if ours.console_errors else ""
    return (
        f"{ours.failing:,} of {max(ours.active, ours.failing):,} networks without a ticket report failures{console} "
        f"({points(ours.score)}{_limit(limits)}), {totals.failed:,} failed migrations, "
        f"{kill_switch_users(totals)}, red only from {enough} networks on"
    )


def baseline(side: Side, *, voices: str) -> str:
    return (
        f"only {voices} without the feature fail: {side.failing:,} of {max(side.active, side.failing):,} "
        f"({points(side.score)}, {side.console_errors:,} with console errors)"
    )


def _limit(limits: Thresholds) -> str:
    """Return the limit of the score, and what it grew with."""
    return f", red from {ceil(limits.score_red):,}{limits.grown_with}"


# --- Reasons for no data --------------------------------------------------------------------------------------------


def no_heartbeat(silence: timedelta, *, unsigned: int) -> str:
    networks = "1 network" if unsigned == 1 else f"{unsigned:,} networks"
    but = f"; {networks} without a ticket, which promote nothing" if unsigned else ""
    whole = timedelta(seconds=round(silence.total_seconds()))
    return f"no heartbeat of clients with the feature for {duration(whole)}{but}"


def too_few_samples(sample: int, policy: Policy) -> str:
    return f"too few samples: {sample} of {policy.sample_min} clients with the feature"


def too_few_migrations(migrations: int, policy: Policy) -> str:
    many = "no migrations yet" if not migrations else "too few migrations"
    return f"{many}: {migrations} of {policy.sample_min}"


def telemetry_lost(lossy: int, clients: int) -> str:
    return f"telemetry is lost: {lossy:,} of {max(clients, lossy):,} clients report dropped events"


# --- Plans ----------------------------------------------------------------------------------------------------------


def breaker(reds: int) -> str:
    return f"{reds} consecutive red checks"


def promotion_due(wait: timedelta, percentage: Decimal, condition: str) -> str:
    return f"{duration(wait)} at {percent(percentage)}: {condition}"


def only_a_person_promotes(target: Decimal) -> str:
    return f"a check of this stage was red: only a person promotes to {percent(target)}"


def promotion(target: Decimal, wait: timedelta, condition: str, *, no_data: bool, overdue: bool) -> str:
    missing = "; no data yet" if no_data else "; the latest check does not meet this" if overdue else ""
    return f"promotion to {percent(target)} after {duration(wait)}, if: {condition}{missing}"


def completion_due(wait: timedelta) -> str:
    return f"{duration(wait)} at 100 % within the limits"


def completion(wait: timedelta, unmet: Sequence[str]) -> str:
    missing = f"; not yet met: {', '.join(unmet)}" if unmet else ""
    return f"completion after {duration(wait)} at 100 %{missing}"


def latest_check(signal: Signal) -> str:
    return "the latest check has no data" if signal is Signal.NO_DATA else f"the latest check is {signal}"


def migrations_missed(policy: Policy) -> str:
    return f"migration success under {ratio(policy.watch_migration_success)}"


def error_sessions(totals: Counts) -> str:
    return f"{totals.error_sessions} of {totals.sessions} sessions had errors"


def kill_switch_users(totals: Counts) -> str:
    return "1 kill-switch user" if totals.kill_switch == 1 else f"{totals.kill_switch:,} kill-switch users"


# --- The decision ---------------------------------------------------------------------------------------------------


def reason(signal: Signal, because: Sequence[str], plan: Plan) -> str:
    """Return in one line why the signal is what it is and what follows: for the history and for messages."""
    return f"{signal.label}: {'; '.join(because) or 'all numbers within their limits'} ({plan.reason})"


def next_step(state: State, plan: Plan, reds_left: int | None, *, fresh: bool, allowed: bool) -> str:
    """Return what happens next.

    Args:
        reds_left: red checks in a row until the breaker trips; ``None`` while the signal is not red.
        fresh: this check brought new evidence for its red, and so counts.
        allowed: the judge may act by itself.
    """
    if plan.action is Action.ROLL_BACK:
        if allowed:
            return "Rolled back to 0 %, and on hold until somebody resumes it."
        return f"Roll it back: {plan.reason}, and auto-rollback is off."
    if reds_left is not None:
        many = "1 more red check" if reds_left == 1 else f"{reds_left} more consecutive red checks"
        does = "rolls" if reds_left == 1 else "roll"
        then = f"{does} it back" if state.auto_rollback else "and the breaker trips; auto-rollback is off"
        if not fresh:
            return f"No new failures in this check. {many} with new failures {then}."
        return f"{many} {then}."
    if allowed:
        return f"{plan.reason[0].upper()}{plan.reason[1:]}."
    return _advice(state, plan)


def _advice(state: State, plan: Plan) -> str:
    obstacle = "it is on hold" if state.on_hold else "its timeline is manual"
    if not plan.due:
        return f"It stays at {percent(state.percentage)} because {obstacle}. Otherwise: {plan.reason}."
    if plan.action is Action.COMPLETE:
        return f"Ready to be completed ({plan.reason}), but {obstacle}."
    return f"Ready for {percent(plan.target or state.percentage)} ({plan.reason}), but {obstacle}."
