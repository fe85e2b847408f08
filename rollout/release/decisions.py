"""What the release commands decide. Pure: no Django, no clock, no I/O."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum

from rollout.judge.policy import Policy
from rollout.judge.scoring import Signal, score_signal, worst
from rollout.judge.state import Action
from rollout.units import duration

SIZE_WARNING = 1000  # changed lines (runbook, "PR Size Check")
POINTS_ISSUE = 5  # of one issue labelled `production-issue`, where there is no telemetry (design §6)


class Outcome(IntEnum):
    """How a release command ended: its exit code."""

    HEALTHY = 0
    UNHEALTHY = 1  # or rolled back
    UNKNOWN = 2  # nobody could tell


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


@dataclass(frozen=True, slots=True)
class PullRequest:
    """A pull request, as GitHub has it now."""

    number: int
    title: str
    url: str
    is_open: bool
    draft: bool
    merged: bool
    merged_at: datetime | None
    merge_commit: str | None  # what the merge put on the base; before it, GitHub's trial merge
    head: str  # commit
    head_branch: str
    base_branch: str
    mergeable: bool | None  # None: GitHub is still trying
    mergeable_state: str
    lines: int  # added and deleted
    commits: int
    labels: frozenset[str]


class Step(StrEnum):
    """What to do about a pull request that is to be merged."""

    MERGE = "merge"
    WAIT = "wait"
    REFUSE = "refuse"
    GIVE_UP = "give_up"  # nobody can tell
    DONE = "done"  # it is merged


@dataclass(frozen=True, slots=True)
class Readiness:
    step: Step
    says: str


def readiness(
    pull: PullRequest, checks: Sequence[CheckRun], *, waited: timedelta, start: timedelta, patience: timedelta
) -> Readiness:
    """Decide what to do about a pull request and the checks of its head.

    ``start`` is how long to wait for a first check, ``patience`` how long for all of them.
    """
    if pull.merged:
        return Readiness(Step.DONE, f"#{pull.number} is merged")
    if says := _flaw(pull) or _failing(pull, checks):
        return Readiness(Step.REFUSE, says)
    if awaited := _awaited(pull, checks):
        if waited < (patience if checks else start):
            return Readiness(Step.WAIT, f"waiting for {awaited}")
        hint = "" if checks else " Are Actions enabled, and does a workflow run on pull requests?"
        return Readiness(Step.GIVE_UP, f"After {duration(waited)}, still waiting for {awaited}.{hint}")
    if says := _rule(pull):
        return Readiness(Step.REFUSE, says)
    return Readiness(Step.MERGE, f"all {len(checks)} checks passed")


def may_be_merged(pull: PullRequest) -> bool:
    """Tell whether nothing but checks and reviews can keep a pull request from being merged."""
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
    """Say what is still to come; "" for nothing."""
    if not checks:
        return f"a first check of {pull.head[:12]}"
    pending = [check for check in checks if check.state is CheckState.PENDING]
    return _named(pending) or ("GitHub to try the merge" if pull.mergeable is None else "")


def _rule(pull: PullRequest) -> str:
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
    """Return a warning for a pull request that is too long to be read well, else "" (runbook, "PR Size Check")."""
    if pull.lines < SIZE_WARNING:
        return ""
    return f"#{pull.number} changes {pull.lines:,} lines, and {SIZE_WARNING:,} are many to review: can it be split?"


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
    """Tell whether a path matches a glob as actions/labeler reads it: ``*`` stays in its directory, ``**`` does not."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", glob)
    return re.fullmatch("".join(GLOB.get(part, re.escape(part)) for part in parts), path) is not None


# --- After the merge ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one check of the judge, or GitHub in its stead, said about a feature."""

    feature: str
    stage: int
    at: datetime
    signal: Signal
    score: int
    says: str
    silent: bool = False  # nobody can tell, for no browser was heard
    source: str = "telemetry"  # or issues, where it is silent
    action: Action = Action.NONE  # what the judge did


@dataclass(frozen=True, slots=True)
class Verdict:
    outcome: Outcome
    says: str
    tripped: bool = False  # roll back
    rolled_back: bool = False  # the judge has, or an earlier run
    features: tuple[str, ...] = ()  # which


