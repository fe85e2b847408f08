"""The GitHub calls of the release commands. They return plain records.

Every page of every list is read. A change that was made although its answer was lost is found, not repeated.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import quote

from rollout.checks import REPOSITORY, TOKEN
from rollout.conf import Settings
from rollout.release import answers
from rollout.release.api import Api
from rollout.release.decisions import (
    CheckRun,
    PullRequest,
    combined,
    counted,
    open_suite,
    state_of_run,
    state_of_status,
)
from rollout.release.errors import Busy, Missing, Rejected, ReleaseError, Unanswered, Unavailable

T = TypeVar("T")

LABEL_COLOUR = "ededed"
PRODUCTION_ISSUE = "production-issue"
QUEUE = """query($id: ID!) { node(id: $id) { ... on PullRequest { isInMergeQueue } } }"""
ENQUEUE = """mutation($input: EnqueuePullRequestInput!) {
    enqueuePullRequest(input: $input) { mergeQueueEntry { position } }
}"""
AUTO_MERGE = """mutation($input: EnablePullRequestAutoMergeInput!) {
    enablePullRequestAutoMerge(input: $input) { clientMutationId }
}"""


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
        self._api = Api(token=token, url=api_url, retries=retries)

    @classmethod
    def from_settings(cls, conf: Settings) -> "GitHub":
        """Connect with the token and the repository of the settings."""
        for value, name in [
            (conf.github_token, "GITHUB_TOKEN"),
            (conf.github_repository, "GITHUB_REPOSITORY"),
        ]:
            if not value:
                raise Unavailable(f"{name} is not set: GitHub cannot be asked.")
        if not REPOSITORY.fullmatch(conf.github_repository):
            raise Unavailable(f"GITHUB_REPOSITORY is '{conf.github_repository}': it should be OWNER/NAME.")
        if not TOKEN.fullmatch(conf.github_token):
            raise Unavailable(
                "GITHUB_TOKEN has a character that no token has: was it copied with a space or a line?"
            )
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

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Begin no pause that lasts longer than so many seconds from now."""
        with self._api.within(seconds):
            yield

    def has_time_after(self, error: Busy | Unanswered) -> bool:
        """Return whether the command has time left for another look, after the pause that GitHub asks for."""
        return self._api.has_time_for(error.until - time.time() if isinstance(error, Busy) else 0)

    @cached_property
    def _full_name(self) -> str:
        """The present name: GitHub redirects from those that a repository had before, and loses queries then."""
        found = self._api.get(f"find {self.name}", f"/repos/{quote(self.name)}", answers.Repository)
        return found.full_name

    @property
    def _path(self) -> str:
        return f"/repos/{quote(self._full_name)}"

    # --- Reading ----------------------------------------------------------------------------------------------

    def pull_request(self, number: int) -> PullRequest:
        what = f"read pull request #{number}"
        pull = _pull_request(self._api.get(what, f"{self._path}/pulls/{number}", answers.WholePull))
        if pull.is_open and pull.mergeable_state in {"blocked", "behind"}:
            return replace(pull, has_queue=self._has_queue(pull.base_branch))
        return pull

    def paths(self, number: int) -> list[str]:
        """Return the paths that a pull request changes; of a renamed file, both. GitHub lists 3,000 files."""
        pages = self._api.pages(
            f"read the files of #{number}", f"{self._path}/pulls/{number}/files", list[answers.File]
        )
        files = [file for page in pages for file in page]
        return [path for file in files for path in (file.filename, file.previous_filename) if path]

    def checks(self, commit: str) -> list[CheckRun]:
        """Return the latest of each check run and commit status of a commit, and what speaks against a merge else."""
        return [*self._check_runs(commit), *self._check_suites(commit), *self._statuses(commit)]

    def _of_commit(self, commit: str, what: str, path: str, shape: type[T], **parameters: str) -> list[T]:
        """Read every page of a list that belongs to a commit."""
        address = f"{self._path}/commits/{commit}/{path}"
        return list(self._api.pages(f"read the {what} of {commit[:12]}", address, shape, **parameters))

    def _check_runs(self, commit: str) -> list[CheckRun]:
        pages = self._of_commit(commit, "check runs", "check-runs", answers.CheckRuns, filter="latest")
        runs = {run.id: run for page in pages for run in page.check_runs}
        return [
            *(
                CheckRun(run.name, state_of_run(run.status, run.conclusion), run.html_url or "")
                for run in runs.values()
            ),
            *counted("check runs", pages[-1].total_count, len(runs)),
        ]

    def _check_suites(self, commit: str) -> list[CheckRun]:
        """Return the check suites that have not passed, whatever their check runs say."""
        try:
            pages = self._of_commit(commit, "check suites", "check-suites", answers.CheckSuites)
        except Missing:  # its check runs were there: this API has no suites
            return []
        suites = {suite.id: suite for page in pages for suite in page.check_suites}
        found = [
            open_suite(
                app.name,
                app.slug or "",
                suite.status,
                suite.conclusion,
                runs=suite.latest_check_runs_count,
            )
            for suite in suites.values()
            for app in [suite.app or answers.App()]
        ]
        total = pages[-1].total_count
        return [*(each for each in found if each), *counted("check suites", total, len(suites))]

    def _statuses(self, commit: str) -> list[CheckRun]:
        pages = self._of_commit(commit, "commit statuses", "status", answers.CombinedStatus)
        latest: dict[str, answers.Status] = {}
        for status in (each for page in pages for each in page.statuses):
            before = latest.get(status.context)
            if before is None or (
                status.updated_at and before.updated_at and status.updated_at > before.updated_at
            ):
                latest[status.context] = status
        checks = [
            CheckRun(status.context, state_of_status(status.state), status.target_url or "")
            for status in latest.values()
        ]
        total = pages[-1].total_count
        return [*checks, *counted("commit statuses", total, len(checks)), *combined(pages[-1].state, checks)]

    def e2e(self, workflow: str, commit: str) -> CheckRun | None:
        """Return the latest end-to-end run for a commit, or ``None`` when there was none."""
        run = self._latest_run(workflow, self._workflow(workflow), commit)
        if run is None:
            return None
        state = state_of_run(run.status, run.conclusion)
        return CheckRun(f"end-to-end ({workflow})", state, run.html_url)

    def _workflow(self, workflow: str) -> str:
        """Return the path of a workflow, which is found by its file name."""
        found = self._api.get(
            f"read {workflow}",
            f"{self._path}/actions/workflows/{quote(workflow)}",
            answers.Workflow,
            hint=f"is there a workflow {workflow}?",
        )
        return f"{self._path}/actions/workflows/{found.id}"

    def _latest_run(self, workflow: str, path: str, commit: str) -> answers.WorkflowRun | None:
        pages = self._api.pages(
            f"read the runs of {workflow}", f"{path}/runs", answers.WorkflowRuns, head_sha=commit
        )
        return max(
            (run for page in pages for run in page.workflow_runs), key=lambda run: run.id, default=None
        )

    def merged_commits(self, pull: PullRequest) -> int:
        """Return how many commits a merge added to the base: 1, unless it was rebased.

        A rebase repeats the commits of the branch, so its last commit has the message of the branch's last.
        """
        if pull.commits == 1 or pull.merge_commit is None:
            return 1
        what = f"read the commits of #{pull.number}"
        merged, head = (
            self._api.get(what, f"{self._path}/commits/{commit}", answers.Commit)
            for commit in (pull.merge_commit, pull.head)
        )
        rebased = len(merged.parents) == 1 and merged.commit.message == head.commit.message
        return pull.commits if rebased else 1

    def has_label(self, name: str) -> bool:
        try:
            self._api.get(
                f"read the label '{name}'", f"{self._path}/labels/{quote(name, safe='')}", answers.Label
            )
        except Missing:
            return False
        return True

    def production_issues(self, since: datetime) -> list[datetime]:
        """Return when issues labelled ``production-issue`` were opened since then, open or closed."""
        if not self.has_label(PRODUCTION_ISSUE):
            raise Missing(
                f"{self.name} has no label '{PRODUCTION_ISSUE}', so no issue can have been reported."
            )
        pages = self._api.pages(
            "read the issues",
            f"{self._path}/issues",
            list[answers.Issue],
            labels=PRODUCTION_ISSUE,
            state="all",
            since=f"{since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",  # of the latest change
        )
        # Pull requests are issues too.
        issues = [issue for page in pages for issue in page if "/pull/" not in issue.html_url]
        return [issue.created_at for issue in issues if issue.created_at >= since]

    def pull_request_of(self, branch: str, base: str) -> Revert | None:
        """Return the latest pull request of a branch of this repository, or ``None``."""
        owner = self._full_name.partition("/")[0]
        pages = self._api.pages(
            f"look for a pull request of {branch}",
            f"{self._path}/pulls",
            list[answers.Pull],
            state="all",
            head=f"{owner}:{branch}",
            base=base,
        )
        # GitHub ignores a filter that it does not understand, so what it found is looked at again.
        found = (pull for page in pages for pull in page if (pull.head.ref, pull.base.ref) == (branch, base))
        latest = next(found, None)
        return _revert(latest) if latest else None

    def is_queued(self, pull: PullRequest) -> bool | None:
        """Return whether a pull request is in a merge queue; ``None`` where GitHub does not say."""
        try:
            return self._queue(pull).is_in_merge_queue
        except Busy:
            raise
        except ReleaseError:  # an older GitHub Enterprise Server, or a token that may not ask
            return None

    def _has_queue(self, branch: str) -> bool:
        """Return whether the rules of a branch have a merge queue. GitHub does not list those of older protections."""
        pages = self._api.pages(
            f"read the rules of {branch}",
            f"{self._path}/rules/branches/{quote(branch, safe='')}",
            list[answers.Rule],
        )
        try:
            return any(rule.type == "merge_queue" for page in pages for rule in page)
        except Missing:
            return False

    def _queue(self, pull: PullRequest) -> answers.QueuedPull:
        what = f"read the merge queue of {pull.base_branch}"
        found = self._api.query(what, QUEUE, {"id": pull.node}, answers.Node).node
        if found is None:
            raise Missing(f"GitHub could not {what}: it does not find #{pull.number}.")
        return found

    # --- Writing ----------------------------------------------------------------------------------------------

    def create_label(self, name: str) -> None:
        self._api.attempt(
            lambda: self._api.send(
                f"create the label '{name}'",
                "POST",
                f"{self._path}/labels",
                {"name": name, "color": LABEL_COLOUR},
                answers.Label,
            ),
            lambda: self.has_label(name) or None,
        )

    def add_labels(self, number: int, labels: list[str]) -> None:
        # Adding them again changes nothing.
        self._api.attempt(
            lambda: self._api.send(
                f"label #{number}",
                "POST",
                f"{self._path}/issues/{number}/labels",
                labels,
                list[answers.Label],
            )
        )

    def start_workflow(self, workflow: str, pull: PullRequest) -> None:
        """Start a workflow on the branch of a pull request.

        Raises:
            Rejected: the branch is a fork's, where GitHub starts no workflow for others.
        """
        if pull.fork:
            raise Rejected(
                f"#{pull.number} comes from the fork {pull.fork}, and GitHub starts {workflow} only on branches of "
                f"{self._full_name}: let {workflow} run on pull requests too and approve its run on the pull "
                f"request's page, or push the commits to a branch of {self._full_name} and open a pull request of it."
            )
        path = self._workflow(workflow)
        before = self._latest_run(workflow, path, pull.head)

        def started() -> bool | None:
            after = self._latest_run(workflow, path, pull.head)
            return True if after and (before is None or after.id > before.id) else None

        self._api.attempt(
            lambda: self._api.send(
                f"start {workflow}",
                "POST",
                f"{path}/dispatches",
                {"ref": pull.head_branch, "inputs": {}},
                dict[str, Any],
                hint=f"has {workflow} the trigger workflow_dispatch?",
            ),
            started,
        )

    def merge(self, pull: PullRequest) -> PullRequest:
        """Squash-merge exactly the commit whose checks passed, or put it in the merge queue of its base.

        Returns:
            The pull request afterwards: merged, or waiting in the queue.
        """
        if pull.has_queue:
            return self._enqueue(pull)
        try:
            return self._api.attempt(lambda: self._merge_now(pull), lambda: self._if_merged(pull))
        except Rejected as error:
            if "merge queue" in str(error).lower():
                return self._enqueue(pull)
            raise

    def _merge_now(self, pull: PullRequest) -> PullRequest:
        self._api.send(
            f"merge #{pull.number}",
            "PUT",
            f"{self._path}/pulls/{pull.number}/merge",
            {"merge_method": "squash", "sha": pull.head},
            answers.Merged,
        )
        return self.pull_request(pull.number)

    def _if_merged(self, pull: PullRequest) -> PullRequest | None:
        after = self.pull_request(pull.number)
        return after if after.merged else None

    def _enqueue(self, pull: PullRequest) -> PullRequest:
        """Enter the merge queue, which merges with the method that it is set to."""

        def entered() -> PullRequest | None:
            return self._if_merged(pull) or (pull if self.is_queued(pull) else None)

        def enter() -> PullRequest:
            given = {"pullRequestId": pull.node, "expectedHeadOid": pull.head}
            self._api.mutate(f"put #{pull.number} in the merge queue", ENQUEUE, {"input": given})
            return self.pull_request(pull.number)

        return self._api.attempt(enter, entered)

    def merge_when_green(self, pull: PullRequest) -> None:
        """Let GitHub squash-merge by itself, as ``gh pr merge --squash --auto`` does."""
        given = {"pullRequestId": pull.node, "mergeMethod": "SQUASH", "expectedHeadOid": pull.head}

        def on() -> bool | None:
            after = self.pull_request(pull.number)
            return after.merged or after.auto_merge or None

        self._api.attempt(
            lambda: self._api.mutate(f"turn on auto-merge of #{pull.number}", AUTO_MERGE, {"input": given}),
            on,
        )

    def create_pull_request(self, *, branch: str, base: str, title: str, body: str) -> Revert:
        """Open a pull request, or return the one that the branch has already."""

        def create() -> Revert:
            given = {"title": title, "head": branch, "base": base, "body": body}
            what = f"open a pull request of {branch}"
            return _revert(self._api.send(what, "POST", f"{self._path}/pulls", given, answers.Pull))

        return self._api.attempt(create, lambda: self.pull_request_of(branch, base))


# --- Records ------------------------------------------------------------------------------------------------------


def _pull_request(pull: answers.WholePull) -> PullRequest:
    head, base = pull.head.repo, pull.base.repo
    own = base is None or (head is not None and head.full_name == base.full_name)
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
        files=pull.changed_files,
        node=pull.node_id,
        fork="" if own else (head.full_name if head else "that was deleted"),
        auto_merge=pull.auto_merge is not None,
    )


def _revert(pull: answers.Pull) -> Revert:
    return Revert(
        number=pull.number, url=pull.html_url, is_open=pull.state == "open", merged=pull.merged_at is not None
    )
