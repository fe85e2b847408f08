from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from django.core.management.base import CommandParser

from rollout.extras import imported

with imported("release"):
    from rollout.conf import conf
    from rollout.management.commands.monitor_deployment import add_monitor_options, monitor_options
    from rollout.options import ID_MAX, MINUTES_MAX, number, whole
    from rollout.release import canary, records
    from rollout.release.decisions import Outcome
    from rollout.release.deploy import deploy
    from rollout.release.git import Git
    from rollout.release.github import GitHub
    from rollout.release.monitor import Monitor
    from rollout.release.outages import outlive
    from rollout.release.shell import ReleaseCommand, add_site
    from rollout.release.site import Site, site_url
    from rollout.release.terminal import Result, Terminal

CANARY = 10  # % (runbook, "Environment Configuration")


class Command(ReleaseCommand):
    help = (
        "Merge a pull request when its CI checks have passed, record the deployment, wait until its commit runs, start "
        "the canary and monitor it, like monitor_deployment (runbook, phases 2 and 3). A second run continues an "
        "earlier one."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("pr", type=whole(1, ID_MAX), help="number of the pull request")
        parser.add_argument("--skip-e2e", action="store_true", help="do not wait for the end-to-end tests")
        parser.add_argument(
            "--wait-minutes",
            type=number(0, MINUTES_MAX),
            default=60,
            help="how long to wait for CI checks, a merge queue and pauses of GitHub in all, and again for the merged "
            "commit to run; 60 by default",
        )
        parser.add_argument(
            "--canary",
            type=number(0, 100),
            default=CANARY,
            metavar="PERCENT",
            help="give a rollout at 0 %% to so many browsers after the merge; 10 by default, 0 to start none. A higher "
            "one stays where it is",
        )
        add_site(parser)
        add_monitor_options(parser)

    def release(self, terminal: Terminal, **options: Any) -> Result:
        monitoring, percentage = monitor_options(options), Decimal(str(options["canary"]))
        github, git = GitHub.from_settings(conf), Git.from_settings(conf)
        site = Site(url, git) if (url := site_url(options["url"])) else None
        if site is None:
            terminal.say(
                "Neither ROLLOUT_SITE_URL nor --url is set, so the canary does not wait until the merged commit runs.",
                "yellow",
            )
        subjects = partial(canary.subjects, monitoring.features, percentage, terminal)
        timeout = timedelta(minutes=options["wait_minutes"])

        def before_merge() -> None:
            records.require_writable()
            subjects()
            if site:
                site.commit()

        deployment = deploy(
            options["pr"],
            e2e=not options["skip_e2e"],
            timeout=timeout,
            before_merge=before_merge,
            github=github,
            terminal=terminal,
        )
        if deployment is None or records.is_new(deployment):
            if site:
                site.wait_for(deployment, timeout=timeout, terminal=terminal)
            start = partial(canary.start, subjects, percentage, deployment, terminal)
            features = outlive(start, terminal=terminal)
            monitoring = replace(monitoring, features=features or monitoring.features)
        if deployment is None:
            return Result(Outcome.HEALTHY, "A dry run: nothing was changed.")
        return Monitor(monitoring, deployment, github, git, terminal).run()
