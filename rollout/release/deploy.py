"""Merge a pull request when its checks pass, and record the deployment, once."""

import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from rollout.conf import conf
from rollout.models import Deployment
from rollout.release import records
from rollout.release.decisions import (
    CheckRun,
    CheckState,
    PullRequest,
    Readiness,
    Step,
    in_queue,
    may_be_merged,
    readiness,
    size_warning,
)
from rollout.release.errors import Busy, Refused, ReleaseError, Unanswered, Unavailable
from rollout.release.github import GitHub
from rollout.release.outages import outlive
from rollout.release.terminal import Terminal

RECORD_WAIT = 600  # s for the database after a merge: what is not recorded cannot be reverted


def deploy(
    number: int,
    *,
    e2e: bool,
    timeout: timedelta,
    before_merge: Callable[[], object],
    github: GitHub,
    terminal: Terminal,
) -> Deployment | None:
    """Merge a pull request when its checks have passed, and record it. A second run continues an earlier one.

    Args:
        e2e: wait for the end-to-end tests too, and start them if they have not run.
        timeout: how long to wait for checks.
        before_merge: raises an error if it must not be merged now; called before the wait for the checks and after it.

    Returns:
        The deployment; ``None`` in a dry run that would have merged.
    """
    if deployment := records.deployment_of(number):
        terminal.say(
            f"#{number} is recorded: {deployment.commit[:12]}, merged {deployment.deployed_at:%Y-%m-%d %H:%M} UTC."
        )
        return deployment
    # The time is for what happens before the merge: a merged pull request is recorded in any case.
    end = time.monotonic() + timeout.total_seconds()
    with github.within(timeout.total_seconds()):
        pull = github.pull_request(number)
        if warning := size_warning(pull):
            terminal.warn(warning)
        if pull.merged:
            terminal.say(f"#{number} is merged already.")
        else:
            before_merge()
            pull, ready = wait_until_ready(pull, e2e=e2e, timeout=timeout, github=github, terminal=terminal)
            if ready.step is not Step.DONE:
                outlive(before_merge, terminal=terminal)
                pull = merge_in_time(pull, end=end, github=github, terminal=terminal)
    return record(pull, github=github, terminal=terminal)


def merge_in_time(pull: PullRequest, *, end: float, github: GitHub, terminal: Terminal) -> PullRequest:
    """Merge, and wait until ``end`` for the merge queue if there is one. A dry run does not wait."""
    after = merge(pull, github=github, terminal=terminal)
    if after is None or after.merged:
        return after or pull
    left = timedelta(seconds=end - time.monotonic())
    return wait_for_queue(after, timeout=left, github=github, terminal=terminal)


def wait_until_ready(
    pull: PullRequest, *, e2e: bool, timeout: timedelta, github: GitHub, terminal: Terminal
) -> tuple[PullRequest, Readiness]:
    """Wait until a pull request can be merged or is merged. A dry run does not wait.

    Raises:
        Refused: the pull request must not be merged.
        ReleaseError: the checks have not started or not ended in time.
    """
    started = ""  # the head for which this command has started the end-to-end tests

    def look(waited: timedelta) -> Readiness:
        nonlocal pull, started
        if waited:
            pull = github.pull_request(pull.number)
        checks = github.checks(pull.head) if pull.is_open else []
        if e2e and may_be_merged(pull) and checks:
            run = github.e2e(conf.e2e_workflow, pull.head)
            if run is None and started != pull.head:
                start_e2e(pull, github=github, terminal=terminal)
                started = pull.head
            checks.append(run or CheckRun(f"end-to-end ({conf.e2e_workflow})", CheckState.PENDING))
        return readiness(pull, checks, waited=waited, start=conf.checks_start, timeout=timeout)

    decided = _poll(f"Checks of #{pull.number}", look, timeout=timeout, github=github, terminal=terminal)
    return pull, decided


def wait_for_queue(
    pull: PullRequest, *, timeout: timedelta, github: GitHub, terminal: Terminal
) -> PullRequest:
    """Wait until the merge queue has merged a pull request.

    Raises:
        Refused: the queue gave it back, or somebody closed it.
        ReleaseError: it is still in the queue when the time is up.
    """
    missed = 0

    def look(waited: timedelta) -> Readiness:
        nonlocal pull, missed
        missed = missed + 1 if github.is_queued(pull) is False else 0
        pull = github.pull_request(pull.number)
        return in_queue(pull, missed=missed, waited=waited, timeout=timeout)

    _poll(f"Merge of #{pull.number}", look, timeout=timeout, github=github, terminal=terminal)
    return pull


def _poll(
    what: str,
    look: Callable[[timedelta], Readiness],
    *,
    timeout: timedelta,
    github: GitHub,
    terminal: Terminal,
) -> Readiness:
    """Look until there is nothing to wait for. After the first look, a GitHub that is away is waited for too."""
    began, seconds = time.monotonic(), timeout.total_seconds()
    waited, seen = timedelta(0), False
    with terminal.progress(what, seconds) as show:
        while True:
            try:
                decided, seen = look(waited), True
            except (Busy, Unanswered) as error:
                passes = seen or isinstance(error, Busy)
                if terminal.dry_run or not passes or not github.has_time_after(error):
                    raise
                decided = Readiness(Step.WAIT, str(error))
            show(waited.total_seconds(), decided.says)
            match decided.step:
                case Step.REFUSE:
                    raise Refused(decided.says)
                case Step.GIVE_UP:
                    raise ReleaseError(decided.says)
                case Step.WAIT if not terminal.dry_run:
                    left = began + seconds - time.monotonic()
                    time.sleep(max(0, min(conf.github_poll.total_seconds(), left)))
                    waited = timedelta(seconds=time.monotonic() - began)
                case _:
                    return decided


def start_e2e(pull: PullRequest, *, github: GitHub, terminal: Terminal) -> None:
    """Start the end-to-end tests on the branch of a pull request."""
    workflow = conf.e2e_workflow
    terminal.outside(f"start {workflow} on {pull.head_branch}", lambda: github.start_workflow(workflow, pull))


def merge(pull: PullRequest, *, github: GitHub, terminal: Terminal) -> PullRequest | None:
    """Squash-merge the commit whose checks passed, or put it in the merge queue; ``None`` in a dry run."""
    what = f"merge #{pull.number} ({pull.head[:12]}, “{pull.title}”) into {pull.base_branch} by squashing"
    try:
        return terminal.outside(what, lambda: github.merge(pull))
    except Unanswered as error:
        raise Unanswered(f"{error} It may be merged: run the command again, which finds out.") from None


def record(pull: PullRequest, *, github: GitHub, terminal: Terminal) -> Deployment | None:
    """Record a merged pull request as a deployment, so that it can be reverted; ``None`` in a dry run.

    Raises:
        Unavailable: GitHub or the database stayed away, and it is not recorded.
    """
    commit = f" as {pull.merge_commit[:12]}" if pull.merged and pull.merge_commit else ""

    def write() -> Deployment:
        commits = github.merged_commits(pull)
        return outlive(partial(records.record, pull, commits), terminal=terminal, seconds=RECORD_WAIT)

    try:
        return terminal.outside(
            f"record the deployment of #{pull.number}{commit} to {conf.environment}", write
        )
    except Unavailable as error:
        raise Unavailable(
            f"#{pull.number} is merged{commit}, but not recorded, so no command can revert it yet. {error} Run the "
            f"command again."
        ) from None
