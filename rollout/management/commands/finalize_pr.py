from typing import Any

from django.core.management.base import CommandParser

from rollout.extras import imported

with imported("release"):
    from rollout.conf import conf
    from rollout.options import ID_MAX, whole
    from rollout.release.finalize import finalize
    from rollout.release.github import GitHub
    from rollout.release.shell import ReleaseCommand
    from rollout.release.terminal import Result, Terminal


class Command(ReleaseCommand):
    help = (
        "Prepare a pull request (runbook, phase 1): warn if it is long, label it by the paths that it changes "
        "(.github/labeler.yml) and start the end-to-end tests. Then squash-merge it, or let GitHub do so when its CI "
        "checks have passed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("pr", type=whole(1, ID_MAX), help="number of the pull request")
        parser.add_argument(
            "--no-merge", action="store_true", help="prepare the pull request, and do not merge it"
        )
        parser.add_argument(
            "--run-e2e",
            action="store_true",
            help="start the end-to-end tests, unless they are running or have passed",
        )

    def release(self, terminal: Terminal, **options: Any) -> Result:
        return finalize(
            options["pr"],
            merge=not options["no_merge"],
            run_e2e=options["run_e2e"],
            github=GitHub.from_settings(conf),
            terminal=terminal,
        )
