import json
import os
import sys
import traceback
from argparse import SUPPRESS
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from rich.console import Console
from rich.table import Column, Table

from rollout import faults, operations, people, store
from rollout.admin.latest_checks import LatestCheck, latest_checks
from rollout.blank import is_blank
from rollout.conf import conf
from rollout.judge.scoring import Signal
from rollout.models import Rollout, Stage, Timeline
from rollout.options import NOT_STOPPED, WIDTH, discard
from rollout.presentation.history import Line, rollbacks
from rollout.units import percent, read_percent

OPERATIONS: dict[str, Callable[..., Rollout]] = {
    "create": operations.create,
    "configure": operations.configure,
    "set": operations.set_percentage,
    "promote": operations.promote,
    "hold": operations.hold,
    "resume": operations.resume,
    "rollback": operations.roll_back,
    "stop": operations.stop,
    "release": operations.release,
    "complete": operations.complete,
}
# Columns, and the width of the terminal from which on they are shown.
EXTRA = {"since (UTC)": 100, "timeline": 120}
SWITCHES = {"on": True, "off": False}
FIELDS = {  # of a rollout, with the help of its option
    "enabled": "off: no browser gets the feature, not even after opting in",
    "timeline": "rules by which the judge promotes it",
    "track_migrations": "keep migration events; off for a feature that migrates nothing",
    "auto_rollback": "three red checks in a row roll it back",
    "description": "at most 200 characters",
    "always": "people who get it at any percentage: user:NAME, group:NAME, staff, superusers, authenticated",
    "never": "people who do not get it; they count before the others",
}
PEOPLE = ("always", "never")
SHOWING = {"status", "list"}  # actions that change nothing
NOT_DONE = {  # for each action but the stop
    "create": "NOT CREATED",
    "configure": "NOT CONFIGURED",
    "set": "NOT SET",
    "promote": "NOT PROMOTED",
    "hold": "NOT PUT ON HOLD",
    "resume": "NOT RESUMED",
    "rollback": "NOT ROLLED BACK",
    "release": "NOT RELEASED",
    "complete": "NOT COMPLETED",
}
LOCK_WAIT = "10s"  # nobody should wait longer to hear that nothing is stopped
UNKNOWN = 2  # exit code of a stop that failed, like that of the release commands


class Command(BaseCommand):
    help = "Show, create, configure and move rollouts, with the operations of the admin's pages."

    def add_arguments(self, parser: CommandParser) -> None:
        subparsers = parser.add_subparsers(dest="action", required=True)
        status = subparsers.add_parser("status", help="show one rollout, or all")
        status.add_argument("feature", nargs="?")
        subparsers.add_parser("list", help="show all rollouts").set_defaults(feature=None)
        for name, operation in OPERATIONS.items():
            subparser = subparsers.add_parser(
                name, help=(operation.__doc__ or "").split(".")[0].split(":")[0]
            )
            subparser.add_argument("feature")
            if name == "set":
                subparser.add_argument("percent", help="0-100")
            if name in {"create", "configure"}:
                add_fields(subparser, but="enabled" if name == "create" else "")
            if name == "create":
                subparser.add_argument("--percentage", dest="percent", help="0-100; 0 by default")
                subparser.add_argument(
                    "--hash-version", metavar="1|2", help="2 by default: 10,000 buckets; 1 has 100"
                )
            subparser.add_argument("--reason", default="", help="why; the history keeps it")
        for subparser in subparsers.choices.values():
            subparser.add_argument("--json", action="store_true", help="print JSON")
            # Django's own, where people write it: after the action too.
            subparser.add_argument("--traceback", action="store_true", default=SUPPRESS, help=SUPPRESS)

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the command; a stop whose arguments cannot be read says NOT STOPPED too."""
        self.has_begun = False
        try:
            super().run_from_argv(argv)
        except SystemExit as end:
            if end.code and not self.has_begun and "stop" in argv[2:]:
                self.stderr.write(NOT_STOPPED.format("the arguments are wrong, see above."))
            raise

    def execute(self, *args: Any, **options: Any) -> str | None:
        self.has_begun = True
        # A wrong setting that has nothing to do with it must not keep anybody from an emergency stop.
        checks = {"skip_checks": True} if options["action"] == "stop" else {}
        return super().execute(*args, **options | checks)

    def handle(self, *_args: Any, action: str, feature: str | None, json: bool, **options: Any) -> None:
        if action in SHOWING:
            with faults.in_words():
                changed = shown(feature)
        else:
            changed = [attempt(action, feature, options)]
        try:
            self.stdout.write(as_json(changed, single=feature is not None) if json else as_table(changed))
            self.stdout.flush()
        # Such as a closed pipe or a full disk. Nobody may read that it is not done.
        except Exception as error:
            if action in SHOWING:
                raise
            self.stderr.write(f"Done ({action} {feature}), and not printed: {error}.")
            discard(self.stdout.fileno())


def add_fields(parser: CommandParser, *, but: str) -> None:
    """Add the options of a rollout's fields."""
    for name in (name for name in FIELDS if name != but):
        metavars = {
            "timeline": "|".join(Timeline.values),
            "description": "TEXT",
            **dict.fromkeys(PEOPLE, "PEOPLE"),
        }
        metavar = metavars.get(name, "on|off")
        parser.add_argument(f"--{name.replace('_', '-')}", metavar=metavar, help=FIELDS[name])


# --- What it does -------------------------------------------------------------------------------------------------


def shown(feature: str | None) -> list[Rollout]:
    """Return all rollouts, or the one that is named."""
    if feature is None:
        return list(Rollout.objects.all())
    found = list(Rollout.objects.filter(feature=feature))
    if not found:
        raise CommandError(str(operations.NoSuchRollout(feature)))
    return found


