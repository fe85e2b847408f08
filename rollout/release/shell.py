"""What all release commands share: options, output, and honest exit codes."""

import traceback
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, TextIO, cast

from billiard.exceptions import SoftTimeLimitExceeded
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from rollout.models import Rollout
from rollout.operations import NoSuchRollout
from rollout.release.decisions import Outcome
from rollout.release.errors import Missing, ReleaseError
from rollout.release.terminal import Result, Terminal

EXIT_CODES = "Exit codes: 0 healthy, 1 rolled back or unhealthy, 2 could not tell."


def add_features(parser: CommandParser, what: str) -> None:
    """Add ``--feature``; :func:`require_features` refuses what it must not name."""
    parser.add_argument("--feature", action="append", default=[], help=what)


def require_features(features: Sequence[str]) -> None:
    """Refuse the names of rollouts that are none."""
    for feature in features:
        if not Rollout.objects.filter(feature=feature).exists():
            raise Missing(str(NoSuchRollout(feature)))


def add_deployment(parser: CommandParser) -> None:
    """Add ``--pr``, which :func:`rollout.release.records.find` takes."""
    parser.add_argument("--pr", type=int, help="the deployment of this pull request; the latest by default")


class ReleaseCommand(BaseCommand):
    """A command that ends with an :class:`~rollout.release.decisions.Outcome`, whatever happens."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.epilog = EXIT_CODES
        parser.add_argument(
            "--json", action="store_true", help="print the result as JSON; progress goes to stderr"
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="print everything that would be done to the outside, and do nothing",
        )

    @abstractmethod
    def release(self, terminal: Terminal, **options: Any) -> Result:
        """Do what the command is for."""

    def handle(self, *_args: Any, json: bool, dry_run: bool, **options: Any) -> None:
        self.stdout.ending = self.stderr.ending = ""  # rich writes its own
        stream = self.stderr if json else self.stdout
        terminal = Terminal(cast("TextIO", stream), dry_run=dry_run)  # it passes everything on to one
        result = self._result(terminal, options)
        if json:
            self.stdout.write(terminal.as_json(result) + "\n")
        elif result.outcome is Outcome.HEALTHY:  # else Django says it
            terminal.result(result)
        if result.outcome is not Outcome.HEALTHY:
            self.stderr.ending = "\n"
            raise CommandError(result.says, returncode=int(result.outcome))

    def _result(self, terminal: Terminal, options: dict[str, Any]) -> Result:
        try:
            return self.release(terminal, **options)
        except ReleaseError as error:
            return Result(error.outcome, str(error))
        except (DatabaseError, InterfaceError) as error:
            return Result(
                Outcome.UNKNOWN, f"The database could not be asked: {str(error).partition(chr(10))[0]}"
            )
        except KeyboardInterrupt:
            terminal.say("Interrupted. Run it again: it goes on where it was.", "yellow")
            raise
        except SoftTimeLimitExceeded:
            raise  # of the Celery task that this runs in
        except Exception as error:  # noqa: BLE001 - Python's exit code of a crash would say "unhealthy"
            traceback.print_exc()
            return Result(Outcome.UNKNOWN, f"A fault of the command itself: {error!r}")
