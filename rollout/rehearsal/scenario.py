"""Scenarios of rehearsals, read from TOML files and validated. docs/how-to/simulation.md explains each field.

Minutes count from the start of the rehearsal. A share is a number from 0 to 1.
"""

import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from rollout.judge.decision import AlertKind
from rollout.judge.events import NAME, Event
from rollout.judge.scoring import Signal

DIRECTORY = Path(__file__).parent / "scenarios"
HOURS_MAX = 7 * 24  # of a rehearsal; it holds one transaction open, at some milliseconds a minute
PER_MINUTE_MAX = 100_000  # sessions, bots, events of a flood
AGE_MAX = 366 * 24 * 3600  # s; of an event
CLOCK_MAX = 366 * 24 * 60  # minutes that the clock may be wrong

# The values that options override: option, then table and field of the file.
OVERRIDES = {
    "timeline": ("", "timeline"),
    "percentage": ("", "percentage"),
    "hours": ("", "hours"),
    "sessions_per_minute": ("traffic", "sessions_per_minute"),
    "error_rate": ("treatment", "error"),
    "migration_failure_rate": ("treatment", "migration_failure"),
    "kill_switch_rate": ("treatment", "kill_switch"),
    "control_error_rate": ("control", "error"),
    "control_kill_switch_rate": ("control", "kill_switch"),
}

Share = Annotated[float, Meta(ge=0, le=1)]
Percentage = Annotated[float, Meta(gt=0, le=100)]
Minute = Annotated[float, Meta(ge=0, le=HOURS_MAX * 60)]
PerMinute = Annotated[float, Meta(ge=0, le=PER_MINUTE_MAX)]
Networks = Annotated[int, Meta(ge=0, le=65_536)]  # each a /24 of 10.0.0.0/8
AnyTable = TypeVar("AnyTable", bound="Table")


class ScenarioError(Exception):
    """A scenario that cannot be used. The message says why."""


