from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from rollout.extras import imported

with imported("judge"):
    from rollout import faults, operations
    from rollout.conf import conf
    from rollout.models import Check, Incident, Rollout
    from rollout.rehearsal.demo import Crowd, DemoError
    from rollout.rehearsal.scenario import Rates, Scenario, Traffic
    from rollout.tick import tick
    from rollout.units import percent

FEATURE = "DEMO_ROLLOUT"
REASON = "demo_rollout"
UNKNOWN = 2  # exit code, like that of the release commands
MINUTE = 60  # s; between two checks of the beat
# 150 sessions a minute: enough clients at 10 % for the judge, and a quarter of the default TELEMETRY_RATE.
HEALTHY = Scenario(description="Healthy.", traffic=Traffic(sessions_per_minute=150, session_minutes=2))
BROKEN = Scenario(
    description="A third of all migrations fails.",
    traffic=HEALTHY.traffic,
    treatment=Rates(migration_failure=0.33, error=0.1),
)
# Minutes: 2 at 10 %, 1 at 50 %, then broken until the judge has rolled back, which takes it three checks.
CLIMB, BREAK, MINUTES_MAX = 2, 3, 8


class Command(BaseCommand):
    help = (
        "Show a rollout from start to rollback: made-up browsers report to the running server by HTTP for about five "
        f"minutes. The rollout {FEATURE} climbs to 50 %, breaks, and the judge rolls it back. It stays, with its "
        "incident. Not in production. Exit codes: 0 rolled back; 2 refused, or it was not rolled back."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--url", default="http://127.0.0.1:8000", help="the server; http://127.0.0.1:8000 by default"
        )
        parser.add_argument(
            "--fast", action="store_true", help="in seconds: do not wait for the beat's checks, run them here"
        )

    def handle(self, *_args: Any, url: str, fast: bool, **_options: Any) -> None:
        require_playground()
        try:
            with faults.in_words(), Crowd(url.rstrip("/"), FEATURE, variant=min(conf.variants_with)) as crowd:
                self._play(crowd, fast=fast)
        except (DemoError, operations.OperationError) as error:
            raise CommandError(str(error), returncode=UNKNOWN) from None

    def _play(self, crowd: Crowd, *, fast: bool) -> None:
        crowd.rollouts()  # before anything changes: does the server answer?
        begin()
        known = Incident.objects.filter(rollout__feature=FEATURE).count()
        operations.set_percentage(FEATURE, Decimal(10), reason=f"{REASON}: first canary")
        self.stdout.write(f"Watch it at {crowd.url}/admin/rollout/rollout/ ({FEATURE}). Ctrl-C ends it.")
        for minute in range(MINUTES_MAX):
            if minute == CLIMB:
                operations.set_percentage(FEATURE, Decimal(50), reason=f"{REASON}: healthy at 10 %")
            scenario = HEALTHY if minute < BREAK else BROKEN
            crowd.minute(scenario.conditions(minute, 0), seconds=0 if fast else MINUTE)
            if fast:
                tick(only_due=False)
            self.stdout.write(f"+{minute + 1} min  {progress(crowd)}  {scenario.description}")
            self.stdout.flush()
            if Incident.objects.filter(rollout__feature=FEATURE).count() > known:
                incident = Incident.objects.filter(rollout__feature=FEATURE).latest("tripped_at")
                self.stdout.write(
                    f"The judge has rolled back. Its incident: {crowd.url}/admin/rollout/incident/{incident.pk}/change/"
                )
                return
        raise DemoError(
            "The judge has not rolled back: do Celery's beat and workers run? The rollout's page says what it saw."
        )


def require_playground() -> None:
    """Raise :class:`CommandError` where a demonstration would disturb, or could not be believed."""
    if conf.confirm:
        raise CommandError(
            f"demo_rollout makes up telemetry and trips the breaker, so '{conf.environment}' refuses it: run it beside "
            "`make run`, and rehearse with simulate_rollout.",
            returncode=UNKNOWN,
        )
    if conf.policy.unsigned_telemetry != "full":
        raise CommandError(
            "The judge does not roll back for browsers of one unsigned network: set ROLLOUT_UNSIGNED_TELEMETRY=full, "
            "as `make run` does.",
            returncode=UNKNOWN,
        )


def begin() -> None:
    """Make the demonstration's rollout, or put that of an earlier run back to 0 %."""
    fields: dict[str, Any] = {"timeline": "accelerated", "track_migrations": True, "auto_rollback": True}
    rollout = Rollout.objects.filter(feature=FEATURE).first()
    if rollout is None:
        fields["description"] = "Made by manage.py demo_rollout."
        operations.create(FEATURE, fields, reason=REASON)
        return
    operations.configure(FEATURE, {"enabled": True, **fields}, reason=REASON)
    operations.set_percentage(FEATURE, Decimal(0), reason=REASON)
    if rollout.emergency_stop:
        operations.release(FEATURE, reason=REASON)
    operations.resume(FEATURE, reason=REASON)


def progress(crowd: Crowd) -> str:
    """Return the percentage, the browsers and the latest check in one line."""
    rollout = Rollout.objects.get(feature=FEATURE)
    latest = Check.objects.filter(rollout=rollout, at__gte=rollout.stage_started_at).order_by("-id").first()
    signal = f"{latest.signal}, score {latest.score}" if latest else "no check yet"
    return f"{percent(rollout.percentage)}  {crowd.clients} browsers  {signal}."
