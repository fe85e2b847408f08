"""The decisions of the release commands. Pure: no Django, no clock, no I/O."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum

from rollout.judge.policy import Policy
from rollout.judge.scoring import Signal, worst
from rollout.judge.state import Action
from rollout.units import duration

SIZE_WARNING = 1000  # changed lines (runbook, "PR Size Check")
MISSED_MAX = 1  # looks
POINTS_ISSUE = 5  # of one issue labelled `production-issue`, where there is no telemetry (design §6)


class Outcome(IntEnum):
    """The result of a release command: its exit code."""

    HEALTHY = 0
    UNHEALTHY = 1  # or rolled back
    UNKNOWN = 2  # the command could not tell


# --- Before the merge ---------------------------------------------------------------------------------------------


class CheckState(StrEnum):
    PASSED = "passed"
    PENDING = "pending"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CheckRun:
    """A check of a commit: a check run, a commit status or the end-to-end tests."""

    name: str
    state: CheckState
    url: str = ""


PASSED = {"success", "neutral", "skipped"}  # as GitHub's rules for branches count them
FAILED_SUITE = {"failure", "timed_out", "startup_failure", "action_required"}
ACTIONS = "github-actions"  # creates a check run for every job; other apps have suites that never start


def state_of_run(status: str | None, conclusion: str | None) -> CheckState:
    """Return the state of a check run. What is not known to have passed has not."""
    if status != "completed" or conclusion is None:
        return CheckState.PENDING
    return CheckState.PASSED if conclusion in PASSED else CheckState.FAILED


def state_of_status(state: str) -> CheckState:
    """Return the state of a commit status, or of all of a commit."""
    if state == "pending":
        return CheckState.PENDING
    return CheckState.PASSED if state == "success" else CheckState.FAILED


def counted(what: str, announced: int, read: int) -> list[CheckRun]:
    """Return a pending check where GitHub counts other entries than were read, so that nothing is known of some.

    A list may change between two pages, and GitHub lists at most the latest 1,000 check suites.
    """
    if announced == read:
        return []
    return [CheckRun(f"all {what} ({read:,} of {announced:,} were read)", CheckState.PENDING)]


def combined(state: str, statuses: Sequence[CheckRun]) -> list[CheckRun]:
    """Return a check of GitHub's combined state where it is worse than the statuses that were read.

    Without a status, "pending" says nothing.
    """
    whole = state_of_status(state)
    known = {status.state for status in statuses} or {CheckState.PENDING}
    if whole is CheckState.PASSED or whole in known:
        return []
    return [CheckRun(f"combined status ({state})", whole)]


def open_suite(
    app: str, slug: str, status: str | None, conclusion: str | None, *, runs: int
) -> CheckRun | None:
    """Return a check for a check suite that has not passed, ``None`` if it says nothing.

    A workflow that needs an approval, or whose file is wrong, has no check run that could fail. One whose later jobs
    wait for the first ones has check runs that all passed, and is under way.
    """
    if conclusion in FAILED_SUITE:
        return CheckRun(f"{app or 'a check suite'} ({conclusion.replace('_', ' ')})", CheckState.FAILED)
    if status != "completed" and (runs or slug == ACTIONS):
        return CheckRun(f"{app or slug} ({status or 'not started'})", CheckState.PENDING)
    return None


@dataclass(frozen=True, slots=True)
class PullRequest:
    """The present state of a pull request on GitHub."""

    number: int
    title: str
    url: str
    is_open: bool
    draft: bool
    merged: bool
    merged_at: datetime | None
    merge_commit: str | None  # of the base after the merge; before it, GitHub's trial merge
    head: str  # commit
    head_branch: str
    base_branch: str
    mergeable: bool | None  # None: GitHub has not tried the merge yet
    mergeable_state: str
    lines: int  # added and deleted
    commits: int
    labels: frozenset[str]
    files: int = 0  # that it changes
    node: str = ""  # its id in GraphQL
    fork: str = ""  # the repository that it comes from, if that is another one
    auto_merge: bool = False
    # Its base has a merge queue, as far as its rules say; they are read if the merge seems blocked.
    has_queue: bool = False


class Step(StrEnum):
    """The next step towards the merge of a pull request."""

    MERGE = "merge"
    WAIT = "wait"
    REFUSE = "refuse"
    GIVE_UP = "give_up"  # the time is up without an answer
    DONE = "done"  # merged already


@dataclass(frozen=True, slots=True)
class Readiness:
    step: Step
    says: str


def readiness(
    pull: PullRequest, checks: Sequence[CheckRun], *, waited: timedelta, start: timedelta, timeout: timedelta
) -> Readiness:
    """Return the next step for a pull request, from the CI checks of its head.

    ``start`` is how long to wait for a first check, ``timeout`` how long for all of them.
    """
    if pull.merged:
        return Readiness(Step.DONE, f"#{pull.number} is merged")
    if says := _flaw(pull) or _failing(pull, checks):
        return Readiness(Step.REFUSE, says)
    if awaited := _awaited(pull, checks):
        if waited < (timeout if checks else min(start, timeout)):
            return Readiness(Step.WAIT, f"waiting for {awaited}")
        hint = "" if checks else " Are Actions enabled, and does a workflow run on pull requests?"
        return Readiness(Step.GIVE_UP, f"After {duration(waited)}, still waiting for {awaited}.{hint}")
    if says := _rule(pull):
        return Readiness(Step.REFUSE, says)
    return Readiness(Step.MERGE, f"all {len(checks)} checks passed")


def in_queue(pull: PullRequest, *, missed: int, waited: timedelta, timeout: timedelta) -> Readiness:
    """Return the next step for a pull request that entered a merge queue.

    ``missed``: how many looks in a row did not find it there. One may have been between the queue and the merge.
    """
    queue = f"the merge queue of {pull.base_branch}"
    if pull.merged:
        return Readiness(Step.DONE, f"#{pull.number} is merged")
    if says := _flaw(pull):
        return Readiness(Step.REFUSE, says)
    if missed > MISSED_MAX:
        says = f"#{pull.number} left {queue} without a merge: look at its page, then run the command again."
        return Readiness(Step.REFUSE, says)
    if waited < timeout:
        return Readiness(Step.WAIT, f"#{pull.number} is in {queue}")
    says = f"After {duration(waited)}, #{pull.number} is still in {queue}: run the command again to go on waiting."
    return Readiness(Step.GIVE_UP, says)


def may_be_merged(pull: PullRequest) -> bool:
    """Return whether only CI checks and reviews can still prevent a merge."""
    return not pull.merged and not _flaw(pull)


def _flaw(pull: PullRequest) -> str:
    if not pull.is_open:
        return f"#{pull.number} was closed without a merge."
    if pull.draft:
        return f"#{pull.number} is a draft: mark it as ready for review."
    if pull.mergeable is False or pull.mergeable_state == "dirty":
        return f"#{pull.number} conflicts with {pull.base_branch}: bring its branch up to date."
    return ""


def _failing(pull: PullRequest, checks: Sequence[CheckRun]) -> str:
    failed = [check for check in checks if check.state is CheckState.FAILED]
    return f"#{pull.number} has failing checks: {_named(failed)}." if failed else ""


def _awaited(pull: PullRequest, checks: Sequence[CheckRun]) -> str:
    """Return what the merge still waits for; "" for nothing."""
    if not checks:
        return f"a first check of {pull.head[:12]}"
    pending = [check for check in checks if check.state is CheckState.PENDING]
    return _named(pending) or ("GitHub to try the merge" if pull.mergeable is None else "")


def _rule(pull: PullRequest) -> str:
    if pull.has_queue:  # it refuses what must not enter, and updates what is behind
        return ""
    match pull.mergeable_state:
        case "blocked":
            return (
                f"#{pull.number} is blocked by the rules of {pull.base_branch}: a review or a required check is "
                f"missing."
            )
        case "behind":
            return f"#{pull.number} is behind {pull.base_branch}: update its branch."
    return ""


def _named(checks: Sequence[CheckRun]) -> str:
    return ", ".join(sorted({check.name for check in checks}))


def size_warning(pull: PullRequest) -> str:
    """Return a warning for a pull request that is too long to review, else "" (runbook, "PR Size Check")."""
    if pull.lines < SIZE_WARNING:
        return ""
    return (
        f"#{pull.number} changes {pull.lines:,} lines ({SIZE_WARNING:,} are many to review): can it be split?"
    )


# --- Labels by path -----------------------------------------------------------------------------------------------


def labels_for(paths: Iterable[str], rules: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the labels of the changed paths: ``{label: globs}``, in the order of the rules."""
    paths = list(paths)
    return [
        label
        for label, globs in rules.items()
        if any(matches(path, pattern) for path in paths for pattern in globs)
    ]


