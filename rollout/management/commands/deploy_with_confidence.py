from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser

from rollout.conf import conf
from rollout.management.commands.monitor_deployment import add_monitor_options, monitor_options
from rollout.options import ID_MAX, MINUTES_MAX, number, whole
from rollout.release.deploy import deploy
from rollout.release.git import Git
from rollout.release.github import GitHub
from rollout.release.monitor import Monitor
from rollout.release.shell import ReleaseCommand
from rollout.release.terminal import Result, Terminal


class Command(ReleaseCommand):
    help = (
        "Merge a pull request when its CI checks have passed, record the deployment, and monitor it like "
        "monitor_deployment (runbook, phase 2). A second run continues an earlier one."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("pr", type=whole(1, ID_MAX), help="number of the pull request")
        parser.add_argument("--skip-e2e", action="store_true", help="do not wait for the end-to-end tests")
        parser.add_argument(
            "--wait-minutes",
            type=number(0, MINUTES_MAX),
            default=60,
            help="how long to wait for CI checks, a merge queue and pauses of GitHub in all; 60 by default",
        )
        add_monitor_options(parser)

    def release(self, terminal: Terminal, **options: Any) -> Result:
        monitoring = monitor_options(options)
        github = GitHub.from_settings(conf)
        deployment = deploy(
            options["pr"],
            e2e=not options["skip_e2e"],
            timeout=timedelta(minutes=options["wait_minutes"]),
            github=github,
            terminal=terminal,
        )
        return Monitor(monitoring, deployment, github, Git.from_settings(conf), terminal).run()
