"""A rollout to look at: made-up browsers report to a running server, over HTTP alone, and its judge decides.

The rollout climbs as an operator would move it, breaks at 50 %, and is rolled back by the judge, with its incident.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from typing import Any

import httpx

from rollout import operations, store, tick
from rollout.conf import conf
from rollout.configuration import Configuration
from rollout.evaluation import Config
from rollout.judge.scoring import Signal
from rollout.judge.state import Action
from rollout.models import Check, Incident, Rollout, Timeline
from rollout.rehearsal.scenario import Conditions, Flood, Rates, Traffic
from rollout.rehearsal.traffic import Browsers
from rollout.store import Arrival
from rollout.units import percent

FEATURE = "DEMO_ROLLOUT"
DESCRIPTION = "Made-up browsers, by demo_rollout"
STEPS = Decimal(10), Decimal(50)
MINUTE = 60  # s
MINUTES_MAX = 15  # of a demo; a quiet machine needs six
STALE_MAX = 15  # s until a change has reached the server's cache
SILENCE_MAX = 3  # minutes without a check
# Both stay under 1,200 requests a minute, the default TELEMETRY_RATE.
TRAFFIC = Traffic(sessions_per_minute=250)  # 750 browsers in each minute
FAST_TRAFFIC = Traffic(sessions_per_minute=170, session_minutes=1)  # 1,000 in all
HEALTHY = Rates()
BROKEN = Rates(migration_failure=0.3, error=0.2, kill_switch=0.02)


class DemoError(Exception):
    """The demo cannot be played. The message says why and what to do."""


def begin(feature: str) -> Rollout:
    """Make the demo's rollout, or take it up again, at its first step. Raises :class:`DemoError`."""
    if conf.confirm:
        raise DemoError(
            f"'{conf.environment}' is no place for made-up browsers: run the demo beside `make run`, and rehearse with "
            "simulate_rollout."
        )
    if conf.policy.unsigned_telemetry != "full":
        raise DemoError(
            "All made-up browsers are one network, which the judge counts as one: set ROLLOUT_UNSIGNED_TELEMETRY=full, "
            "for the web server, the worker and this command."
        )
    rollout = Rollout.objects.filter(feature=feature).first()
    fields = {"timeline": Timeline.MANUAL.value, "auto_rollback": True, "track_migrations": True}
    if rollout is None:
        operations.create(feature, {"description": DESCRIPTION, **fields}, reason="Demo: made")
    elif rollout.description != DESCRIPTION:
        raise DemoError(f"{feature} is no demo: name a rollout that does not exist, or an earlier demo.")
    else:
        if rollout.emergency_stop:
            operations.release(feature, reason="Demo: begun again")
        operations.set_percentage(feature, Decimal(0), reason="Demo: begun again")
        operations.configure(feature, {"enabled": True, **fields}, reason="Demo: begun again")
    operations.resume(feature, reason="Demo: begun")
    return operations.set_percentage(feature, STEPS[0], reason="Demo: first canary")


@contextmanager
def begun(feature: str) -> Iterator[Rollout]:
    """Begin, and take the feature from everybody if the demo ends early, for whatever reason."""
    rollout = begin(feature)
    try:
        yield rollout
    except BaseException:
        operations.roll_back(feature, reason="Demo: ended early")
        raise


