"""Simulated browsers and their telemetry, minute by minute: no I/O, and the same for the same seed.

Each browser has an id and so a bucket, like a real one. A higher percentage adds browsers to those with the feature;
without a change of the percentage, none gets or loses it. Each browser has a user whose ticket signs its telemetry,
unless the scenario says otherwise.

A minute with a million sessions an hour must take less than a second: ids of events are counted up, and what a
scenario does not use draws no random number.
"""

import random
from collections import defaultdict
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
    user: UUID
    network: str = ""  # of a client without a ticket
    names_flag: bool = True
    names_variant: bool = True
    migrated: bool = False  # or has nothing to migrate
    opted_out: bool = False
    has: bool | None = None  # with the feature; None: to be evaluated


@dataclass(slots=True)
class Session:
    client: Client
    id: UUID
    minutes: int  # left
    has: bool  # with the feature
    luck: float = 1.0  # under the rate of crashes it sends nothing
    ready: bool = True  # it knows its variant
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
        self._flooding: defaultdict[tuple[int, int], list[Session]] = defaultdict(list)
        self._config: Config | None = None
        self._random = random.Random(seed)  # noqa: S311 - it must be repeatable, not secret
        # Not seeded: two rehearsals with one seed may run at once.
        self._event_id, self._events = uuid4().hex[:16], 0

    def minute(self, conditions: Conditions, config: Config) -> list[Arrival]:
        """Simulate a minute, and return its telemetry. ``config`` is the configuration that browsers have."""
        config = replace(config, feature=HASHED)
        if config != self._config:
            self._config = config
            for client in self.clients:
                client.has = None
            for session in self._sessions:
                session.has = _has(session.client, config)
        self._begin(conditions.traffic, config)
        events: list[Arrival] = []
        for session in self._sessions:
            rates = conditions.treatment if session.has else conditions.control
            if session.luck >= rates.crash:
                self._report(events, session, rates, conditions.traffic)
            session.minutes -= 1
            session.new = False
            session.ready = True
        self._bots(events, conditions.traffic)
        self._flood(events, conditions.flood)
        self._sessions = [session for session in self._sessions if session.minutes > 0]
        return events

    def _begin(self, traffic: Traffic, config: Config) -> None:
        going_on = 1 - 1 / traffic.session_minutes
        for _ in range(self._how_many(traffic.sessions_per_minute * traffic.times)):
            if self.clients and self._random.random() < traffic.returning:
                client = self._random.choice(self.clients)
            else:
                client = self._client(traffic)
                self.clients.append(client)
            # 1 + geometric: memoryless in whole minutes, with the mean of the scenario.
            minutes = 1
            while going_on and self._random.random() < going_on:
                minutes += 1
            session = Session(client, self._id(), minutes, _has(client, config), self._random.random())
            session.ready = not self._chance(traffic.unready)
            self._sessions.append(session)
            self.began += 1

    def _client(self, traffic: Traffic) -> Client:
        client_id = self._id()
        shares = traffic.browsers_per_user > 1 and self.clients
        again = shares and not self._chance(1 / traffic.browsers_per_user)
        names_flag = not self._chance(traffic.no_flag)
        return Client(
            client_id,
            user=self._random.choice(self.clients).user if again else client_id,
            network=_network(self._random.randrange(traffic.networks))
            if self._chance(traffic.unsigned)
            else "",
            names_flag=names_flag,
            names_variant=names_flag and not self._chance(traffic.no_variant),
            migrated=not self._chance(traffic.migrating),
        )

    def _report(self, events: list[Arrival], session: Session, rates: Rates, traffic: Traffic) -> None:
        """Add the telemetry of a session's minute."""
        events.append(self._event(session, Event.HEARTBEAT))
        if session.has and session.ready and not session.client.migrated:
            session.client.migrated = True
            failed = self._chance(rates.migration_failure)
            events.append(
                self._event(session, Event.MIGRATION_FAILED if failed else Event.MIGRATION_SUCCEEDED)
            )
        if session.new:
            self._troubles(events, session, rates)
            if self._chance(traffic.dropping):
                events.append(self._event(session, Event.TELEMETRY_DROPPED, lost=1))
            if self._chance(traffic.creating):
                failed = self._chance(rates.create_failure)
                name = Event.FUND_CREATE_FAILURE if failed else Event.FUND_CREATE_SUCCESS
                events.append(self._event(session, name, server=True))

    def _troubles(self, events: list[Arrival], session: Session, rates: Rates) -> None:
        events += [
            self._event(session, name) for name in SESSION_EVENTS if self._chance(getattr(rates, name))
        ]
        if self._chance(rates.kill_switch):
            events.append(self._event(session, Event.KILL_SWITCH_USED))
            session.client.opted_out, session.client.has = True, None
            for other in self._sessions:  # the tabs of a browser share the switch
                other.has = other.has and other.client is not session.client

    def _bots(self, events: list[Arrival], traffic: Traffic) -> None:
        for _ in range(self._how_many(traffic.bots_per_minute)):
            bot = Session(self._guest(Flood()), self._id(), 1, has=False)
            events.append(self._event(bot, Event.FUND_CREATE_ATTEMPT))

    def _flood(self, events: list[Arrival], flood: Flood) -> None:
        flooding = self._flooding[flood.users, flood.networks]
        while len(flooding) < flood.clients:
            flooding.append(Session(self._guest(flood, len(flooding)), self._id(), 1, has=True))
        for session in flooding[: flood.clients]:
            session.has = flood.variant == "with"
            session.client.names_flag = flood.flag
            session.client.names_variant = flood.flag and flood.variant != "none"
            events.append(self._event(session, Event.HEARTBEAT))
            events += [
                self._event(session, flood.event, age=flood.age_seconds)
                for _ in range(flood.events_per_minute)
            ]

    def _guest(self, flood: Flood, number: int = 0) -> Client:
        """Return a client that is not one of the traffic's."""
        client_id = self._id()
        user = UUID(int=number % flood.users + 1) if flood.users else client_id
        return Client(client_id, user, _network(number % flood.networks) if flood.networks else "")

    def _event(
        self, session: Session, name: str, *, age: int = 0, lost: int = 0, server: bool = False
    ) -> Arrival:
        client = session.client
        self._events += 1
        return Arrival(
            id=f"{self._event_id}{self._events:016x}",
            client=client.user if server else client.id,
            session=client.user if server else session.id,
            event=name,
            category="",
            ok=not reports_failure(name),
            flag=self.feature if client.names_flag else None,
            variant=(self.variant if session.has else WITHOUT)
            if client.names_variant and session.ready
            else None,
            at=None,
            detail=None,
            lost=lost,
            age=age,
            signer=None if client.network else client.user,
            network=client.network,
            server=server,
        )

    def _chance(self, share: float) -> bool:
        """Return true with this probability; 0 and 1, which most scenarios use, draw no number."""
        return share > 0 and (share >= 1 or self._random.random() < share)

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
    if client.has is None:
        override = False if client.opted_out else None
        client.has = evaluate(config, str(client.id), stored_override=override).on
    return client.has


def _network(number: int) -> str:
    """Return one of 65,536 networks of a sender."""
    return f"10.{number >> 8}.{number & 255}.0/24"
