"""The shared parts of the release commands: options, output and exit codes."""

import signal
import traceback
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, TextIO, cast

from billiard.exceptions import SoftTimeLimitExceeded
from django.core.management.base import BaseCommand, CommandError, CommandParser

from rollout import faults
from rollout.models import Rollout
from rollout.operations import NoSuchRollout
from rollout.options import ID_MAX, whole
from rollout.release.decisions import Outcome
from rollout.release.errors import Missing, ReleaseError
from rollout.release.terminal import Result, Terminal

EXIT_CODES = "Exit codes: 0 healthy, 1 rolled back or unhealthy, 2 could not tell."


def add_features(parser: CommandParser, what: str) -> None:
    """Add ``--feature``; :func:`require_features` refuses what it must not name."""
    parser.add_argument("--feature", action="append", default=[], help=what)


def require_features(features: Sequence[str]) -> None:
    """Raise :class:`Missing` for a name that no rollout has."""
    for feature in features:
        if not Rollout.objects.filter(feature=feature).exists():
            raise Missing(str(NoSuchRollout(feature)))


def add_site(parser: CommandParser) -> None:
    """Add ``--url``, which :func:`rollout.release.site.site_url` reads."""
    parser.add_argument(
        "--url", help="the site, such as https://www.example.com; ROLLOUT_SITE_URL by default"
    )


def add_deployment(parser: CommandParser) -> None:
    """Add ``--pr``, which :func:`rollout.release.records.find` takes."""
    parser.add_argument(
        "--pr", type=whole(1, ID_MAX), help="the deployment of this pull request; the latest by default"
    )


def _terminate(_number: int, _frame: object) -> None:
    """End as after Ctrl-C: clean up, and say how to continue."""
    raise SystemExit(128 + signal.SIGTERM)


class ReleaseCommand(BaseCommand):
    """A command whose exit code is always an :class:`~rollout.release.decisions.Outcome`."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.epilog = EXIT_CODES
        parser.add_argument(
            "--json", action="store_true", help="print the result as JSON; progress goes to stderr"
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="print what the command would change outside, and change nothing",
        )

    def run_from_argv(self, argv: list[str]) -> None:
        """Run as a process of its own; ``call_command``, as in a Celery worker, leaves the signals alone."""
        signal.signal(signal.SIGTERM, _terminate)
        super().run_from_argv(argv)

    @abstractmethod
    def release(self, terminal: Terminal, **options: Any) -> Result:
        """Run the command."""

    def handle(self, *_args: Any, json: bool, dry_run: bool, **options: Any) -> None:
        self.stdout.ending = self.stderr.ending = ""  # rich writes its own
        stream = self.stderr if json else self.stdout
        terminal = Terminal(cast("TextIO", stream), dry_run=dry_run)  # Django's wrapper passes everything on
        result = self._result(terminal, options)
        if json:
            try:
                self.stdout.write(terminal.as_json(result) + "\n")
                self.stdout.flush()
            except OSError as error:  # the exit code holds all the same
                terminal.say(f"The result could not be printed: {error}.", "yellow")
        elif result.outcome is Outcome.HEALTHY:  # otherwise Django prints the error
            terminal.result(result)
        if result.outcome is not Outcome.HEALTHY:
            self.stderr.ending = "\n"
            raise CommandError(result.says, returncode=int(result.outcome))

    def _result(self, terminal: Terminal, options: dict[str, Any]) -> Result:
        try:
            return self.release(terminal, **options)
        except ReleaseError as error:
            return Result(error.outcome, str(error))
        except (KeyboardInterrupt, SystemExit):
            terminal.say("Interrupted. Run the command again to continue.", "yellow")
            raise
        except SoftTimeLimitExceeded:
            raise  # the Celery task around this command handles it
        except Exception as error:  # noqa: BLE001 - Python's exit code of a crash would say "unhealthy"
            if says := faults.sentence(error):
                if options.get("traceback"):
                    traceback.print_exc()
                return Result(Outcome.UNKNOWN, says)
            traceback.print_exc()
            return Result(Outcome.UNKNOWN, f"A fault of the command itself: {error!r}")
