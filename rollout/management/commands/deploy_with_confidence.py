from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser

from rollout.conf import conf
from rollout.management.commands.monitor_deployment import add_watching, watching
from rollout.release.deploy import deploy
from rollout.release.git import Git
from rollout.release.github import GitHub
from rollout.release.monitor import Monitor
from rollout.release.shell import ReleaseCommand
from rollout.release.terminal import Result, Terminal


class Command(ReleaseCommand):
    help = (
        "Merge a pull request when its checks have passed, record what was deployed, and watch it as "
        "monitor_deployment does (runbook, phase 2). Safe to run again: what an earlier run did is found."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("pr", type=int, help="number of the pull request")
        parser.add_argument("--skip-e2e", action="store_true", help="do not wait for the end-to-end tests")
        parser.add_argument(
            "--wait-minutes", type=float, default=60, help="how long to wait for checks; 60 by default"
        )
        add_watching(parser)

    def release(self, terminal: Terminal, **options: Any) -> Result:
        watched = watching(options)
        github = GitHub.from_settings(conf)
        deployment = deploy(
            options["pr"],
            e2e=not options["skip_e2e"],
            patience=timedelta(minutes=options["wait_minutes"]),
            github=github,
            terminal=terminal,
        )
        return Monitor(watched, deployment, github, Git.from_settings(conf), terminal).run()
