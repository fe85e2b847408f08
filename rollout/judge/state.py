"""State of a rollout before a check, memory of its stage, and plan of its next action. Pure data.

``State`` and ``Carry`` are stored as JSON: their fields keep their names.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from rollout.judge.evidence import Counts
from rollout.judge.scoring import Signal
from rollout.judge.statistics import Memory


class Action(StrEnum):
    """A change of the rollout by the judge."""

    NONE = "none"
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class Carry:
    """Memory of the stage's earlier checks. A new stage begins with an empty one."""

    checks: int = 0
    checked_at: datetime | None = None
    signal: Signal | None = None
    reds: int = 0  # consecutive
    reds_in_stage: int = 0
    errors_in_stage: int = 0  # failed events
    worst_score: int = 0
    heartbeat_at: datetime | None = None  # the latest check with a heartbeat
    silent: timedelta = timedelta(0)  # time without heartbeats, which no timeline counts
    hold_since: datetime | None = None  # the first of the latest checks without data
    score_high_at: datetime | None = None  # the latest check at or over the limit of the watch at 100 %
    totals: Counts = field(default_factory=Counts)
    tests: Memory = field(default_factory=Memory)


@dataclass(frozen=True, slots=True)
class State:
    """The rollout before the check."""

    feature: str
    percentage: Decimal
    stage_started_at: datetime
    timeline: str  # accelerated, conservative, manual
    on_hold: bool
    auto_rollback: bool
    carry: Carry


@dataclass(frozen=True, slots=True)
class Plan:
    """The next action, whether it is due, and the reason in words."""

    action: Action
    due: bool
    reason: str
    target: Decimal | None = None  # percent, of a promotion
    due_at: datetime | None = None  # the earliest time, of an action that is not due
