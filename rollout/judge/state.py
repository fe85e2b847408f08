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
    errors_in_stage: int = 0  # failed events, but those of clients without the feature
    heartbeat_at: datetime | None = None  # the latest check with a heartbeat of a client with the feature
    watched: timedelta = timedelta(0)  # the clock of the stage: time of its checks that met the timeline
    calm: timedelta = timedelta(0)  # the same since the latest high score, for the watch at 100 %
    hold_since: datetime | None = None  # the first of the latest checks without data
    conditions: dict[str, datetime] = field(default_factory=dict)  # Condition: the latest check that had it
    totals: Counts = field(default_factory=Counts)
    totals_unsigned: Counts = field(default_factory=Counts)  # networks
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
    track_migrations: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """The next action, whether it is due, and the reason in words."""

    action: Action
    due: bool
    reason: str
    target: Decimal | None = None  # percent, of a promotion
    due_at: datetime | None = None  # the earliest time, of an action that is not due
    wait: timedelta | None = None  # time on the clock of the stage that it needs
