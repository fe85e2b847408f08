from typing import Any

from django.core.management.base import CommandParser

from rollout.extras import imported

with imported("release"):
    from rollout.blank import is_blank
    from rollout.conf import conf
    from rollout.release import records
    from rollout.release.decisions import Outcome
    from rollout.release.errors import Missing
    from rollout.release.git import Git
    from rollout.release.github import GitHub
    from rollout.release.revert import take_back
    from rollout.release.shell import ReleaseCommand, add_deployment, add_features, require_features
    from rollout.release.terminal import Result, Terminal


class Command(ReleaseCommand):
    help = (
        "Open a pull request that reverts the recorded commit of a deployment, also below newer commits (runbook, "
        "'Hard Rollback'). The named rollouts are rolled back first. A second run finds the pull request of the first."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        add_deployment(parser)
        add_features(parser, "a rollout to roll back first; repeat it for several")
        parser.add_argument(
            "--reason", default="", help="written to the pull request and the rollout's history"
        )
        parser.add_argument(
            "--after-rollback",
            action="store_true",
            help="only if the judge has rolled back one of the named rollouts (or any) since the deployment, and no "
            "earlier run has settled the revert",
        )

    def release(self, terminal: Terminal, **options: Any) -> Result:
        require_features(options["feature"])
        deployment = records.find(options["pr"])
        given = options["reason"].strip()
        why = f"{records.shell_user()} reverted the deployment." if is_blank(given) else given
        if options["after_rollback"]:
            incident = records.rolled_back_since(deployment, options["feature"]) if deployment else None
            if deployment is None or incident is None or deployment.revert_settled:
                return Result(Outcome.HEALTHY, "No deployment has to be reverted.")
            why = f"The judge rolled {incident.rollout.feature} back: {incident.reason}"
        if deployment is None:
            raise Missing(
                "No such deployment is recorded: run monitor_deployment --pr NUMBER, which records it."
            )
        outcome, says = take_back(
            deployment,
            options["feature"],
            why,
            github=GitHub.if_configured(conf),
            git=Git.from_settings(conf),
            terminal=terminal,
        )
        return Result(outcome, says, {"deployment": records.as_dict(deployment)})
