"""Roll the flag back first, which users notice at once; then open a pull request that reverts the commit."""

from collections.abc import Sequence
from functools import partial

from rollout import metrics, operations
from rollout.models import Deployment, DeploymentState, Rollout
from rollout.release import records
from rollout.release.decisions import Outcome, revert_branch
from rollout.release.errors import Rejected, ReleaseError, RevertConflict
from rollout.release.git import Git
from rollout.release.github import GitHub, Revert
from rollout.release.terminal import Terminal

GITHUB_WAIT = 70  # s; the Celery task has 100, and must still record what came of it


def roll_back(features: Sequence[str], why: str, terminal: Terminal) -> None:
    """Roll features back to 0 %, unless they are rolled back already."""
    for feature in features:
        if not _is_back(Rollout.objects.get(feature=feature)):
            terminal.outside(f"roll {feature} back to 0 %", partial(_roll_back, feature, why))


def _roll_back(feature: str, why: str) -> None:
    """Roll back once, even if two processes do so at the same time."""
    while True:
        rollout = Rollout.objects.get(feature=feature)
        if _is_back(rollout):
            return
        try:
            operations.roll_back(feature, reason=f"monitor: {why}", version=rollout.version)
        except operations.StaleEdit:
            continue


def _is_back(rollout: Rollout) -> bool:
    return rollout.percentage == 0 and rollout.on_hold


def open_revert(
    deployment: Deployment, why: str, *, github: GitHub, git: Git, terminal: Terminal
) -> Revert | None:
    """Open the pull request that reverts a deployment, or find the one that exists.

    ``None``: in a dry run, and when there is nothing to revert.

    Raises:
        RevertConflict: a person must revert by hand; nothing was pushed.
        ReleaseError: GitHub or git did not answer. A second run continues this one.
    """
    branch = revert_branch(deployment.pull_request, deployment.commit)
    if terminal.dry_run:
        terminal.outside(f"push {branch}, which reverts {deployment.commit[:12]}", lambda: None)
        terminal.outside(f"open a pull request of {branch} against {deployment.branch}", lambda: None)
        return None
    revert = github.pull_request_of(branch, deployment.branch)
    if revert is None:
        if not _push(deployment, branch, why, git=git, terminal=terminal):
            return None
        revert = _open(deployment, branch, why, github=github, terminal=terminal)
    else:
        terminal.say(f"The revert of #{deployment.pull_request} is #{revert.number} already: {revert.url}")
    if not revert.is_open and not revert.merged:
        terminal.warn(f"Revert #{revert.number} was closed without a merge: reopen it to take the code back.")
    deployment.revert_branch, deployment.revert_pull_request = branch, revert.number
    deployment.save(update_fields=["revert_branch", "revert_pull_request"])
    return revert


def _push(deployment: Deployment, branch: str, why: str, *, git: Git, terminal: Terminal) -> bool:
    """Push the branch of the revert unless the remote has it; ``False``: there is nothing to revert."""
    deployed = records.deployed(deployment)
    if git.remote_branch(branch):
        if not git.holds_revert(branch, deployed):
            raise Rejected(f"There is a branch {branch}, but it does not revert {deployment.commit[:12]}.")
        terminal.say(f"{branch} exists already.")
        return True
    with git.revert(deployed, title=_title(deployment), why=why) as tree:
        if tree is None:
            terminal.say(
                f"Nothing of {deployment.commit[:12]} is left on {deployment.branch}: it was reverted before."
            )
            return False
        what = f"push {branch}, which reverts {deployment.commit[:12]}"
        if terminal.outside(what, lambda: tree.push_new(branch)) is False:
            terminal.say("Another run pushed it first.")
    return True


def _open(deployment: Deployment, branch: str, why: str, *, github: GitHub, terminal: Terminal) -> Revert:
    body = (
        f"Reverts #{deployment.pull_request} ({deployment.commit}), deployed to {deployment.environment} by "
        f"{deployment.deployed_by} at {deployment.deployed_at:%Y-%m-%d %H:%M} UTC.\n\n{why}"
    )
    revert = terminal.outside(
        f"open a pull request of {branch} against {deployment.branch}",
        lambda: github.create_pull_request(
            branch=branch, base=deployment.branch, title=_title(deployment), body=body
        ),
    )
    assert revert is not None  # noqa: S101 - not a dry run
    terminal.say(f"Revert #{revert.number}: {revert.url}")
    return revert


def _title(deployment: Deployment) -> str:
    return f'Revert "{deployment.title}" (#{deployment.pull_request})'


def take_back(
    deployment: Deployment | None,
    features: Sequence[str],
    why: str,
    *,
    github: GitHub | None,
    git: Git,
    terminal: Terminal,
) -> tuple[Outcome, str]:
    """Roll the flag back, then open the revert; return the result of the revert.

    The rollback stays if the revert fails.
    """
    roll_back(features, why, terminal)
    if deployment is None:
        return Outcome.UNKNOWN, "No deployment is recorded, so there is no commit to revert."
    if not terminal.dry_run:
        records.conclude(deployment, DeploymentState.ROLLED_BACK, why)
    outcome, says = _attempt(deployment, why, github=github, git=git, terminal=terminal)
    if outcome is not Outcome.HEALTHY:
        terminal.warn(says)
    if not terminal.dry_run:
        metrics.reverts.labels(outcome.name.lower()).inc()
        deployment.revert_says, deployment.revert_settled = says, outcome is not Outcome.UNKNOWN
        deployment.save(update_fields=["revert_says", "revert_settled"])
    return outcome, says


def _attempt(
    deployment: Deployment, why: str, *, github: GitHub | None, git: Git, terminal: Terminal
) -> tuple[Outcome, str]:
    """Open the revert. Healthy: opened or not needed; unhealthy: a person must do it; unknown: try again."""
    if github is None:
        says = "GitHub is not configured, so no revert was opened: set GITHUB_TOKEN and GITHUB_REPOSITORY, run again."
        return Outcome.UNKNOWN, says
    try:
        with github.within(GITHUB_WAIT):
            revert = open_revert(deployment, why, github=github, git=git, terminal=terminal)
    except RevertConflict as error:
        return Outcome.UNHEALTHY, f"No revert was opened: {error}"
    except ReleaseError as error:
        return Outcome.UNKNOWN, f"No revert was opened: {error}"
    return Outcome.HEALTHY, f"Revert: #{revert.number} {revert.url}" if revert else "No revert was needed."
