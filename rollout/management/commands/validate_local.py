from typing import Any

from django.core.management.base import CommandParser

from rollout.extras import imported

with imported("release"):
    from rollout.conf import conf
    from rollout.release.shell import ReleaseCommand
    from rollout.release.terminal import Result, Terminal
    from rollout.release.validate import validate


class Command(ReleaseCommand):
    help = (
        "Run everything that must pass before a deployment, and stop at the first failure (runbook, 'Local "
        "Validation'): lint, format, types, import directions, deployment settings, missing migrations, the build of "
        "the static files, an audit of the dependencies, tests. Exit code 2 when the audit cannot reach its database."
    )
    requires_system_checks = ()  # one of the steps runs them

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--only-audit", action="store_true", help="run only the audit of the dependencies"
        )
        parser.add_argument(
            "--skip-tests", action="store_true", help="leave out the tests, which take longest"
        )

    def release(self, terminal: Terminal, **options: Any) -> Result:
        return validate(
            conf.project_directory,
            tests=not options["skip_tests"],
            only_audit=options["only_audit"],
            terminal=terminal,
        )
