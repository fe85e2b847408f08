"""The parts of GitHub's answers that the release commands read. An answer without them is not GitHub's."""

from datetime import datetime
from typing import Any

from msgspec import Struct, field


class Repository(Struct):
    full_name: str


class Head(Struct):
    """An end of a pull request. ``repo`` is null where its fork was deleted."""

    ref: str
    sha: str
    repo: Repository | None = None


class Label(Struct):
    name: str


class Pull(Struct):
    """A pull request in a list."""

    number: int
    title: str
    html_url: str
    state: str
    head: Head
    base: Head
    merged_at: datetime | None = None
    merge_commit_sha: str | None = None
    draft: bool | None = False
    labels: list[Label] = field(default_factory=list)
    auto_merge: dict[str, Any] | None = None
    node_id: str = ""


class WholePull(Pull, kw_only=True):
    """A pull request that was read by its number."""

    merged: bool
    mergeable: bool | None
    mergeable_state: str | None
    additions: int
    deletions: int
    commits: int
    changed_files: int


class Merged(Struct):
    merged: bool


class File(Struct):
    filename: str
    previous_filename: str | None = None


class App(Struct):
    name: str = ""
    slug: str | None = None


class CheckRun(Struct):
    id: int
    name: str
    status: str
    conclusion: str | None
    html_url: str | None = None


class CheckRuns(Struct):
    total_count: int
    check_runs: list[CheckRun]


class CheckSuite(Struct):
    id: int
    status: str | None
    conclusion: str | None
    latest_check_runs_count: int
    app: App | None = None


class CheckSuites(Struct):
    total_count: int
    check_suites: list[CheckSuite]


class Status(Struct):
    context: str
    state: str
    target_url: str | None = None
    updated_at: datetime | None = None


class CombinedStatus(Struct):
    state: str
    total_count: int
    statuses: list[Status]


class Workflow(Struct):
    id: int


class WorkflowRun(Struct):
    id: int
    status: str | None
    conclusion: str | None
    html_url: str


class WorkflowRuns(Struct):
    total_count: int
    workflow_runs: list[WorkflowRun]


class Message(Struct):
    message: str


class Parent(Struct):
    sha: str


class Commit(Struct):
    commit: Message
    parents: list[Parent]


class Issue(Struct):
    created_at: datetime
    html_url: str


class Rule(Struct):
    """A rule of a branch."""

    type: str


class QueuedPull(Struct, rename="camel"):
    is_in_merge_queue: bool


class Node(Struct):
    node: QueuedPull | None


class Problem(Struct):
    """An error of GraphQL, which comes with the status 200."""

    message: str
    type: str | None = None


class Queried(Struct):
    data: Any = None
    errors: list[Problem] = field(default_factory=list)
