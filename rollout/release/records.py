"""The recorded deployments: read and written in the database."""

import os
from collections.abc import Sequence
from datetime import datetime

from rollout import store
from rollout.conf import conf
from rollout.models import Deployment, DeploymentState, Incident
from rollout.release.decisions import PullRequest
from rollout.release.errors import Missing, Unavailable
from rollout.release.git import Deployed


def deployment_of(pull_request: int) -> Deployment | None:
    """Return the deployment of a pull request to this environment, if it was recorded."""
    return Deployment.objects.filter(environment=conf.environment, pull_request=pull_request).first()


def find(pull_request: int | None) -> Deployment | None:
    """Return the deployment of a pull request, or the latest one without a number."""
    return deployment_of(pull_request) if pull_request else latest()


def latest() -> Deployment | None:
    """Return the latest deployment to this environment."""
    return Deployment.objects.filter(environment=conf.environment).order_by("-deployed_at", "-id").first()


def rolled_back_since(deployment: Deployment, features: Sequence[str] = ()) -> Incident | None:
    """Return the latest rollback by the judge since a deployment, of the rollouts named or of any."""
    incidents = Incident.objects.filter(rolled_back=True, tripped_at__gte=deployment.deployed_at)
    if features:
        incidents = incidents.filter(rollout__feature__in=features)
    return incidents.select_related("rollout").first()


def record(pull: PullRequest, commits: int) -> Deployment:
    """Record a merged pull request as a deployment; return the record that exists already, if any."""
    if not pull.merged or pull.merge_commit is None:
        raise Missing(f"#{pull.number} is not merged, so there is nothing to record.")
    deployment, _ = Deployment.objects.get_or_create(
        environment=conf.environment,
        pull_request=pull.number,
        defaults={
            "title": pull.title,
            "branch": pull.base_branch,
            "commit": pull.merge_commit,
            "commits": commits,
            "deployed_by": shell_user(),
            "deployed_at": pull.merged_at or store.clock(),
        },
    )
    return deployment


def require_writable() -> None:
    """Raise :class:`Unavailable` if the database takes no writes: a deployment could not be recorded."""
    if store.is_read_only():
        raise Unavailable(
            "The database is read-only, so the deployment could not be recorded: use the primary."
        )


def is_new(deployment: Deployment) -> bool:
    """Return whether a deployment has not been taken back, nor its monitoring begun."""
    back = {DeploymentState.ROLLED_BACK, DeploymentState.UNHEALTHY}
    return deployment.state not in back and deployment.monitored_since is None


def deployed(deployment: Deployment) -> Deployed:
    """Return the commits of a deployment, for git."""
    return Deployed(commit=deployment.commit, commits=deployment.commits, branch=deployment.branch)


def conclude(deployment: Deployment, state: DeploymentState, says: str) -> None:
    """Store the state of a deployment, and end its monitoring."""
    deployment.state, deployment.says, deployment.monitored_since = state, says, None
    deployment.save(update_fields=["state", "says", "monitored_since"])


def monitor_since(deployment: Deployment, now: datetime, *, restart: bool) -> datetime:
    """Return when the monitoring of a deployment began: now, or with one that was interrupted or still runs."""
    if restart:
        Deployment.objects.filter(pk=deployment.pk).update(monitored_since=now)
    else:  # one statement, so that two monitors started at once share one begin
        Deployment.objects.filter(pk=deployment.pk, monitored_since=None).update(monitored_since=now)
    deployment.refresh_from_db()
    return deployment.monitored_since or now


def shell_user() -> str:
    """Return the user name at the shell."""
    return os.environ.get("USER", "unknown")


def as_dict(deployment: Deployment | None) -> dict[str, object] | None:
    """Return a deployment as JSON data for scripts."""
    if deployment is None:
        return None
    return {
        "pull_request": deployment.pull_request,
        "commit": deployment.commit,
        "environment": deployment.environment,
        "deployed_by": deployment.deployed_by,
        "deployed_at": deployment.deployed_at,
        "state": deployment.state,
        "revert_pull_request": deployment.revert_pull_request,
    }