class Demo:
    """The made-up browsers of a rollout, and the checks of what they report.

    With ``fast``, each minute is sent at once, and checked here; else the judge of the server checks.
    """

    def __init__(self, feature: str, http: httpx.Client, *, fast: bool, seed: int) -> None:
        self.feature = feature
        self.http = http
        self.fast = fast
        self.browsers = Browsers(feature, variant=min(conf.variants_with), seed=seed)
        self.traffic = FAST_TRAFFIC if fast else TRAFFIC
        self.treatment = HEALTHY
        self.checked = 0  # id of the latest check
        self.checked_at = time.monotonic()

    def play(self) -> Iterator[str]:
        """Yield a line for each event, until the judge has rolled back. Raises :class:`DemoError`."""
        latest = Check.objects.filter(rollout__feature=self.feature).order_by("-pk").first()
        self.checked = latest.pk if latest else 0
        self._require_first_step()
        for _ in range(MINUTES_MAX):
            for _ in self._minute():
                for check in self._new_checks():
                    yield from self._follow(check)
                    if check.action == Action.ROLL_BACK:
                        return
        raise DemoError(
            f"The judge did not roll back within {MINUTES_MAX} minutes: see *Checks* in the admin."
        )

    def _minute(self) -> Iterator[None]:
        """Send the telemetry of a minute, spread over it; pause every few seconds for the checks."""
        began = time.monotonic()
        conditions = Conditions(
            traffic=self.traffic, treatment=self.treatment, control=HEALTHY, flood=Flood()
        )
        config = self._rollouts().get(self.feature)
        if config is None:
            raise DemoError(f"{self.http.base_url} has no {self.feature} any more.")
        events = sorted(self.browsers.minute(conditions, config), key=attrgetter("session"))
        batches = [list(batch) for _, batch in groupby(events, key=attrgetter("session"))]
        for number, batch in enumerate(batches, 1):
            self._send(batch)
            if not self.fast and number % 25 == 0:
                time.sleep(max(0.0, began + MINUTE * number / len(batches) - time.monotonic()))
                yield
        if self.fast:
            upto, now = store.fence()
            tick.check(self.feature, upto=upto, now=now, only_due=False)
        yield

    def require_server(self) -> None:
        """Ask the server, before anything is made. Raises :class:`DemoError`."""
        self._rollouts()

    def _require_first_step(self) -> None:
        """Wait until the server has the first step. Raises :class:`DemoError`: it is another database's."""
        for _ in range(STALE_MAX):
            config = self._rollouts().get(self.feature)
            if config is not None and config.percentage == STEPS[0]:
                return
            time.sleep(1)
        raise DemoError(
            f"{self.http.base_url} has another database than this command: set DATABASE_URL or FUNDAPI_HOME as it has."
        )

    def _rollouts(self) -> Mapping[str, Config]:
        answer = self._ask("GET", "/api/rollouts")
        try:
            return Configuration(answer.content).by_feature
        except (ValueError, LookupError, TypeError, AttributeError):
            raise DemoError(
                f"{self.http.base_url} is another program's: name fundapi's with --url."
            ) from None

    def _send(self, batch: list[Arrival]) -> None:
        first = batch[0]
        document = {
            "clientId": str(first.client),
            "sessionId": str(first.session),
            "events": [
                {
                    "id": each.id,
                    "event": each.event,
                    "flag": each.flag,
                    "variant": each.variant,
                    "ok": each.ok,
                }
                for each in batch
            ],
        }
        self._ask("POST", "/api/telemetry", json=document)

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = self.http.request(method, path, **options)
            # After an earlier demo. It ends within a minute.
            if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
                time.sleep(min(MINUTE, float(answer.headers.get("Retry-After", MINUTE))))
                answer = self.http.request(method, path, **options)
        except httpx.UnsupportedProtocol:  # the address is none
            raise
        except httpx.TransportError:
            raise DemoError(
                f"{self.http.base_url} does not answer: start it with `make run`, or name another with --url."
            ) from None
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise DemoError(
                "The server takes too little telemetry: let TELEMETRY_RATE be 1200/minute or more."
            )
        if not answer.is_success:
            raise DemoError(
                f"{method} {path} was answered with {answer.status_code}: name fundapi's address with --url."
            )
        return answer

    def _new_checks(self) -> list[Check]:
        found = Check.objects.filter(rollout__feature=self.feature, pk__gt=self.checked, settled=True)
        checks = list(found.order_by("pk"))
        if checks:
            self.checked, self.checked_at = checks[-1].pk, time.monotonic()
        elif time.monotonic() - self.checked_at > SILENCE_MAX * MINUTE:
            raise DemoError(
                f"No check was made in {SILENCE_MAX} minutes: start Celery beat and the worker of the queue `checks`, "
                "as `make run` does, or add --fast."
            )
        return checks

    def _follow(self, check: Check) -> Iterator[str]:
        """Do what an operator would do after a check: promote while it is green; then let the release break."""
        yield f"{percent(check.percentage)}, {check.decision['reason']}"
        if check.action == Action.ROLL_BACK:
            incident = Incident.objects.get(check_made=check)
            page = f"{self.http.base_url}/admin/rollout/incident/{incident.pk}/change/"
            yield f"The judge rolled {self.feature} back to 0 %. Its incident: {page}"
        elif check.signal == Signal.GREEN and self.treatment is HEALTHY:
            if check.percentage < STEPS[-1]:
                operations.promote(self.feature, reason="Demo: green, so more browsers")
                yield f"Promoted to {percent(STEPS[-1])}, by hand."
            else:
                self.treatment = BROKEN
                yield "A broken release: migrations fail and pages throw errors for those that have the feature."