def by_issues(sighting: Sighting, issues: int, policy: Policy) -> Sighting:
    """Let so many open issues speak where browsers are silent. They can condemn, and never acquit."""
    if not sighting.silent:
        return sighting
    score = POINTS_ISSUE * issues
    red = score_signal(score, policy) is Signal.RED
    return replace(
        sighting,
        signal=Signal.RED if red else Signal.NO_DATA,
        score=score,
        source="issues",
        says=f"no telemetry; {issues} production issues since the deployment: {score} points",
    )


def without_issues(sighting: Sighting, why: str) -> Sighting:
    """Say why nobody knows of issues either."""
    return replace(sighting, says=f"{sighting.says}; GitHub's issues: {why}") if sighting.silent else sighting


def consecutive_reds(sightings: Iterable[Sighting]) -> int:
    """Count the red ones at the end, as the judge does: a hold neither adds to them nor ends them, a new stage does."""
    reds, stage = 0, None
    for sighting in sightings:
        if sighting.stage != stage:
            reds, stage = 0, sighting.stage
        if sighting.signal is Signal.RED:
            reds += 1
        elif sighting.signal is not Signal.NO_DATA:
            reds = 0
    return reds


def verdict(
    sightings: Sequence[Sighting], *, breaker: int, until: datetime, now: datetime, interval: timedelta
) -> Verdict | None:
    """Judge a monitoring from ``sightings``, oldest first, that is to last ``until``. ``None``: go on.

    ``breaker`` consecutive red ones of a feature trip it (runbook, "Circuit Breaker"), at any time. At the end the
    latest sighting of every feature counts, provided that there is one: no data is never healthy.
    """
    for sighting in sightings:
        if sighting.action is Action.ROLL_BACK:
            says = f"The judge rolled {sighting.feature} back: {sighting.says}"
            return Verdict(Outcome.UNHEALTHY, says, rolled_back=True, features=(sighting.feature,))
    by_feature: dict[str, list[Sighting]] = {}
    for sighting in sightings:
        by_feature.setdefault(sighting.feature, []).append(sighting)
    for feature, seen in by_feature.items():
        if (reds := consecutive_reds(seen)) >= breaker:
            says = f"{feature}: {reds} consecutive red checks, the latest: {seen[-1].says}"
            return Verdict(Outcome.UNHEALTHY, says, tripped=True, features=(feature,))
    if now < until:
        return None
    return _final([seen[-1] for seen in by_feature.values()], until=until, longest=breaker * interval)


def _final(latest: Sequence[Sighting], *, until: datetime, longest: timedelta) -> Verdict:
    if not latest:
        return Verdict(Outcome.UNKNOWN, "Nothing was judged in all that time.")
    signal = worst(sighting.signal for sighting in latest)
    says = "; ".join(
        f"{sighting.feature}: {sighting.says}" for sighting in latest if sighting.signal is signal
    )
    if signal is Signal.RED:
        return Verdict(Outcome.UNHEALTHY, f"Red at the end. {says}")
    done = {each.feature for each in latest if each.action is Action.COMPLETE}  # and judged no more
    if late := [each for each in latest if until - each.at > longest and each.feature not in done]:
        return Verdict(
            Outcome.UNKNOWN,
            f"Nobody judged {late[0].feature} after {late[0].at:%H:%M} UTC, until {until:%H:%M}.",
        )
    if signal is Signal.NO_DATA:
        return Verdict(Outcome.UNKNOWN, f"Nobody can tell at the end. {says}")
    return Verdict(Outcome.HEALTHY, f"{signal.capitalize()} at the end. {says}")


def is_overdue(now: datetime, judged_at: datetime, interval: timedelta) -> bool:
    """Tell whether Celery beat seems to be away: a check is half an interval late."""
    return now - judged_at > 1.5 * interval


def revert_branch(pull_request: int, commit: str) -> str:
    """Return the name of the branch of a revert: the same for every run, and for no other commit."""
    return f"revert-{pull_request}-{commit[:12]}"


def rules_of(document: Mapping[str, object]) -> Iterator[tuple[str, list[str]]]:
    """Read ``.github/labeler.yml`` (actions/labeler 5): ``(label, globs)``.

    Of its rules those about changed files that any glob may match, which is what this repository uses.
    """
    for label, rules in document.items():
        globs: list[str] = []
        for rule in rules if isinstance(rules, list) else []:
            for condition in rule.get("changed-files", []):
                found = condition.get("any-glob-to-any-file", [])
                globs += [found] if isinstance(found, str) else found
        yield label, globs
