import json as jsonlib
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from rollout.conf import conf
from rollout.models import Check
from rollout.tick import tick
from rollout.units import percent


class Command(BaseCommand):
    help = "Check every rollout once, as Celery beat does every minute."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--at", metavar="ISO-TIME", help="check as of this time; not in production")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *_args: Any, at: str | None, json: bool, **_options: Any) -> None:
        if at and conf.confirm:
            raise CommandError(
                f"--at is for rehearsals: in '{conf.environment}' the judge uses the real time."
            )
        checks = tick(at=read_time(at) if at else None, only_due=False)
        if json:
            self.stdout.write(jsonlib.dumps([as_dict(check) for check in checks], indent=2))
            return
        for check in checks:
            self.stdout.write(
                f"{check.rollout.feature} at {percent(check.percentage)}: {check.decision['reason']}"
            )
            self.stdout.write(f"  {check.decision['next']}")
        if not checks:
            self.stdout.write(
                "Nothing to check: no rollout is under way, or no telemetry has arrived since the last check."
            )


def read_time(text: str) -> datetime:
    """Return an ISO 8601 time; without an offset it is UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"'{text}' is not a time: write it as 2026-08-11T14:30:00Z.") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def as_dict(check: Check) -> dict[str, Any]:
    return {
        "feature": check.rollout.feature,
        "at": check.at.isoformat(),
        "percentage": float(check.percentage),
        "signal": check.signal,
        "absolute": check.decision["absolute"],
        "statistical": check.decision["statistical"],
        "score": check.score,
        "action": check.action,
        "reason": check.decision["reason"],
        "next": check.decision["next"],
        "due_at": check.decision["due_at"],
    }
