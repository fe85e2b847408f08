import json as jsonlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from rollout.extras import COULD_NOT_TELL, imported

with imported("judge"):
    from rollout import faults, store
    from rollout.conf import conf
    from rollout.models import Check, Watch
    from rollout.tick import tick
    from rollout.units import percent

AHEAD_MAX = timedelta(days=366)  # of --at; a later year is a typing error, and some are no date in UTC


class Command(BaseCommand):
    help = (
        "Check every rollout once, as Celery beat does every minute. Exit codes: 0 checked, or nothing to check; "
        "2 a check failed, or --at cannot be used."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--at",
            metavar="ISO-TIME",
            help="check as of this time, such as 2026-08-11T14:30:00Z: at or after each rollout's last check; "
            "not in production",
        )
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *_args: Any, at: str | None, json: bool, **_options: Any) -> None:
        failures: dict[str, Exception] = {}
        try:
            time = None if at is None else rehearsal_time(at)
            checks = tick(at=time, only_due=False, on_failure=lambda _, *failed: failures.update([failed]))
            notes = list(notes_on({check.rollout.feature for check in checks} | set(failures)))
        except Refused as error:
            raise self._wrong(str(error), json=json) from None
        except (DatabaseError, InterfaceError) as error:
            if (why := faults.sentence(error)) is None:
                raise
            raise self._wrong(f"Nothing was checked. {why}", json=json) from error
        if json:
            documents = [as_dict(check) for check in checks]
            failed = [{"feature": feature, "error": reason(failures[feature])} for feature in failures]
            self.stdout.write(jsonlib.dumps([*documents, *failed], indent=2))
        else:
            self.stdout.write("".join(as_text(check) for check in checks), ending="")
        for note in notes or ([] if checks or failures else ["Nothing to check: no rollout is under way."]):
            (self.stderr if json else self.stdout).write(note, style_func=str)
        if failures:
            raise CommandError(sentence(failures), returncode=COULD_NOT_TELL) from next(
                iter(failures.values())
            )

    def _wrong(self, message: str, *, json: bool) -> CommandError:
        """Return the error, printed as JSON too where that was asked for."""
        if json:
            self.stdout.write(jsonlib.dumps({"error": message}, indent=2))
        return CommandError(message, returncode=COULD_NOT_TELL)


# --- The time of a rehearsal --------------------------------------------------------------------------------------


class Refused(Exception):
    """A time that the judge cannot check at. The message says why and what to do."""


def rehearsal_time(text: str) -> datetime:
    """Return the time of ``--at`` in UTC.

    Raises:
        Refused: in production, no time, more than a year ahead, or before a rollout's last check or stage.
    """
    if conf.confirm:
        raise Refused(f"--at is for rehearsals: in '{conf.environment}' the judge uses the real time.")
    at = read_time(text)
    if at > store.clock() + AHEAD_MAX:
        raise Refused(f"{text!r} is more than {AHEAD_MAX.days} days ahead: name a time within them.")
    for watch in watches():
        earliest, event = earliest_check(watch)
        if at < earliest:
            raise Refused(
                f"{text!r} is before {event} {watch.rollout.feature}: name {stamp(earliest)} or a later time."
            )
    return at


def read_time(text: str) -> datetime:
    """Return an ISO 8601 time in UTC; one without an offset is in UTC already."""
    try:
        at = datetime.fromisoformat(text.strip())
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # the latter: no date in UTC, such as the last evening of 9999
        raise Refused(f"{text!r} is not a time: write it as 2026-08-11T14:30:00Z.") from None


def watches() -> list[Watch]:
    """Return the judge's memory of each rollout under way."""
    found = Watch.objects.select_related("rollout").order_by("rollout__feature")
    return [watch for watch in found if watch.rollout.is_judged]


def earliest_check(watch: Watch) -> tuple[datetime, str]:
    """Return the earliest time of a rollout's next check, and the event that sets it."""
    began_at = watch.rollout.stage_started_at
    if watch.checked_at is not None and watch.checked_at >= began_at:
        return watch.checked_at, "the last check of"
    return began_at, "the begin of the stage of"


def stamp(at: datetime) -> str:
    """Return a time as ``--at`` takes it, in whole seconds and never earlier."""
    return f"{at + timedelta(microseconds=-at.microsecond % 1_000_000):%Y-%m-%dT%H:%M:%SZ}"


# --- In words -----------------------------------------------------------------------------------------------------


def notes_on(done: set[str]) -> Iterator[str]:
    """Say why a rollout was not checked, and for which one the judge now waits for the real time."""
    now = store.clock()
    for watch in watches():
        feature, checked_at = watch.rollout.feature, watch.checked_at
        if checked_at is not None and checked_at > now + conf.policy.check_interval:
            yield (
                f"{feature} was checked as of {stamp(checked_at)}, which is ahead of the real time: checks by the real "
                f"time wait until then, or for new telemetry."
            )
        elif feature not in done:
            since = f"since its check at {stamp(checked_at)}" if checked_at else "yet"
            yield f"Nothing to check for {feature}: no telemetry has arrived {since}."


def reason(error: Exception) -> str:
    """Return an error as part of a sentence: in words, or its kind and the first line of its text."""
    if known := faults.sentence(error):
        return known.rstrip(".")
    kind, text = type(error).__name__, faults.first_line(error)
    return kind if text == kind else f"{kind}: {text}"


def sentence(failures: dict[str, Exception]) -> str:
    reasons = "; ".join(f"{feature}: {reason(error)}" for feature, error in failures.items())
    return f"The check failed for {reasons}. Mend that, and check again; --traceback shows more."


def as_text(check: Check) -> str:
    feature, decision = check.rollout.feature, check.decision
    return f"{feature} at {percent(check.percentage)}: {decision['reason']}\n  {decision['next']}\n"


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
