import json
import os
import sys
from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Column, Table

from rollout import operations
from rollout.models import Rollout, Stage
from rollout.options import WIDTH
from rollout.units import percent, read_percent

OPERATIONS = {
    "set": operations.set_percentage,
    "promote": operations.promote,
    "hold": operations.hold,
    "resume": operations.resume,
    "rollback": operations.roll_back,
    "stop": operations.stop,
    "release": operations.release,
    "complete": operations.complete,
}


class Command(BaseCommand):
    help = "Show rollouts and move them, with the operations of the admin's buttons."

    def add_arguments(self, parser: CommandParser) -> None:
        subparsers = parser.add_subparsers(dest="action", required=True)
        status = subparsers.add_parser("status", help="show one rollout, or all")
        status.add_argument("feature", nargs="?")
        for name, operation in OPERATIONS.items():
            subparser = subparsers.add_parser(
                name, help=(operation.__doc__ or "").split(".")[0].split(":")[0]
            )
            subparser.add_argument("feature")
            if name == "set":
                subparser.add_argument("percent", help="0-100")
            subparser.add_argument("--reason", default="", help="why; the history keeps it")
        for subparser in subparsers.choices.values():
            subparser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *_args: Any, action: str, feature: str | None, json: bool, **options: Any) -> None:
        try:
            if action == "status":
                changed = list(Rollout.objects.filter(feature=feature) if feature else Rollout.objects.all())
                if feature and not changed:
                    raise operations.NoSuchRollout(feature)
            else:
                arguments = [_percentage(options["percent"])] if action == "set" else []
                reason = (
                    options["reason"] and f"{options['reason']} (shell, {os.environ.get('USER', 'unknown')})"
                )
                changed = [OPERATIONS[action](feature, *arguments, reason=reason)]  # type: ignore[operator]
        except operations.OperationError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(as_json(changed, single=feature is not None) if json else as_table(changed))


def _percentage(text: str) -> Decimal:
    try:
        return read_percent(text)
    except ValueError as error:
        raise CommandError(str(error)) from None


def as_dict(rollout: Rollout) -> dict[str, Any]:
    return {
        "feature": rollout.feature,
        "store_type": rollout.store_type,
        "enabled": rollout.enabled,
        "percentage": float(rollout.percentage),
        "stage": rollout.stage,
        "stage_started_at": rollout.stage_started_at.isoformat(),
        "timeline": rollout.timeline,
        "on_hold": rollout.on_hold,
        "emergency_stop": rollout.emergency_stop,
        "auto_rollback": rollout.auto_rollback,
        "track_migrations": rollout.track_migrations,
        "hash_version": rollout.hash_version,
        "version": rollout.version,
    }


def as_json(rollouts: list[Rollout], *, single: bool) -> str:
    shown = [as_dict(rollout) for rollout in rollouts]
    return json.dumps(shown[0] if single else shown, indent=2)


def as_table(rollouts: list[Rollout]) -> str:
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    widest = max((len(rollout.feature) for rollout in rollouts), default=0)
    # Where the terminal is narrow, the last columns wrap: the state is not among them.
    first = [Column(name, no_wrap=True) for name in ("percentage", "state")]
    table = Table(Column("feature", min_width=widest), *first, "stage", "since (UTC)", "timeline")
    for rollout in rollouts:
        state = (
            "STOPPED"
            if rollout.emergency_stop
            else "disabled"
            if not rollout.enabled
            else "on hold"
            if rollout.on_hold
            else "complete"
            if rollout.stage == Stage.COMPLETE
            else "moving"
        )
        table.add_row(
            *(rollout.feature, percent(rollout.percentage), state),
            *(rollout.stage, f"{rollout.stage_started_at:%Y-%m-%d %H:%M}", rollout.timeline),
        )
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip()