class Outcome(StrEnum):
    """The end of a rehearsal."""

    COMPLETED = "completed"
    ROLLED_BACK = "rolled_back"
    TRIPPED = "tripped"  # the breaker tripped, and auto-rollback is off
    HELD = "held"  # no data at the end
    UNDER_WAY = "under_way"


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of a scenario file: a field with a wrong name is an error, not a default."""


class Traffic(Table, frozen=True):
    sessions_per_minute: PerMinute = 20  # that begin
    times: Annotated[float, Meta(ge=0, le=1000)] = 1  # factor of the sessions; for segments
    session_minutes: Annotated[float, Meta(ge=1, le=1440)] = 3  # mean length; a heartbeat each
    returning: Share = 0.3  # of the sessions: by known clients
    bots_per_minute: PerMinute = 0  # each posts a fund, and sends no heartbeat
    migrating: Share = 1  # of the clients: have something to migrate
    creating: Share = 0  # of the sessions: create a fund; the server reports the outcome
    browsers_per_user: Annotated[float, Meta(ge=1, le=1000)] = 1  # mean
    unsigned: Share = 0  # of the clients: send no ticket
    networks: Networks = 256  # of the unsigned clients
    no_flag: Share = 0  # of the clients: name no flag, and so no variant
    no_variant: Share = 0  # of the clients: name the flag and no variant
    unready: Share = 0  # of the sessions: name no variant in their first minute
    dropping: Share = 0  # of the sessions: report that they dropped events


class Rates(Table, frozen=True):
    """Failure rates: shares of sessions; of migrations, shares of clients, as each has one migration."""

    crash: Share = 0  # on load: such a session sends nothing at all
    migration_failure: Share = 0
    validation_error: Share = 0
    error: Share = 0
    console_error: Share = 0
    console_warning: Share = 0
    kill_switch: Share = 0  # its users get legacy from then on
    create_failure: Share = 0  # of the creates that the server reports


class Flood(Table, frozen=True):
    """Clients that report one failure repeatedly, broken or hostile. Each has a heartbeat."""

    clients: Annotated[int, Meta(ge=0, le=1000)] = 0
    events_per_minute: Annotated[int, Meta(ge=0, le=100_000)] = 1000  # of each
    event: Annotated[str, Meta(pattern=rf"^{NAME}$")] = Event.MIGRATION_FAILED.value
    variant: Literal["with", "without", "none"] = "with"  # the feature; none: the events name no variant
    flag: bool = True  # the events name the flag
    age_seconds: Annotated[int, Meta(ge=0, le=AGE_MAX)] = 0  # of the events when sent, not of heartbeats
    users: Annotated[int, Meta(ge=0, le=1000)] = 0  # that sign for all of them; 0: each for itself
    networks: Networks = 0  # that they send from without a ticket; 0: they are signed


class Conditions(Table, frozen=True):
    """The conditions of one minute."""

    traffic: Traffic
    treatment: Rates  # of clients with the feature
    control: Rates  # of the others
    flood: Flood
    broken: bool = False
    judge_away: bool = False
    telemetry_away: bool = False
    clock_minutes: float = 0


class Segment(Table, frozen=True):
    """A range of minutes or percentages with other conditions."""

    from_minute: Minute = 0
    until_minute: Minute | None = None
    from_percentage: Annotated[float, Meta(ge=0, le=100)] = 0
    broken: bool = False  # the fault that the judge must find; the report says how long it took
    judge_away: bool = False  # no checks; telemetry keeps arriving
    telemetry_away: bool = False  # none arrives; checks go on
    clock_minutes: Annotated[float, Meta(ge=-CLOCK_MAX, le=CLOCK_MAX)] = 0  # that the judge's clock is ahead
    traffic: dict[str, Any] = {}
    treatment: dict[str, Any] = {}
    control: dict[str, Any] = {}
    flood: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if self.until_minute is not None and self.until_minute <= self.from_minute:
            raise ValueError("`until_minute` must be later than `from_minute`")

    def covers(self, minute: float, percentage: float) -> bool:
        until = self.until_minute
        return (
            self.from_minute <= minute
            and (until is None or minute < until)
            and self.from_percentage <= percentage
        )


class Expected(Table, frozen=True):
    """The expected end of a scenario. Fields that are left out are not checked."""

    outcome: Outcome
    signal: Signal | None = None  # of the last check
    percentage: Annotated[float, Meta(ge=0, le=100)] | None = None  # at the end
    highest: Percentage | None = None  # ever reached
    never: tuple[Signal, ...] = ()  # signals of no check
    alerts: tuple[AlertKind, ...] = ()  # that must come; others may
    by_minute: Minute | None = None  # the outcome's latest minute
    within_minutes: Minute | None = None  # from the fault to the rollback


class Scenario(Table, frozen=True):
    description: Annotated[str, Meta(min_length=1)]
    timeline: Literal["accelerated", "conservative", "manual"] = "conservative"
    percentage: Percentage = 10
    hours: Annotated[float, Meta(gt=0, le=HOURS_MAX)] = 48  # at most; a rehearsal ends when its rollout ends
    auto_rollback: bool = True
    track_migrations: bool = True
    completed_before: bool = False  # it was complete once, then rolled back and resumed
    unsigned_telemetry: Literal["full", "network", "none"] = "network"  # ROLLOUT_UNSIGNED_TELEMETRY
    seed: int = 1
    traffic: Traffic = Traffic()
    treatment: Rates = Rates()
    control: Rates = Rates()
    flood: Flood = Flood()
    segments: tuple[Segment, ...] = ()
    expected: Expected | None = None

    def __post_init__(self) -> None:
        for number, segment in enumerate(self.segments, start=1):
            try:
                self._under([segment])
            except msgspec.ValidationError as error:
                raise ValueError(f"Segment {number}: {error}") from None

    def conditions(self, minute: float, percentage: float) -> Conditions:
        """Return the conditions of a minute at a percentage: the scenario, changed by each segment in turn."""
        return self._under([segment for segment in self.segments if segment.covers(minute, percentage)])

    def _under(self, segments: list[Segment]) -> Conditions:
        return Conditions(
            traffic=_changed(self.traffic, [segment.traffic for segment in segments]),
            treatment=_changed(self.treatment, [segment.treatment for segment in segments]),
            control=_changed(self.control, [segment.control for segment in segments]),
            flood=_changed(self.flood, [segment.flood for segment in segments]),
            broken=any(segment.broken for segment in segments),
            judge_away=any(segment.judge_away for segment in segments),
            telemetry_away=any(segment.telemetry_away for segment in segments),
            clock_minutes=sum(segment.clock_minutes for segment in segments),
        )


def _changed(table: AnyTable, changes: list[dict[str, Any]]) -> AnyTable:
    fields = msgspec.structs.asdict(table)
    for change in changes:
        fields |= change
    return msgspec.convert(fields, type(table))


def names() -> list[str]:
    """Return the names of the scenarios that come with the app."""
    return sorted(path.stem for path in DIRECTORY.glob("*.toml"))


def load(name: str) -> Scenario:
    """Return a scenario by its name, or by the path of a ``.toml`` file.

    Raises:
        ScenarioError: it does not exist, cannot be read, or is not valid.
    """
    if name in names():
        path = DIRECTORY / f"{name}.toml"
    elif name.endswith(".toml"):
        path = Path(name)
    else:
        raise ScenarioError(
            f"There is no scenario '{name}'. Known: {', '.join(names())}; or the path of a .toml file."
        )
    try:
        return parse(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ScenarioError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:  # not TOML, not UTF-8, or an invalid value
        raise ScenarioError(f"{path}: {error}.") from None


def parse(document: Mapping[str, Any]) -> Scenario:
    """Return the scenario of a decoded file.

    Raises:
        ValueError: names the field that is wrong.
    """
    return msgspec.convert(document, Scenario)


def override(scenario: Scenario, **values: Any) -> Scenario:
    """Return a scenario in which these :data:`OVERRIDES` hold from end to end, over all segments.

    The expectations are dropped: they are those of the unchanged scenario.
    """
    if not values:
        return scenario
    changes: dict[str, dict[str, Any]] = {"": {}, "traffic": {}, "treatment": {}, "control": {}}
    for name, value in values.items():
        table, field = OVERRIDES[name]
        changes[table][field] = value
    last = Segment(traffic=changes["traffic"], treatment=changes["treatment"], control=changes["control"])
    segments = (*scenario.segments, last)
    return msgspec.structs.replace(scenario, segments=segments, expected=None, **changes[""])
