from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser

from rollout.extras import imported

with imported("release"):
    from rollout.conf import conf
    from rollout.options import ID_MAX, MINUTES_MAX, number, whole
    from rollout.release import records
    from rollout.release.deploy import record
    from rollout.release.git import Git
    from rollout.release.github import GitHub
    from rollout.release.monitor import Monitor, MonitorOptions
    from rollout.release.shell import ReleaseCommand, add_deployment, add_features, require_features
    from rollout.release.terminal import Result, Terminal


class Command(ReleaseCommand):
    help = (
        "Monitor a deployment by the judge's checks (runbook, phase 3). Three red checks in a row trip the breaker. "
        "Without telemetry, GitHub issues labelled 'production-issue' that were opened since the deployment count "
        "5 points each. A second run continues an interrupted monitoring."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        add_deployment(parser)
        add_monitor_options(parser)
        parser.add_argument(
            "--restart", action="store_true", help="begin anew, also after an interrupted monitoring"
        )

    def release(self, terminal: Terminal, **options: Any) -> Result:
        github = GitHub.if_configured(conf)
        deployment = records.find(options["pr"])
        if options["pr"] and deployment is None:
            github = github or GitHub.from_settings(conf)
            deployment = record(github.pull_request(options["pr"]), github=github, terminal=terminal)
        terminal.say(f"Deployment: {deployment or 'none is recorded'}.")
        return Monitor(
            monitor_options(options, restart=options["restart"]),
            deployment,
            github,
            Git.from_settings(conf),
            terminal,
        ).run()


def add_monitor_options(parser: CommandParser) -> None:
    """Add the options of a monitoring."""
    parser.add_argument(
        "--minutes", type=number(0, MINUTES_MAX), default=60, help="how long to monitor; 60 by default"
    )
    parser.add_argument(
        "--error-threshold",
        type=whole(1, ID_MAX),
        default=conf.policy.error_threshold,
        help="score from which a check is red; ROLLOUT_ERROR_THRESHOLD (15) by default",
    )
    parser.add_argument(
        "--auto-revert",
        action="store_true",
        help="when the breaker trips, roll the flag back and open a pull request that reverts the recorded commit",
    )
    add_features(parser, "a rollout to monitor; repeat it for several; by default every rollout under way")


def monitor_options(options: dict[str, Any], *, restart: bool = False) -> MonitorOptions:
    """Return the options of a monitoring from the command line."""
    require_features(options["feature"])
    return MonitorOptions(
        duration=timedelta(minutes=options["minutes"]),
        error_threshold=options["error_threshold"],
        auto_revert=options["auto_revert"],
        features=tuple(options["feature"]),
        restart=restart,
    )
