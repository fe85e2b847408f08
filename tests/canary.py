"""A rollout with browsers that report about it, for tests of the judge."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
from django.utils import timezone

from rollout import operations, store
from rollout.conf import conf
from rollout.models import Alert, Check, Incident, Rollout, Watch
from rollout.tick import check
from tests.servers import Server

Judged = Callable[..., "Canary"]
LIST = "/admin/rollout/rollout/"


class Canary:
    """A rollout at 10 %, the browsers that report about it, and the clock of its judge.

    With a server, browsers report over HTTP; without one, straight into the store. The judge's clock begins
    ``minutes`` ago, and moves by a minute a check.
    """

    def __init__(
        self, server: Server | None = None, *, percentage: str = "10", minutes: int = 0, **fields: Any
    ) -> None:
        self.server = server
        self.http = httpx.Client(base_url=server.url if server else "", timeout=30)
        self.began = self.now = timezone.now() - timedelta(minutes=minutes)
        self.feature = f"FEATURE_{uuid.uuid4().hex[:12].upper()}"
        self.pk = Rollout.objects.create(feature=self.feature, **fields).pk
        operations.set_percentage(self.feature, Decimal(percentage), reason="first canary", at=self.now)

    def send(
        self,
        *events: str,
        clients: int = 1,
        variant: str | None = "fund-store",
        client: str = "",
        detail: str | None = None,
        lost: int = 0,
        age: int = 0,
    ) -> uuid.UUID:
        """Let so many new browsers (or the one named) send a heartbeat and these events; return the last one's id."""
        for _ in range(clients):
            who = uuid.UUID(client) if client else uuid.uuid4()
            batch = [
                {"id": str(uuid.uuid4()), "event": name, "flag": self.feature, "variant": variant}
                for name in ("heartbeat", *events)
            ]
            if self.server:
                now = timezone.now()
                at = (now - timedelta(seconds=age)).isoformat()
                self._post(who, [{**event, "detail": detail, "at": at} for event in batch], now.isoformat())
            else:
                self._store(who, batch, detail=detail, lost=lost, age=age)
        return who

    def _post(self, who: uuid.UUID, batch: list[dict[str, Any]], sent_at: str) -> None:
        body = {"clientId": str(who), "sessionId": str(uuid.uuid4()), "sentAt": sent_at, "events": batch}
        answer = self.http.post("/api/telemetry", json=body)
        assert answer.status_code == 202, self.server.log[-5000:] if self.server else ""
        assert answer.json() == {"accepted": len(batch), "duplicates": 0, "rejected": []}

    @staticmethod
    def _store(
        who: uuid.UUID, batch: list[dict[str, Any]], *, detail: str | None, lost: int, age: int
    ) -> None:
        session = uuid.uuid4()
        store.arrive(
            [
                store.Arrival(
                    client=who,
                    session=session,
                    category="",
                    ok=not event["event"].endswith(("failed", "error", "warning")),
                    at=None,
                    detail=detail,
                    age=age,
                    lost=lost if event["event"] == "telemetry_dropped" else 0,
                    **event,
                )
                for event in batch
            ]
        )

    def check_if_due(self, minutes: float = 1) -> Check | None:
        """Let time pass, then check. Return the check, if one was due."""
        self.now += timedelta(minutes=minutes)
        return check(self.feature, upto=store.fence()[0], now=self.now)

    def check(self, minutes: float = 1) -> Check:
        """Return the check, which must have been made."""
        made = self.check_if_due(minutes)
        assert made is not None
        return made

    def check_now(self) -> Check:
        """Check by the real clock, however early, as for a person who asks."""
        upto, now = store.fence()
        made = check(self.feature, upto=upto, now=now, only_due=False)
        assert made is not None
        return made

    def fail(self, checks: int = 3) -> Check:
        """Let everything fail for so many checks; three roll it back."""
        for _ in range(checks):
            self.send("migration_failed", clients=5)
            made = self.check()
        return made

    def rewind(self) -> None:
        """Date the latest check a minute back by the real clock, because judges in other processes use that clock."""
        minute_ago = timezone.now() - timedelta(minutes=1)
        Watch.objects.filter(rollout__feature=self.feature).update(checked_at=minute_ago)

    @property
    def rollout(self) -> Rollout:
        return Rollout.objects.get(pk=self.pk)

    @property
    def screen(self) -> str:
        return f"{LIST}{self.pk}/change/"

    @property
    def live(self) -> str:
        return f"{LIST}{self.pk}/live/"

    @property
    def alerts(self) -> list[Alert]:
        """The alerts to channels that are set up here; there is a row for each of the others too."""
        return list(Alert.objects.filter(rollout=self.pk, channel__in=conf.alert_channels).order_by("id"))

    @property
    def alert(self) -> Alert:
        (alert,) = self.alerts
        return alert


@contextmanager
def judged_rollouts(server: Server | None = None) -> Iterator[Judged]:
    """Make rollouts of the test's own, each with its browsers.

    Those of earlier tests end here, with their incidents, which may lie in the future, and their alerts: a worker in
    another process looks at all that there are.
    """
    Incident.objects.all().delete()
    Rollout.objects.filter(percentage__gt=0).update(percentage=0)
    Alert.objects.filter(sent_at=None).delete()

    def make(percentage: str = "10", **fields: Any) -> Canary:
        made.append(Canary(server, percentage=percentage, **fields))
        return made[-1]

    made: list[Canary] = []
    try:
        yield make
    finally:
        for each in made:
            each.http.close()