GLOB = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def matches(path: str, glob: str) -> bool:
    """Return whether a path matches a glob of actions/labeler: ``*`` stays in its directory, ``**`` does not."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", glob)
    return re.fullmatch("".join(GLOB.get(part, re.escape(part)) for part in parts), path) is not None


# --- After the merge ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Observation:
    """The result of one check of a feature: the judge's, or that of GitHub's issues where there is no telemetry."""

    feature: str
    stage: int
    at: datetime
    signal: Signal
    score: int
    says: str
    fresh: bool = True  # it brought new evidence for its red; else it is merely still red
    silent: bool = False  # no data: no browser has sent a heartbeat
    source: str = "telemetry"  # or "issues", where telemetry is silent
    action: Action = Action.NONE  # of the judge


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of a monitoring, and its reason."""

    outcome: Outcome
    says: str
    tripped: bool = False  # roll back
    rolled_back: bool = False  # by the judge or an earlier run
    features: tuple[str, ...] = ()  # to roll back, or rolled back


def by_issues(observation: Observation, issues: int, policy: Policy) -> Observation:
    """Score the production issues where telemetry is silent. They can make it red, but never green.

    Each such red counts: an open issue is not an event that happened once, but trouble that goes on.
    """
    if not observation.silent:
        return observation
    score = POINTS_ISSUE * issues
    red = score >= policy.error_threshold
    return replace(
        observation,
        signal=Signal.RED if red else Signal.NO_DATA,
        score=score,
        fresh=True,
        source="issues",
        says=f"no telemetry; {issues} production issues since the deployment: {score} points",
    )


