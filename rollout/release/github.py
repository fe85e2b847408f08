"""The GitHub calls of the release commands, through PyGithub. They return plain records.

Requests are retried on rate limits, 5xx and time-outs, with growing pauses, a limited number of times. A write that was
made although its answer was lost is found, not repeated.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from http import HTTPStatus
from typing import Any

import github as pygithub
import requests
from github.CheckRun import CheckRun as GithubCheckRun
from github.GithubException import BadCredentialsException, RateLimitExceededException, UnknownObjectException
from github.PullRequest import PullRequest as GithubPullRequest
from github.Repository import Repository

from rollout.conf import Settings
from rollout.release.decisions import CheckRun, CheckState, PullRequest
from rollout.release.errors import Missing, MissingPermission, Rejected, ReleaseError, Unavailable

TIMEOUT = 15  # s for an answer
RATE_LIMIT_WAIT = 60  # s; after a longer wait the command fails and says so
BACK_OFF = 0.5  # s, doubled with every retry
RETRIED = [HTTPStatus.TOO_MANY_REQUESTS.value, *range(500, 600)]
PASSED = {"success", "neutral", "skipped"}
LABEL_COLOUR = "ededed"
PRODUCTION_ISSUE = "production-issue"


@dataclass(frozen=True, slots=True)
class Revert:
    """The pull request that reverts another one."""

    number: int
    url: str
    is_open: bool
    merged: bool


class GitHub:
    """One repository on GitHub. Every method raises a :class:`~rollout.release.errors.ReleaseError`."""

    def __init__(self, *, token: str, repository: str, api_url: str, retries: int) -> None:
        self.name = repository
        retry = pygithub.GithubRetry(
            total=retries,
            backoff_factor=BACK_OFF,
            status_forcelist=RETRIED,
            secondary_rate_wait=RATE_LIMIT_WAIT,
            max_rate_limit_wait=RATE_LIMIT_WAIT,
            retry_after_max=RATE_LIMIT_WAIT,
        )
        self._client = pygithub.Github(
            auth=pygithub.Auth.Token(token),
            base_url=api_url.rstrip("/"),
            timeout=TIMEOUT,
            retry=retry,
            seconds_between_requests=None,  # reads are few; writes keep their pause of a second
            user_agent="rollout-release",
        )

    @classmethod
    def from_settings(cls, conf: Settings) -> "GitHub":
        """Connect with the token and the repository of the settings."""
        for value, name in [
            (conf.github_token, "GITHUB_TOKEN"),
            (conf.github_repository, "GITHUB_REPOSITORY"),
        ]:
            if not value:
                raise Unavailable(f"{name} is not set: GitHub cannot be asked.")
        return cls(
            token=conf.github_token,
            repository=conf.github_repository,
            api_url=conf.github_api_url,
            retries=conf.github_retries,
        )

    @classmethod
    def if_configured(cls, conf: Settings) -> "GitHub | None":
        """Connect like :meth:`from_settings`; ``None`` when GitHub is not configured."""
        return cls.from_settings(conf) if conf.github_configured else None

    @cached_property
    def _repository(self) -> Repository:
        with _asking(f"find {self.name}"):
            return self._client.get_repo(self.name)

    # --- Reading ----------------------------------------------------------------------------------------------

    def pull_request(self, number: int) -> PullRequest:
        with _asking(f"read pull request #{number}"):
            return _pull_request(self._pull(number))

    def paths(self, number: int) -> list[str]:
        """Return the paths that a pull request changes; of a renamed file, both."""
        with _asking(f"read the files of #{number}"):
            files = list(self._pull(number).get_files())
        return [path for file in files for path in (file.filename, file.previous_filename) if path]

    def checks(self, commit: str) -> list[CheckRun]:
        """Return the latest of each check run and commit status of a commit."""
        with _asking(f"read the checks of {commit[:12]}"):
            github_commit = self._repository.get_commit(commit)
            runs = [_check_run(run) for run in github_commit.get_check_runs(filter="latest")]
            statuses = [
                CheckRun(status.context, _state(status.state), status.target_url or "")
                for status in github_commit.get_combined_status().statuses
            ]
        return runs + statuses

    def e2e(self, workflow: str, commit: str) -> CheckRun | None:
        """Return the latest end-to-end run for a commit, or ``None`` when there was none."""
        with _asking(f"read the runs of {workflow}", hint=f"is there a workflow {workflow}?"):
            runs = self._repository.get_workflow(workflow).get_runs(head_sha=commit)
            run = next(iter(runs), None)
        if run is None:
            return None
        state = _state(run.conclusion) if run.status == "completed" else CheckState.PENDING
        return CheckRun(f"end-to-end ({workflow})", state, run.html_url)

    def merged_commits(self, pull: PullRequest) -> int:
        """Return how many commits a merge added to the base: 1, unless it was rebased.

        A rebase repeats the commits of the branch, so its last commit has the message of the branch's last.
        """
        if pull.commits == 1 or pull.merge_commit is None:
            return 1
        with _asking(f"read the commits of #{pull.number}"):
            merged = self._repository.get_commit(pull.merge_commit)
            head = self._repository.get_commit(pull.head)
        rebased = len(merged.parents) == 1 and merged.commit.message == head.commit.message
        return pull.commits if rebased else 1

    def has_label(self, name: str) -> bool:
        try:
            with _asking(f"read the label '{name}'"):
                self._repository.get_label(name)
        except Missing:
            return False
        return True

    def production_issues(self, since: datetime) -> list[datetime]:
        """Return when issues labelled ``production-issue`` were opened since then, open or closed."""
        if not self.has_label(PRODUCTION_ISSUE):
            raise Missing(
                f"{self.name} has no label '{PRODUCTION_ISSUE}', so no issue can have been reported."
            )
        with _asking("read the issues"):
            # `since` filters by the latest change. Pull requests are issues too; reading issue.pull_request would be
            # one more request for each issue.
            changed = self._repository.get_issues(labels=[PRODUCTION_ISSUE], state="all", since=since)
            issues = [issue.created_at for issue in changed if "/pull/" not in issue.html_url]
        return [opened for opened in issues if opened >= since]

    def pull_request_of(self, branch: str, base: str) -> Revert | None:
        """Return the latest pull request of a branch of this repository, or ``None``."""
        owner = self.name.partition("/")[0]
        with _asking(f"look for a pull request of {branch}"):
            pull = next(
                iter(self._repository.get_pulls(state="all", head=f"{owner}:{branch}", base=base)), None
            )
        return _revert(pull) if pull else None

    # --- Writing ----------------------------------------------------------------------------------------------

    def create_label(self, name: str) -> None:
        with _asking(f"create the label '{name}'"):
            self._repository.create_label(name, LABEL_COLOUR)

    def add_labels(self, number: int, labels: list[str]) -> None:
        with _asking(f"label #{number}"):
            self._pull(number).add_to_labels(*labels)

    def start_workflow(self, workflow: str, branch: str) -> None:
        """Start a workflow on a branch of this repository."""
        with _asking(
            f"start {workflow}", hint=f"is there a workflow {workflow} with the trigger workflow_dispatch?"
        ):
            self._repository.get_workflow(workflow).create_dispatch(branch, throw=True)

    def merge(self, pull: PullRequest) -> PullRequest:
        """Squash-merge exactly the commit whose checks passed, and return the merged pull request."""
        try:
            with _asking(f"merge #{pull.number}"):
                self._pull(pull.number).merge(merge_method="squash", sha=pull.head)
        except Rejected:
            # The first request may have merged it, and only its answer been lost.
            after = self.pull_request(pull.number)
            if not after.merged:
                raise
            return after
        return self.pull_request(pull.number)

    def merge_when_green(self, pull: PullRequest) -> None:
        """Let GitHub squash-merge by itself, as ``gh pr merge --squash --auto`` does."""
        with _asking(f"turn on auto-merge of #{pull.number}"):
            self._pull(pull.number).enable_automerge("SQUASH", expected_head_oid=pull.head)

    def create_pull_request(self, *, branch: str, base: str, title: str, body: str) -> Revert:
        """Open a pull request, or return the one that the branch has already."""
        try:
            with _asking(f"open a pull request of {branch}"):
                created = self._repository.create_pull(base=base, head=branch, title=title, body=body)
                return _revert(created)
        except Rejected:
            if existing := self.pull_request_of(branch, base):
                return existing
            raise

    def _pull(self, number: int) -> GithubPullRequest:
        return self._repository.get_pull(number)


# --- Records ------------------------------------------------------------------------------------------------------


def _pull_request(pull: GithubPullRequest) -> PullRequest:
    return PullRequest(
        number=pull.number,
        title=pull.title,
        url=pull.html_url,
        is_open=pull.state == "open",
        draft=bool(pull.draft),
        merged=pull.merged,
        merged_at=pull.merged_at,
        merge_commit=pull.merge_commit_sha,
        head=pull.head.sha,
        head_branch=pull.head.ref,
        base_branch=pull.base.ref,
        mergeable=pull.mergeable,
        mergeable_state=pull.mergeable_state or "unknown",
        lines=pull.additions + pull.deletions,
        commits=pull.commits,
        labels=frozenset(label.name for label in pull.labels),
    )


def _check_run(run: GithubCheckRun) -> CheckRun:
    state = _state(run.conclusion) if run.status == "completed" else CheckState.PENDING
    return CheckRun(run.name, state, run.html_url or "")


def _state(conclusion: str | None) -> CheckState:
    if conclusion in {None, "pending"}:
        return CheckState.PENDING
    return CheckState.PASSED if conclusion in PASSED else CheckState.FAILED


def _revert(pull: GithubPullRequest) -> Revert:
    return Revert(
        number=pull.number, url=pull.html_url, is_open=pull.state == "open", merged=pull.merged_at is not None
    )


# --- Errors -------------------------------------------------------------------------------------------------------


@contextmanager
def _asking(what: str, *, hint: str = "") -> Iterator[None]:
    """Turn errors of GitHub and the network into a :class:`ReleaseError` that names ``what`` failed."""
    try:
        yield
    except pygithub.GithubException as error:
        raise _sentence(error, what, hint) from None
    except requests.RequestException as error:
        raise Unavailable(f"GitHub did not answer the request to {what}: {_cause(error)}.") from None


def _sentence(error: pygithub.GithubException, what: str, hint: str) -> ReleaseError:
    says = _message(error)
    if isinstance(error, RateLimitExceededException):
        return Unavailable(f"GitHub's rate limit is used up, so it did not {what}: try again later. {says}")
    if isinstance(error, BadCredentialsException) or error.status == HTTPStatus.UNAUTHORIZED:
        return MissingPermission(f"GitHub does not accept GITHUB_TOKEN, so it did not {what}: is it expired?")
    if isinstance(error, UnknownObjectException) or error.status == HTTPStatus.NOT_FOUND:
        return Missing(
            f"GitHub could not {what}: it does not exist, or GITHUB_TOKEN may not read it{hint and '; '}{hint}."
        )
    if error.status == HTTPStatus.FORBIDDEN:
        return MissingPermission(
            f"GITHUB_TOKEN may not {what}.{_needed(error.headers or {})} {says}".rstrip()
        )
    if error.status >= 500:
        return Unavailable(f"GitHub could not {what}: it answered {error.status}.")
    return Rejected(f"GitHub will not {what}: {says or error.status}{hint and '; '}{hint}")


def _message(error: pygithub.GithubException) -> str:
    """Return GitHub's message: REST sends a message with errors, GraphQL only errors."""
    data: Any = error.data if isinstance(error.data, Mapping) else {}
    errors = [each.get("message", "") for each in data.get("errors") or [] if isinstance(each, Mapping)]
    texts = [*([error.message] if error.message else []), data.get("message") or "", *errors]
    return "; ".join(dict.fromkeys(text for text in texts if text))


def _needed(headers: Mapping[str, str | int]) -> str:
    """Return the permission that the request needs, from the headers of the answer."""
    low = {name.lower(): str(value) for name, value in headers.items()}
    if needed := low.get("x-accepted-github-permissions") or low.get("x-accepted-oauth-scopes"):
        return f" It needs {needed}."
    return ""


def _cause(error: BaseException) -> str:
    """Return the innermost reason of a failed request, without those of pools and adapters."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return str(reason or error).rpartition(": ")[2] if reason else type(error).__name__
