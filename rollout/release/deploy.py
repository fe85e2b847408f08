"""Merge a pull request when its checks pass, and record the deployment, once."""

import time
from datetime import timedelta

from rollout.conf import conf
from rollout.models import Deployment
from rollout.release import records
from rollout.release.decisions import (
    CheckRun,
    CheckState,
    PullRequest,
    Readiness,
    Step,
    may_be_merged,
    readiness,
    size_warning,
)
from rollout.release.errors import Refused, ReleaseError
from rollout.release.github import GitHub
from rollout.release.terminal import Terminal


def deploy(
    number: int, *, e2e: bool, timeout: timedelta, github: GitHub, terminal: Terminal
) -> Deployment | None:
    """Merge a pull request when its checks have passed, and record it. A second run continues an earlier one.

    Args:
        e2e: wait for the end-to-end tests too, and start them if they have not run.
        timeout: how long to wait for checks.

    Returns:
        The deployment; ``None`` in a dry run that would have merged.
    """
    if deployment := records.deployment_of(number):
        terminal.say(
            f"#{number} is recorded: {deployment.commit[:12]}, merged {deployment.deployed_at:%Y-%m-%d %H:%M} UTC."
        )
        return deployment
    pull = github.pull_request(number)
    if warning := size_warning(pull):
        terminal.warn(warning)
    if pull.merged:
        terminal.say(f"#{number} is merged already.")
    else:
        pull, ready = wait_until_ready(pull, e2e=e2e, timeout=timeout, github=github, terminal=terminal)
        if ready.step is not Step.DONE:
            pull = merge(pull, github=github, terminal=terminal) or pull
    return record(pull, github=github, terminal=terminal)


def wait_until_ready(
    pull: PullRequest, *, e2e: bool, timeout: timedelta, github: GitHub, terminal: Terminal
) -> tuple[PullRequest, Readiness]:
    """Wait until a pull request can be merged or is merged. A dry run does not wait.

    Raises:
        Refused: the pull request must not be merged.
        ReleaseError: the checks have not started or not ended in time.
    """
    began = time.monotonic()
    started = ""  # the head for which this command has started the end-to-end tests
    with terminal.progress(f"Checks of #{pull.number}", timeout.total_seconds()) as show:
        while True:
            waited = timedelta(seconds=time.monotonic() - began)
            checks = github.checks(pull.head) if pull.is_open else []
            if e2e and may_be_merged(pull) and checks:
                run = github.e2e(conf.e2e_workflow, pull.head)
                if run is None and started != pull.head:
                    start_e2e(pull, github=github, terminal=terminal)
                    started = pull.head
                checks.append(run or CheckRun(f"end-to-end ({conf.e2e_workflow})", CheckState.PENDING))
            decided = readiness(pull, checks, waited=waited, start=conf.checks_start, timeout=timeout)
            show(waited.total_seconds(), decided.says)
            match decided.step:
                case Step.REFUSE:
                    raise Refused(decided.says)
                case Step.GIVE_UP:
                    raise ReleaseError(decided.says)
                case Step.WAIT if not terminal.dry_run:
                    time.sleep(conf.github_poll.total_seconds())
                    pull = github.pull_request(pull.number)
                case _:
                    return pull, decided


def start_e2e(pull: PullRequest, *, github: GitHub, terminal: Terminal) -> None:
    """Start the end-to-end tests on the branch of a pull request."""
    workflow = conf.e2e_workflow
    terminal.outside(
        f"start {workflow} on {pull.head_branch}", lambda: github.start_workflow(workflow, pull.head_branch)
    )


def merge(pull: PullRequest, *, github: GitHub, terminal: Terminal) -> PullRequest | None:
    """Squash-merge the commit whose checks passed; ``None`` in a dry run."""
    what = f"merge #{pull.number} ({pull.head[:12]}, “{pull.title}”) into {pull.base_branch} by squashing"
    return terminal.outside(what, lambda: github.merge(pull))


def record(pull: PullRequest, *, github: GitHub, terminal: Terminal) -> Deployment | None:
    """Record a merged pull request as a deployment, so that it can be reverted; ``None`` in a dry run."""
    commit = f" as {pull.merge_commit[:12]}" if pull.merged and pull.merge_commit else ""
    return terminal.outside(
        f"record the deployment of #{pull.number}{commit} to {conf.environment}",
        lambda: records.record(pull, github.merged_commits(pull)),
    )