def attempt(action: str, feature: str | None, options: dict[str, Any]) -> Rollout:
    """Carry out an action. Raises :class:`CommandError`, which says what did not happen, why, and what to do."""
    is_committing = False
    try:
        with transaction.atomic():
            store.limit_lock_wait(LOCK_WAIT)
            rollout = change(action, feature, options)
            is_committing = True
    except operations.OperationError as error:
        raise failure(action, str(error)) if action == "stop" else CommandError(str(error)) from None
    except (Exception, KeyboardInterrupt) as error:
        why = "it was interrupted." if isinstance(error, KeyboardInterrupt) else faults.sentence(error)
        if why is None:  # a bug
            if action != "stop":
                raise
            traceback.print_exc()
            why = f"a fault of the command itself, {error!r}."
        if is_committing:  # the COMMIT may have arrived although its answer did not
            why += f" It may be stored all the same: `rollout status {feature}` shows it."
        raise failure(action, why) from error
    return rollout


def failure(action: str, why: str) -> CommandError:
    if action == "stop":
        return CommandError(NOT_STOPPED.format(why), returncode=UNKNOWN)
    return CommandError(f"{NOT_DONE[action]}: {why}")


def change(action: str, feature: str | None, options: dict[str, Any]) -> Rollout:
    """Carry out an action, by the same function as the admin, and sign it with the shell's user."""
    arguments: list[Any] = []
    if action == "set":
        arguments = [percentage(options["percent"])]
    elif action in {"create", "configure"}:
        arguments = [fields(options)]
        if action == "configure" and not arguments[0]:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in FIELDS)
            raise operations.OperationError(f"Say what to configure, with one or more of {names}.")
    reason = options["reason"].strip()
    signed = "" if is_blank(reason) else f"{reason} (shell, {os.environ.get('USER', 'unknown')})"
    rollout = OPERATIONS[action](feature, *arguments, reason=signed)
    if action == "create" and options["percent"] is not None:
        rollout = operations.set_percentage(rollout.feature, percentage(options["percent"]), reason=signed)
    return rollout


def percentage(text: str) -> Decimal:
    try:
        return read_percent(text)
    except ValueError as error:
        raise operations.OperationError(str(error)) from None


def fields(options: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that the options give; the operation checks their values."""
    given = {name: options[name] for name in FIELDS if options.get(name) is not None}
    for name in given.keys() & set(PEOPLE):
        given[name] = read_people(name, given[name])
    for name in given.keys() - {"timeline", "description", *PEOPLE}:
        if given[name] not in SWITCHES:
            raise operations.OperationError(
                f"--{name.replace('_', '-')} is {given[name]!r}: it must be on or off."
            )
        given[name] = SWITCHES[given[name]]
    if options.get("hash_version") is not None:
        given["hash_version"] = options["hash_version"]
    return given


def read_people(name: str, text: str) -> str:
    try:
        return people.read(text)
    except people.NotPeople as error:
        raise operations.OperationError(f"--{name}: {error}") from None


# --- What it prints -----------------------------------------------------------------------------------------------


def as_dict(rollout: Rollout) -> dict[str, Any]:
    return {
        "feature": rollout.feature,
        "description": rollout.description,
        conf.live_key: rollout.live_word,
        "enabled": rollout.enabled,
        "percentage": float(rollout.percentage),
        "stage": rollout.stage,
        "stage_started_at": rollout.stage_started_at.isoformat(),
        "timeline": rollout.timeline,
        "on_hold": rollout.on_hold,
        "emergency_stop": rollout.emergency_stop,
        "auto_rollback": rollout.auto_rollback,
        "track_migrations": rollout.track_migrations,
        "always": people.written(rollout.always),
        "never": people.written(rollout.never),
        "hash_version": rollout.hash_version,
        "version": rollout.version,
    }


def as_json(rollouts: list[Rollout], *, single: bool) -> str:
    documents = [as_dict(rollout) for rollout in rollouts]
    return json.dumps(documents[0] if single else documents, indent=2)


def as_table(rollouts: list[Rollout]) -> str:
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    latest, rolled_back = latest_checks(rollouts), rollbacks(rollouts)
    # A narrow terminal loses the last columns, and long names take lines: percentage, state and signal stay whole.
    extra = [name for name, width in EXTRA.items() if console.width >= width]
    whole = [Column(name, no_wrap=True) for name in ("percentage", "state", "signal", *extra)]
    table = Table(Column("feature", overflow="fold"), *whole)
    for rollout in rollouts:
        since = f"{rollout.stage_started_at:%Y-%m-%d %H:%M}"
        cells = {"since (UTC)": since, "timeline": rollout.timeline}
        current = latest.get(rollout.pk, LatestCheck()).current
        table.add_row(
            *(rollout.feature, percent(rollout.percentage), state(rollout, rolled_back.get(rollout.pk))),
            Signal(current.signal).label if current and rollout.is_judged else "-",
            *(cells[name] for name in extra),
        )
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip()


def state(rollout: Rollout, rollback: Line | None) -> str:
    """Return the gravest state of a rollout in a few words."""
    states = {
        "STOPPED": rollout.emergency_stop,
        "disabled": not rollout.enabled,
        "rolled back by the judge": rollback is not None and rollback.is_by_judge,
        "rolled back": rollback is not None,
        "on hold": rollout.on_hold,
        "complete": rollout.stage == Stage.COMPLETE,
        "off": rollout.percentage == 0,
    }
    return next((word for word, applies in states.items() if applies), rollout.stage)
