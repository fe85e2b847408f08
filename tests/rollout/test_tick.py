"""The judge on a real database: telemetry goes in by HTTP, checks come out."""

import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import msgspec
import pytest
from django.utils import timezone

from rollout import operations, store
from rollout.judge import Decision
from rollout.models import Check, Incident, Rollout
from rollout.tick import check, replay
from tests.servers import Server

Make = Callable[..., Rollout]


class Traffic:
    """Browsers that report about one rollout, and the clock of the judge."""

    def __init__(self, server: Server, rollout: Rollout) -> None:
        self.http = httpx.Client(base_url=server.url, timeout=30)
        self.feature = rollout.feature
        self.began = self.now = timezone.now()

    def send(
        self, *events: str, clients: int = 1, variant: str | None = "fund-store", client: str = ""
    ) -> None:
        """Let so many new browsers (or the one named) send a heartbeat and these events."""
        for _ in range(clients):
            body = {
                "clientId": client or str(uuid.uuid4()),
                "sessionId": str(uuid.uuid4()),
                "events": [
                    {"id": str(uuid.uuid4()), "event": name, "flag": self.feature, "variant": variant}
                    for name in ("heartbeat", *events)
                ],
            }
            answer = self.http.post("/api/telemetry", json=body)
            assert answer.status_code == 202, answer.text
            assert answer.json() == {"accepted": len(events) + 1, "duplicates": 0, "rejected": []}

    def look(self, minutes: float = 1) -> Check | None:
        """Let time pass, and the judge look."""
        self.now += timedelta(minutes=minutes)
        return check(self.feature, upto=store.fence()[0], now=self.now)

    def check(self, minutes: float = 1) -> Check:
        """Look, where there is something to judge."""
        made = self.look(minutes)
        assert made is not None
        return made

    @property
    def rollout(self) -> Rollout:
        return Rollout.objects.get(feature=self.feature)


@pytest.fixture
def traffic(server: Server) -> Iterator[Callable[..., Traffic]]:
    def make(percentage: str = "10", **fields: Any) -> Traffic:
        rollout = Rollout.objects.create(feature=f"JUDGED_{uuid.uuid4().hex[:12].upper()}", **fields)
        operations.set_percentage(rollout.feature, Decimal(percentage), reason="a test")
        made.append(Traffic(server, rollout))
        return made[-1]

    made: list[Traffic] = []
    yield make
    for each in made:
        each.http.close()


def test_broken_traffic_is_rolled_back_by_the_third_check(traffic: Callable[..., Traffic]) -> None:
    canary = traffic()
    for expected in (10, 10, 0):
        canary.send("migration_failed", clients=5)
        made = canary.check()
        assert made.signal == "red"
        assert canary.rollout.percentage == expected
    rollout = canary.rollout
    assert (rollout.store_type, rollout.on_hold) == ("legacy", True)
    incident = Incident.objects.get(rollout=rollout)
    assert incident.percentage == 10
    assert incident.rolled_back
    assert incident.began_at == canary.began + timedelta(minutes=1)
    record = rollout.history.latest()
    assert record.history_change_reason.startswith("judge: red: 50 points in this check")
    assert canary.look() is None  # nothing left to judge


def test_healthy_traffic_climbs_by_itself(traffic: Callable[..., Traffic]) -> None:
    canary = traffic(timeline="accelerated")
    for _ in range(30):
        canary.send("migration_succeeded", clients=2)
        made = canary.check()
    assert made.action == "promote", made.decision
    assert canary.rollout.percentage == 50


def test_any_past_decision_can_be_replayed(traffic: Callable[..., Traffic]) -> None:
    canary = traffic()
    canary.send("console_warning", "migration_succeeded", clients=30)
    canary.send(clients=10, variant="legacy")
    canary.check()
    canary.check()  # silence
    for _ in range(2):
        canary.send("migration_failed", "error", clients=3)
        canary.check()
    checks = Check.objects.filter(rollout=canary.rollout).order_by("id")
    assert [made.signal for made in checks] == ["red", "hold", "red", "red"]
    for made in checks:
        assert replay(made) == msgspec.convert(made.decision, Decision, strict=False)
