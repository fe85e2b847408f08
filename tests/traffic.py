"""Browsers that report to a real intake, for tests of the judge."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
from django.utils import timezone

from rollout import operations, store
from rollout.models import Alert, Check, Incident, Rollout, Watch
from rollout.tick import check
from tests.servers import Server

Judged = Callable[..., "Traffic"]


class Traffic:
    """Browsers that report about one rollout, and the clock of the judge."""

    def __init__(self, server: Server, rollout: Rollout) -> None:
        self.server = server
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
            assert answer.status_code == 202, self.server.log[-5000:]
            assert answer.json() == {"accepted": len(events) + 1, "duplicates": 0, "rejected": []}

    def look(self, minutes: float = 1) -> Check | None:
        """Let time pass, then check."""
        self.now += timedelta(minutes=minutes)
        return check(self.feature, upto=store.fence()[0], now=self.now)

    def check(self, minutes: float = 1) -> Check:
        """Return the check, which must have been made."""
        made = self.look(minutes)
        assert made is not None
        return made

    def rewind(self) -> None:
        """Date the latest check a minute back by the real clock, because judges in other processes use that clock."""
        minute_ago = timezone.now() - timedelta(minutes=1)
        Watch.objects.filter(rollout__feature=self.feature).update(checked_at=minute_ago)

    @property
    def rollout(self) -> Rollout:
        return Rollout.objects.get(feature=self.feature)


@contextmanager
def judged_rollouts(server: Server) -> Iterator[Judged]:
    """Make rollouts of the test's own, each with its browsers.

    Those of earlier tests end here, with their incidents, which may lie in the future, and their alerts: a worker in
    another process looks at all that there are.
    """
    Incident.objects.all().delete()
    Rollout.objects.filter(percentage__gt=0).update(percentage=0)
    Alert.objects.filter(sent_at=None).delete()

    def make(percentage: str = "10", **fields: Any) -> Traffic:
        rollout = Rollout.objects.create(feature=f"JUDGED_{uuid.uuid4().hex[:12].upper()}", **fields)
        operations.set_percentage(rollout.feature, Decimal(percentage), reason="a test")
        made.append(Traffic(server, rollout))
        return made[-1]

    made: list[Traffic] = []
    try:
        yield make
    finally:
        for each in made:
            each.http.close()
