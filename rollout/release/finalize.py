"""Prepare a pull request (size, labels, end-to-end tests), then merge it or let GitHub merge it when green."""

from datetime import timedelta
from functools import partial
from typing import Any

import yaml

from rollout.conf import conf
from rollout.release import deploy, records
from rollout.release.decisions import (
    CheckState,
    Outcome,
    PullRequest,
    Step,
    labels_for,
    may_be_merged,
    readiness,
    rules_of,
    size_warning,
)
from rollout.release.errors import Refused, Rejected
from rollout.release.github import GitHub
from rollout.release.terminal import Result, Terminal

LABELER = ".github/labeler.yml"
FILES_LISTED = 3000  # GitHub's maximum


def finalize(number: int, *, merge: bool, run_e2e: bool, github: GitHub, terminal: Terminal) -> Result:
    """Prepare a pull request, and merge it unless told not to (runbook, "Phase 1: Prepare PR")."""
    pull = github.pull_request(number)
    if warning := size_warning(pull):
        terminal.warn(warning)
    if pull.merged:
        return Result(Outcome.HEALTHY, f"#{number} is merged already.", _merged(pull, github, terminal))
    if pull.is_open:
        label(pull, github=github, terminal=terminal)
        if run_e2e:
            _run_e2e(pull, github=github, terminal=terminal)
    if not may_be_merged(pull):
        raise Refused(readiness(pull, [], waited=_NONE, start=_NONE, timeout=_NONE).says)
    if not merge:
        return Result(Outcome.HEALTHY, f"#{number} is prepared, and ready for review: {pull.url}")
    return _merge_when_green(pull, e2e=run_e2e, github=github, terminal=terminal)


_NONE = timedelta(0)


def label(pull: PullRequest, *, github: GitHub, terminal: Terminal) -> None:
    """Add the labels of the paths that a pull request changes. Labels that it has stay."""
    path = conf.project_directory / LABELER
    if not path.is_file():
        terminal.warn(f"There is no {LABELER}, so no label was set.")
        return
    rules = dict(rules_of(yaml.safe_load(path.read_text()) or {}))
    paths = github.paths(pull.number)
    if pull.files > FILES_LISTED:
        terminal.warn(
            f"GitHub lists {FILES_LISTED:,} of {pull.files:,} changed files: labels of the others are not set."
        )
    wanted = [name for name in labels_for(paths, rules) if name not in pull.labels]
    for name in wanted:
        if not github.has_label(name):
            terminal.outside(f"create the label '{name}'", partial(github.create_label, name))
    if wanted:
        terminal.outside(
            f"label #{pull.number}: {', '.join(wanted)}", lambda: github.add_labels(pull.number, wanted)
        )
    else:
        terminal.say(f"#{pull.number} has all its labels.")


def _run_e2e(pull: PullRequest, *, github: GitHub, terminal: Terminal) -> None:
    """Start the end-to-end tests, unless they are running, or have passed."""
    run = github.e2e(conf.e2e_workflow, pull.head)
    if run is None or run.state is CheckState.FAILED:
        deploy.start_e2e(pull, github=github, terminal=terminal)
    else:
        terminal.say(f"{run.name}: {run.state} {run.url}")


def _merge_when_green(pull: PullRequest, *, e2e: bool, github: GitHub, terminal: Terminal) -> Result:
    """Merge now if possible, else let GitHub merge when the checks have passed."""
    checks = github.checks(pull.head)
    if e2e and (run := github.e2e(conf.e2e_workflow, pull.head)):
        checks.append(run)
    decided = readiness(pull, checks, waited=_NONE, start=timedelta.max, timeout=timedelta.max)
    blocked = pull.mergeable_state == "blocked"  # auto-merge waits for this to end
    failing = any(check.state is CheckState.FAILED for check in checks)
    if decided.step is Step.MERGE:
        after = deploy.merge(pull, github=github, terminal=terminal)
        if after and not after.merged:
            says = (
                f"#{pull.number} is in the merge queue of {pull.base_branch}: GitHub merges it in its turn."
            )
            return Result(Outcome.HEALTHY, says)
        return Result(Outcome.HEALTHY, f"#{pull.number} is merged.", _merged(after or pull, github, terminal))
    if decided.step is Step.REFUSE and (failing or not blocked):
        raise Refused(decided.says)
    try:
        terminal.outside(f"turn on auto-merge of #{pull.number}", lambda: github.merge_when_green(pull))
    except Rejected as error:
        raise Rejected(
            f"{error} Or run deploy_with_confidence {pull.number}, which waits for the checks and merges by itself."
        ) from None
    return Result(Outcome.HEALTHY, f"#{pull.number} is merged by GitHub when it can be: {decided.says}")


def _merged(pull: PullRequest, github: GitHub, terminal: Terminal) -> dict[str, Any]:
    deployment = records.deployment_of(pull.number) or deploy.record(pull, github=github, terminal=terminal)
    return {"deployment": records.as_dict(deployment)}