def without_issues(observation: Observation, why: str) -> Observation:
    """Add the reason why GitHub's issues are not known either."""
    return (
        replace(observation, says=f"{observation.says}; GitHub's issues: {why}")
        if observation.silent
        else observation
    )


def consecutive_reds(observations: Iterable[Observation]) -> int:
    """Count the red observations at the end, as the judge does.

    *No data*, and what is merely still red, neither add nor end the row; a new stage begins anew.
    """
    reds, stage = 0, None
    for observation in observations:
        if observation.stage != stage:
            reds, stage = 0, observation.stage
        if observation.signal is Signal.RED:
            reds += observation.fresh
        elif observation.signal is not Signal.NO_DATA:
            reds = 0
    return reds


def verdict(
    observations: Sequence[Observation], *, breaker: int, until: datetime, now: datetime, interval: timedelta
) -> Verdict | None:
    """Return the verdict of a monitoring that lasts ``until``, or ``None`` to go on. Observations: oldest first.

    ``breaker`` consecutive red observations of a feature trip it (runbook, "Circuit Breaker") at any time. At the end
    the latest observation of every feature counts. Without any, the outcome is unknown: no data is never healthy.
    """
    for observation in observations:
        if observation.action is Action.ROLL_BACK:
            says = f"The judge rolled {observation.feature} back: {observation.says}"
            return Verdict(Outcome.UNHEALTHY, says, rolled_back=True, features=(observation.feature,))
    by_feature: dict[str, list[Observation]] = {}
    for observation in observations:
        by_feature.setdefault(observation.feature, []).append(observation)
    for feature, seen in by_feature.items():
        if (reds := consecutive_reds(seen)) >= breaker:
            says = f"{feature}: {reds} consecutive red checks, the latest: {seen[-1].says}"
            return Verdict(Outcome.UNHEALTHY, says, tripped=True, features=(feature,))
    if now < until:
        return None
    return _final([seen[-1] for seen in by_feature.values()], until=until, longest=breaker * interval)


def _final(latest: Sequence[Observation], *, until: datetime, longest: timedelta) -> Verdict:
    if not latest:
        return Verdict(Outcome.UNKNOWN, "The judge made no check in that time.")
    signal = worst(observation.signal for observation in latest)
    says = "; ".join(
        f"{observation.feature}: {observation.says}" for observation in latest if observation.signal is signal
    )
    if signal is Signal.RED:
        return Verdict(Outcome.UNHEALTHY, f"Red at the end. {says}")
    # The judge has stopped evaluating these.
    done = {each.feature for each in latest if each.action is Action.COMPLETE}
    if late := [each for each in latest if until - each.at > longest and each.feature not in done]:
        return Verdict(
            Outcome.UNKNOWN,
            f"The judge made no check of {late[0].feature} from {late[0].at:%H:%M} to {until:%H:%M} UTC.",
        )
    if signal is Signal.NO_DATA:
        return Verdict(Outcome.UNKNOWN, f"No data at the end. {says}")
    return Verdict(Outcome.HEALTHY, f"{signal.capitalize()} at the end. {says}")


def is_overdue(now: datetime, judged_at: datetime, interval: timedelta) -> bool:
    """Return whether Celery beat seems not to run: a check is half an interval late."""
    return now - judged_at > 1.5 * interval


def revert_branch(pull_request: int, commit: str) -> str:
    """Return the branch name of a revert: the same for every run, and different for every commit."""
    return f"revert-{pull_request}-{commit[:12]}"


def rules_of(document: Mapping[str, object]) -> Iterator[tuple[str, list[str]]]:
    """Yield ``(label, globs)`` of ``.github/labeler.yml`` (actions/labeler 5).

    Only the rules that this repository uses are read: ``changed-files`` with ``any-glob-to-any-file``.
    """
    for label, rules in document.items():
        globs: list[str] = []
        for rule in rules if isinstance(rules, list) else []:
            for condition in rule.get("changed-files", []):
                patterns = condition.get("any-glob-to-any-file", [])
                globs += [patterns] if isinstance(patterns, str) else patterns
        yield label, globs
