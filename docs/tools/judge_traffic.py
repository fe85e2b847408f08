"""Telemetry of simulated rollouts as numbers of clients: the evidence of each minute, drawn at random, no database."""

from dataclasses import dataclass, replace

import numpy as np

from rollout.judge.events import ErrorClass
from rollout.judge.evidence import Counts, Evidence, Side
from rollout.judge.policy import Policy

SESSION_MINUTES = 3  # mean length of a session; it sends a heartbeat each minute
RETURNING = 0.3  # share of the sessions that are of known clients
KNOWN = 24 * 60  # minutes of traffic before the rollout whose clients are known


@dataclass(frozen=True, slots=True)
class Health:
    """Failures of a healthy feature: shares of sessions; of migrations, one for each client."""

    migration_failure: float
    validation_error: float
    console_error: float
    error: float
    console_warning: float
    kill_switch: float  # only clients with the feature

    @property
    def errors(self) -> tuple[float, ...]:
        """Return the rates of events that clients have with the feature and without it."""
        return self.validation_error, self.console_error, self.error, self.console_warning


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of the feature, from a minute of the rollout on."""

    at: int = 0
    migrations: float = 0  # share of migrations that fail
    errors: float = 0  # share of sessions with an error, of the class "anything else": 3 points


@dataclass(slots=True)
class Group:
    """Clients that have the feature, or have not: each counts in one of these numbers."""

    unknown: int = 0  # never migrated, and not yet in this stage
    migrated: int = 0  # not yet in this stage
    seen: int = 0  # in this stage
    erred: int = 0  # in this stage, with an error
    live: int = 0  # sessions

    @property
    def known(self) -> tuple[int, ...]:
        return self.unknown, self.migrated, self.seen, self.erred


@dataclass(frozen=True, slots=True)
class Minute:
    """Events of one group in a minute."""

    new: int  # clients
    migrating: int
    begun: int  # sessions
    unhurt: int = 0  # of clients that had no error in this stage
    validation: int = 0
    console: int = 0
    errors: int = 0
    warnings: int = 0
    erring: int = 0  # clients with their first error in the stage

    @property
    def failing(self) -> int:
        return self.validation + self.console + self.errors + self.warnings


class Traffic:
    """Clients of a rollout as numbers, minute by minute.

    Clients of the same number are alike, so drawing how many of them return is the same as drawing who.
    """

    def __init__(
        self, rng: np.random.Generator, sessions_per_hour: float, health: Health, share: float
    ) -> None:
        self.rng = rng
        self.per_minute = sessions_per_hour / 60
        self.health = health
        self.share = 0.0
        self.ours, self.others = Group(), Group()
        self.others.unknown = rng.poisson((1 - RETURNING) * self.per_minute * KNOWN)
        self.others.live = min(rng.poisson(self.per_minute * SESSION_MINUTES), self.others.unknown)
        self.enter(share)

    def enter(self, share: float) -> None:
        """Begin a stage: some clients get the feature, nobody has been seen, and who is there reports next minute."""
        ours, others = self.ours, self.others
        got = (share - self.share) / (1 - self.share)
        ours.migrated += ours.seen + ours.erred
        others.unknown += others.seen + others.erred
        ours.seen = ours.erred = others.seen = others.erred = 0
        clients, live = self._draw(others.unknown, got), self._draw(others.live, got)
        clients = max(clients, live)
        ours.unknown += clients
        others.unknown -= clients
        self.staying = ours.live, live, others.live - live
        ours.live += live
        others.live -= live
        self.share = share

    def minute(self, number: int, fault: Fault) -> tuple[Evidence, int]:
        """Simulate a minute: its evidence, and how many clients met the fault."""
        broken = number >= fault.at
        health = self.health
        ours, others = self._begin()
        mine, theirs = self._report(self.ours, ours), self._report(self.others, others)
        if broken and fault.errors:
            mine = self._break(mine, self._draw(mine.begun, fault.errors))
        rate = max(fault.migrations, health.migration_failure) if broken else health.migration_failure
        failed = self._draw(mine.migrating, rate)
        switched = self._draw(mine.begun, health.kill_switch)
        evidence = self._evidence(mine, theirs, failed, switched)
        self._opt_out(min(switched, self.ours.seen, self.ours.live))
        met = mine.migrating if fault.migrations else mine.unhurt
        return evidence, met if broken else 0

    def _begin(self) -> tuple[Minute, Minute]:
        """Begin sessions of new and of returning clients; at a stage's start those under way count as well."""
        rng, ours, others = self.rng, self.ours, self.others
        begun = rng.poisson(self.per_minute)
        returning = self._draw(begun, RETURNING)
        fresh = self._draw(begun - returning, self.share)
        fresh_others = begun - returning - fresh
        known = np.array(ours.known + others.known)
        back = (
            np.minimum(rng.multinomial(returning, known / known.sum()), known).tolist()
            if returning
            else [0] * 8
        )
        stayed, joined, stayed_others = self.staying
        self.staying = 0, 0, 0
        migrated = min(back[1] + stayed, ours.migrated)
        unknown = min(back[0] + joined, ours.unknown)
        away = min(back[4] + stayed_others, others.unknown)
        ours.migrated -= migrated
        ours.unknown -= unknown
        others.unknown -= away
        ours.seen += fresh + unknown + migrated
        others.seen += fresh_others + away
        ends = 1 / SESSION_MINUTES
        mine = fresh + sum(back[:4])
        theirs = fresh_others + sum(back[4:])
        ours.live = ours.live - self._draw(ours.live - stayed - joined, ends) + mine
        others.live = others.live - self._draw(others.live - stayed_others, ends) + theirs
        return (
            Minute(
                new=fresh + unknown + migrated,
                migrating=fresh + unknown,
                begun=mine + stayed + joined,
                unhurt=mine + stayed + joined - back[3],
            ),
            Minute(new=fresh_others + away, migrating=0, begun=theirs + stayed_others),
        )

    def _report(self, group: Group, minute: Minute) -> Minute:
        """Add the failures that a group has anyway, at any minute of a session."""
        rates = self.health.errors
        failures = self._draw(group.live, sum(rates) / SESSION_MINUTES)
        if not failures:
            return minute
        shares = np.array(rates) / sum(rates)
        validation, console, errors, warnings = self.rng.multinomial(failures, shares).tolist()
        minute = replace(minute, validation=validation, console=console, errors=errors, warnings=warnings)
        return replace(minute, erring=self._erring(group, validation + console + errors))

    def _break(self, minute: Minute, errors: int) -> Minute:
        erring = minute.erring + self._erring(self.ours, errors)
        return replace(minute, errors=minute.errors + errors, erring=erring)

    def _erring(self, group: Group, errors: int) -> int:
        """Return how many of the clients with errors have their first one in the stage."""
        there = group.seen + group.erred
        first = min(self._draw(errors, group.seen / there), group.seen) if errors and there else 0
        group.seen -= first
        group.erred += first
        return first

    def _opt_out(self, clients: int) -> None:
        self.ours.seen -= clients
        self.ours.live -= clients
        self.others.seen += clients
        self.others.live += clients

    def _evidence(self, mine: Minute, theirs: Minute, failed: int, switched: int) -> Evidence:
        feature = _side(self.ours.live, mine, failed)
        return Evidence(
            events=self.ours.live + self.others.live + mine.migrating + mine.failing + theirs.failing,
            clients=self.ours.live + self.others.live,
            feature=feature,
            baseline=_side(self.others.live, theirs, 0),
            errors={ErrorClass.DEFAULT.value: feature.errors} if feature.errors else {},
            new=Counts(
                succeeded=mine.migrating - failed,
                failed=failed,
                kill_switch=switched,
                treatment=mine.new,
                control=theirs.new,
                treatment_errors=mine.erring,
                control_errors=theirs.erring,
                assigned=mine.new,
                unassigned=theirs.new,
                sessions=mine.begun,
                error_sessions=mine.failing + failed,
            ),
        )

    def _draw(self, many: int, share: float) -> int:
        return int(self.rng.binomial(many, min(share, 1.0))) if many > 0 and share > 0 else 0


def _side(active: int, minute: Minute, failed: int) -> Side:
    """Return a side of the evidence, each failure of another client."""
    policy = Policy()
    points = (
        policy.points_migration * failed
        + policy.points_validation * minute.validation
        + policy.points_default * (minute.console + minute.errors)
        + policy.points_warning * minute.warnings
    )
    return Side(
        active=active,
        score=points,
        points=points,
        errors=minute.failing + failed,
        failing=minute.failing + failed,
        console_warnings=minute.warnings,
        console_errors=minute.console,
    )
