"""Simulated browsers and their telemetry, minute by minute: no I/O, and the same for the same seed.

Each browser has an id and so a bucket, like a real one. A higher percentage adds browsers to those with the feature;
without a change of the percentage, none gets or loses it.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

from rollout.evaluation import Config, evaluate
from rollout.judge.events import Event, reports_failure
from rollout.rehearsal.scenario import Conditions, Flood, Rates, Traffic
from rollout.store import Arrival

WITHOUT = "legacy"  # the variant of clients that do not have the feature
# Hashed with a client's id in place of the feature's name, which differs in each rehearsal.
HASHED = "SIMULATION"
# Each has a rate of its name in :class:`~rollout.rehearsal.scenario.Rates`.
SESSION_EVENTS = (Event.VALIDATION_ERROR, Event.ERROR, Event.CONSOLE_ERROR, Event.CONSOLE_WARNING)


@dataclass(slots=True)
class Client:
    """A browser. It migrates once, when it gets the feature for the first time."""

    id: UUID
    migrated: bool = False
    opted_out: bool = False


@dataclass(slots=True)
class Session:
    client: Client
    id: UUID
    minutes: int  # left
    has: bool  # with the feature
    new: bool = True


class Browsers:
    """All clients, and their sessions under way.

    Args:
        feature: the flag of their events.
        variant: the variant of clients with the feature.
        seed: the same seed and the same conditions give the same events, but for the ids of events.
    """

    def __init__(self, feature: str, *, variant: str, seed: int) -> None:
        self.feature = feature
        self.variant = variant
        self.clients: list[Client] = []
        self.began = 0  # sessions, ever
        self._sessions: list[Session] = []
        self._flooding: list[Session] = []
        self._config: Config | None = None
        self._random = random.Random(seed)  # noqa: S311 - it must be repeatable, not secret

    def minute(self, conditions: Conditions, config: Config) -> list[Arrival]:
        """Simulate a minute, and return its telemetry. ``config`` is the configuration that browsers have."""
        config = replace(config, feature=HASHED)
        if config != self._config:
            self._config = config
            for session in self._sessions:
                session.has = _has(session.client, config)
        self._begin(conditions.traffic, config)
        events = [event for session in self._sessions for event in self._report(session, conditions)]
        events += self._bots(conditions.traffic)
        events += self._flood(conditions.flood)
        for session in self._sessions:
            session.minutes -= 1
            session.new = False
        self._sessions = [session for session in self._sessions if session.minutes > 0]
        return events

    def _begin(self, traffic: Traffic, config: Config) -> None:
        for _ in range(self._how_many(traffic.sessions_per_minute * traffic.times)):
            if self.clients and self._random.random() < traffic.returning:
                client = self._random.choice(self.clients)
            else:
                client = Client(self._id())
                self.clients.append(client)
            # 1 + geometric: memoryless in whole minutes, with the mean of the scenario.
            minutes = 1
            while self._random.random() >= 1 / traffic.session_minutes:
                minutes += 1
            self._sessions.append(Session(client, self._id(), minutes, _has(client, config)))
            self.began += 1

    def _report(self, session: Session, conditions: Conditions) -> Iterator[Arrival]:
        rates = conditions.treatment if session.has else conditions.control
        yield self._event(session, Event.HEARTBEAT)
        if session.has and not session.client.migrated:
            session.client.migrated = True
            failed = self._random.random() < rates.migration_failure
            yield self._event(session, Event.MIGRATION_FAILED if failed else Event.MIGRATION_SUCCEEDED)
        if session.new:
            yield from self._troubles(session, rates)

    def _troubles(self, session: Session, rates: Rates) -> Iterator[Arrival]:
        for name in SESSION_EVENTS:
            if self._random.random() < getattr(rates, name):
                yield self._event(session, name)
        if self._random.random() < rates.kill_switch:
            yield self._event(session, Event.KILL_SWITCH_USED)
            session.client.opted_out = True
            for other in self._sessions:  # the tabs of a browser share the switch
                other.has = other.has and other.client is not session.client

    def _bots(self, traffic: Traffic) -> Iterator[Arrival]:
        for _ in range(self._how_many(traffic.bots_per_minute)):
            yield self._event(
                Session(Client(self._id()), self._id(), 1, has=False), Event.FUND_CREATE_ATTEMPT
            )

    def _flood(self, flood: Flood) -> Iterator[Arrival]:
        while len(self._flooding) < flood.clients:
            self._flooding.append(Session(Client(self._id()), self._id(), 1, has=True))
        for session in self._flooding[: flood.clients]:
            yield self._event(session, Event.HEARTBEAT)
            for _ in range(flood.events_per_minute):
                yield self._event(session, flood.event)

    def _event(self, session: Session, name: str) -> Arrival:
        return Arrival(
            id=uuid4(),  # not seeded: two rehearsals with one seed may run at once
            client=session.client.id,
            session=session.id,
            event=name,
            category="",
            ok=not reports_failure(name),
            flag=self.feature,
            variant=self.variant if session.has else WITHOUT,
            at=None,
            detail=None,
        )

    def _how_many(self, mean: float) -> int:
        """Return a number of independent arrivals (Poisson): gaps between them are exponential."""
        many, passed = 0, self._random.expovariate(mean) if mean else 1.0
        while passed < 1:
            many += 1
            passed += self._random.expovariate(mean)
        return many

    def _id(self) -> UUID:
        return UUID(int=self._random.getrandbits(128), version=4)


def _has(client: Client, config: Config) -> bool:
    return evaluate(config, str(client.id), stored_override=False if client.opted_out else None).on
