import random
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from rollout.extras import imported

with imported("judge"):
    import httpx

    from rollout import faults
    from rollout.operations import OperationError
    from rollout.options import ID_MAX, whole
    from rollout.rehearsal import demo

COULD_NOT_TELL = 2  # exit code, like that of the release commands
INTERRUPTED = 130  # as of a program that Ctrl-C ended
TIMEOUT = 10  # s; of each request


class Command(BaseCommand):
    help = (
        "Fill the screens: made-up browsers report to a running server for about six minutes. A rollout of their own "
        "climbs to 50 %, breaks, and is rolled back by the judge, with its incident. Not in production. Exit codes: 0 "
        "rolled back, as it should be; 2 it could not be played."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--url", default="http://127.0.0.1:8000", help="address of the server; %(default)s by default"
        )
        parser.add_argument(
            "--feature",
            default=demo.FEATURE,
            help="a rollout that does not exist, or an earlier demo; %(default)s by default",
        )
        parser.add_argument(
            "--fast",
            action="store_true",
            help="send each minute at once, and check here: over in less than a minute",
        )
        parser.add_argument("--seed", type=whole(0, ID_MAX), help="the same browsers again")

    @faults.in_words(COULD_NOT_TELL)
    def handle(
        self, *_args: Any, url: str, feature: str, fast: bool, seed: int | None, **_options: Any
    ) -> None:
        url = url.rstrip("/")
        seed = random.randrange(ID_MAX) if seed is None else seed  # noqa: S311 - it must be repeatable, not secret
        try:
            with httpx.Client(base_url=url, timeout=TIMEOUT, trust_env=False) as http:
                playing = demo.Demo(feature, http, fast=fast, seed=seed)
                playing.require_server()
                with demo.begun(feature) as rollout:
                    page = f"{url}/admin/rollout/rollout/{rollout.pk}/change/"
                    self.stdout.write(f"{feature} is at 10 %. Look at it: {page}")
                    if not fast:
                        self.stdout.write("A line for each check, one a minute. Ctrl-C ends it.")
                    for line in playing.play():
                        self.stdout.write(line)
                        self.stdout.flush()
        except KeyboardInterrupt:
            raise CommandError("Interrupted: nobody has the feature.", returncode=INTERRUPTED) from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise CommandError(
                f"'{url}' is no address: --url is one such as http://127.0.0.1:8000.",
                returncode=COULD_NOT_TELL,
            ) from None
        except (demo.DemoError, OperationError) as error:
            raise CommandError(str(error), returncode=COULD_NOT_TELL) from None
