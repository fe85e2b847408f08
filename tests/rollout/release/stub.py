"""A small GitHub: the endpoints that the release commands use, over real HTTP, on a real bare repository.

Written from GitHub's REST and GraphQL references: lists come in pages (30 entries, at most 100) with ``Link`` headers,
the combined status counts the latest status of each context, and names that a repository had before are redirected.
"""

import gzip
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from django.core.cache import cache

from rollout.release.api import busy_key
from tests.rollout.release.repository import Remote

REPOSITORY = "acme/funds"
TOKEN = "secret-token"
OLD_REPOSITORY = "acme/money"  # its name before
CHECK_SUITES_LISTED = 1000
FILES_LISTED = 3000
Answer = tuple[int, Any, dict[str, str]]


class Gone(Exception):
    """The connection breaks before the request is worked on."""


class Lost(Exception):
    """The request is worked on, and the connection breaks before the answer."""


class Half(Exception):
    """The request is worked on, and the connection breaks within the answer."""


@dataclass
class Pull:
    number: int
    title: str
    branch: str
    head: str
    base: str = "main"
    state: str = "open"
    draft: bool = False
    merged_at: str | None = None
    merge_commit: str | None = None
    mergeable: bool | None = True
    mergeable_state: str = "clean"
    lines: int = 12
    commits: int = 1
    files: tuple[str, ...] = ("fund.py",)
    labels: list[str] = field(default_factory=list)
    auto_merge: bool = False
    body: str = ""
    fork: str = ""  # full name of the repository that it comes from; "" for this one


@dataclass
class Request:
    method: str
    path: str
    body: Any
    query: dict[str, str] = field(default_factory=dict)


@dataclass
class GitHubStub:
    """The state of this GitHub; tests change it and read ``requests``."""

    remote: Remote
    url: str = ""
    pulls: dict[int, Pull] = field(default_factory=dict)
    checks: list[tuple[str, str, str | None]] = field(default_factory=list)  # name, status, conclusion
    statuses: list[tuple[str, str]] = field(default_factory=list)  # context, state; the latest last
    # App, status, conclusion, number of check runs; beside one of Actions with the checks.
    suites: list[tuple[str, str, str | None, int]] = field(default_factory=list)
    merge_queue: bool = False
    queue: list[int] = field(default_factory=list)
    squash_allowed: bool = True
    runs: list[tuple[str, str, str | None]] = field(default_factory=list)  # head, status, conclusion
    labels: set[str] = field(default_factory=lambda: {"production-issue"})
    issues: list[dict[str, Any]] = field(default_factory=list)
    auto_merge_allowed: bool = True
    workflow: str = "ci.yml"
    requests: list[Request] = field(default_factory=list)
    # Called with every request: raises Gone, or returns an answer in place of the real one.
    fault: Callable[[Request], Answer | None] = lambda _request: None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def writes(self) -> list[str]:
        """Return the requests that change something: ``METHOD path``."""
        return [f"{each.method} {each.path}" for each in self.requests if each.method != "GET"]

    def open_issue(self, at: datetime, label: str = "production-issue", kind: str = "issues") -> None:
        self.issues.append({"created_at": at, "labels": [label], "kind": kind})

    def answer(self, request: Request, query: dict[str, str]) -> Answer:
        path = request.path
        if path.startswith(f"/repos/{OLD_REPOSITORY}"):
            location = f"{self.url}/repositories/1{path.removeprefix(f'/repos/{OLD_REPOSITORY}')}"
            status = 301 if request.method == "GET" else 307
            return status, {"message": "Moved Permanently", "url": location}, {"Location": location}
        path = re.sub("^/repositories/1(?=/|$)", _REPO, path)
        for method, pattern, handler in ROUTES:
            found = re.fullmatch(pattern, path)
            if method == request.method and found:
                status, body = handler(self, found, query, request.body)
                return self.paged(status, body, path, query)
        return 404, {"message": "Not Found"}, {}

    def paged(self, status: int, body: Any, path: str, query: dict[str, str]) -> Answer:
        """Return a page of a list, or of the list in an answer with a ``total_count``."""
        counted = isinstance(body, dict) and "total_count" in body
        name = next(name for name, value in body.items() if isinstance(value, list)) if counted else ""
        entries = body[name] if counted else body
        if not isinstance(entries, list) or status != 200:
            return status, body, {}
        size, number = min(int(query.get("per_page", 30)), 100), int(query.get("page", 1))
        pages = max(1, -(-len(entries) // size))
        entries = entries[(number - 1) * size : number * size]
        rest = {"next": number + 1, "last": pages} if number < pages else {}
        if number > 1:
            rest |= {"first": 1, "prev": number - 1}
        links = ", ".join(
            f'<{self.url}{path}?{urlencode({**query, "page": page})}>; rel="{rel}"'
            for rel, page in rest.items()
        )
        return status, {**body, name: entries} if counted else entries, {"Link": links} if links else {}

    def get_repository(self, _found: re.Match[str], _query: dict[str, str], _body: Any) -> tuple[int, Any]:
        return 200, {"id": 1, "full_name": REPOSITORY, "url": f"{self.url}/repos/{REPOSITORY}"}

    # --- Pull requests ----------------------------------------------------------------------------------------

    def get_pull(self, found: re.Match[str], _query: dict[str, str], _body: Any) -> tuple[int, Any]:
        pull = self.pulls.get(int(found[1]))
        return (200, self.pull_json(pull)) if pull else (404, {"message": "Not Found"})

    def get_files(self, found: re.Match[str], _query: dict[str, str], _body: Any) -> tuple[int, Any]:
        files = self.pulls[int(found[1])].files[:FILES_LISTED]
        return 200, [{"filename": name, "sha": "0" * 40} for name in files]

    def get_pulls(self, _found: re.Match[str], query: dict[str, str], _body: Any) -> tuple[int, Any]:
        owner, colon, branch = query.get("head", "").partition(":")  # without an owner, it is no filter
        assert not colon or owner == REPOSITORY.partition("/")[0]
        return 200, [
            self.pull_json(pull)
            for pull in reversed(self.pulls.values())
            if (not colon or pull.branch == branch) and pull.base == query.get("base", pull.base)
        ]

    def create_pull(self, _found: re.Match[str], _query: dict[str, str], body: Any) -> tuple[int, Any]:
        head = self.remote.tip(body["head"])
        if head is None:
            return 422, {"message": "Validation Failed", "errors": [{"field": "head", "code": "invalid"}]}
        if any(pull.branch == body["head"] and pull.state == "open" for pull in self.pulls.values()):
            says = f"A pull request already exists for acme:{body['head']}."
            return 422, {"message": "Validation Failed", "errors": [{"message": says}]}
        number = max(self.pulls, default=0) + 1
        self.pulls[number] = Pull(number, body["title"], body["head"], head, body["base"], body=body["body"])
        return 201, self.pull_json(self.pulls[number])

    def merge(self, found: re.Match[str], _query: dict[str, str], body: Any) -> tuple[int, Any]:
        pull = self.pulls[int(found[1])]
        if pull.merged_at or pull.state == "closed":
            return 405, {"message": "Pull Request is not mergeable"}
        if body["sha"] != pull.head:
            return 409, {"message": "Head branch was modified. Review and try the merge again."}
        if self.merge_queue:
            return 405, {"message": "Changes must be made through the merge queue"}
        if not self.squash_allowed:
            return 405, {"message": "Squash merges are not allowed on this repository."}
        assert body["merge_method"] == "squash"
        self.merge_now(pull)
        return 200, {"sha": pull.merge_commit, "merged": True, "message": "Pull Request successfully merged"}

    def merge_now(self, pull: Pull, how: str = "squash") -> None:
        pull.merge_commit = self.remote.merge(pull.branch, pull.base, f"{pull.title} (#{pull.number})", how)
        pull.merged_at, pull.state = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "closed"

    def graphql(self, _found: re.Match[str], _query: dict[str, str], body: Any) -> tuple[int, Any]:
        variables = body["variables"]
        if "isInMergeQueue" in body["query"]:
            queued = int(variables["id"].removeprefix("PR_")) in self.queue
            return 200, {"data": {"node": {"isInMergeQueue": queued}}}
        given = variables["input"]
        pull = self.pulls[int(given["pullRequestId"].removeprefix("PR_"))]
        assert given["expectedHeadOid"] == pull.head
        if "enqueuePullRequest" in body["query"]:
            return self.enqueue(pull)
        assert "enablePullRequestAutoMerge" in body["query"]
        assert given["mergeMethod"] == "SQUASH"
        if not self.auto_merge_allowed:
            return self.unprocessable("Pull request Auto merge is not allowed for this repository")
        pull.auto_merge = True
        return 200, {"data": {"enablePullRequestAutoMerge": {"clientMutationId": None, "actor": None}}}

    def enqueue(self, pull: Pull) -> tuple[int, Any]:
        if not self.merge_queue:
            return self.unprocessable("Pull request Merge queue is not enabled for this branch")
        if pull.number in self.queue:
            return self.unprocessable("Pull request is already in the queue")
        self.queue.append(pull.number)
        return 200, {"data": {"enqueuePullRequest": {"mergeQueueEntry": {"position": len(self.queue)}}}}

    @staticmethod
    def unprocessable(says: str) -> tuple[int, Any]:
        return 200, {"data": None, "errors": [{"type": "UNPROCESSABLE", "message": says}]}

    # --- Checks -----------------------------------------------------------------------------------------------

    def get_check_runs(self, _found: re.Match[str], _query: dict[str, str], _body: Any) -> tuple[int, Any]:
        runs = [
            {"id": number, "name": name, "status": status, "conclusion": conclusion, "html_url": self.url}
            for number, (name, status, conclusion) in enumerate(self.checks)
        ]
        return 200, {"total_count": len(runs), "check_runs": runs}

    def get_check_suites(self, _found: re.Match[str], _query: dict[str, str], _body: Any) -> tuple[int, Any]:
        of_actions = [("github-actions", "completed", "success", len(self.checks))] if self.checks else []
        suites = [
            {
                "id": number,
                "status": status,
                "conclusion": conclusion,
                "latest_check_runs_count": runs,
                "app": {"slug": app, "name": app.replace("-", " ").title()},
            }
            for number, (app, status, conclusion, runs) in enumerate([*of_actions, *self.suites])
        ]
        return 200, {"total_count": len(suites), "check_suites": suites[:CHECK_SUITES_LISTED]}

    def get_status(self, _found: re.Match[str], _query: dict[str, str], _body: Any) -> tuple[int, Any]:
        latest = dict(self.statuses)
        states = set(latest.values())
        state = (
            "failure" if states & {"failure", "error"} else "success" if states == {"success"} else "pending"
        )
        statuses = [
            {"context": context, "state": each, "updated_at": "2026-03-01T12:00:00Z"}
            for context, each in latest.items()
        ]
        return 200, {"state": state, "statuses": statuses, "total_count": len(statuses)}

    def get_rules(self, _found: re.Match[str], _query: dict[str, str], _body: Any) -> tuple[int, Any]:
        rules = ["deletion", *(["merge_queue"] if self.merge_queue else [])]
        return 200, [{"type": rule, "ruleset_source_type": "Repository"} for rule in rules]

    def get_commit(self, found: re.Match[str], _query: dict[str, str], _body: Any) -> tuple[int, Any]:
        message, parents = self.remote.commit(found[1])
        return 200, self.commit_json(found[1], message, parents)

    def commit_json(self, sha: str, message: str, parents: list[str]) -> dict[str, Any]:
        url = f"{self.url}/repos/{REPOSITORY}/commits/{sha}"
        return {
            "sha": sha,
            "url": url,
            "commit": {"message": message, "url": url},
            "parents": [{"sha": parent} for parent in parents],
        }

    def get_workflow(self, found: re.Match[str], _query: dict[str, str], _body: Any) -> tuple[int, Any]:
        if found[1] not in {self.workflow, "1"}:
            return 404, {"message": "Not Found"}
        return 200, {"id": 1, "url": f"{self.url}/repos/{REPOSITORY}/actions/workflows/1", "path": found[1]}

    def get_runs(self, _found: re.Match[str], query: dict[str, str], _body: Any) -> tuple[int, Any]:
        runs = [
            {"id": number, "status": status, "conclusion": conclusion, "html_url": self.url, "head_sha": head}
            for number, (head, status, conclusion) in enumerate(self.runs)
            if head == query["head_sha"]
        ]
        return 200, {"total_count": len(runs), "workflow_runs": runs[::-1]}

    def dispatch(self, _found: re.Match[str], _query: dict[str, str], body: Any) -> tuple[int, Any]:
        head = self.remote.tip(body["ref"])
        if head is None:
            return 422, {"message": f"No ref found for: {body['ref']}"}
        self.runs.append((head, "queued", None))
        return 204, None

    # --- Issues and labels ------------------------------------------------------------------------------------

    def get_label(self, found: re.Match[str], _query: dict[str, str], _body: Any) -> tuple[int, Any]:
        name = unquote(found[1])
        return (
            (200, {"name": name, "color": "ededed"})
            if name in self.labels
            else (404, {"message": "Not Found"})
        )

    def create_label(self, _found: re.Match[str], _query: dict[str, str], body: Any) -> tuple[int, Any]:
        if body["name"] in self.labels:
            errors = [{"resource": "Label", "code": "already_exists", "field": "name"}]
            return 422, {"message": "Validation Failed", "errors": errors}
        self.labels.add(body["name"])
        return 201, body

    def add_labels(self, found: re.Match[str], _query: dict[str, str], body: Any) -> tuple[int, Any]:
        assert set(body) <= self.labels
        labels = self.pulls[int(found[1])].labels
        labels += [name for name in body if name not in labels]
        return 200, [{"name": name} for name in body]

    def get_issues(self, _found: re.Match[str], query: dict[str, str], _body: Any) -> tuple[int, Any]:
        since = datetime.fromisoformat(query["since"])
        return 200, [
            {
                "number": number,
                **({"pull_request": {"url": self.url}} if issue["kind"] == "pull" else {}),
                "url": f"{self.url}/repos/{REPOSITORY}/issues/{number}",
                "created_at": issue["created_at"].strftime("%Y-%m-%dT%H:%M:%SZ"),
                "labels": [{"name": name} for name in issue["labels"]],
                "html_url": f"https://github.example/{REPOSITORY}/{issue['kind']}/{number}",
            }
            for number, issue in reversed(list(enumerate(self.issues)))
            if query["labels"] in issue["labels"] and query["state"] == "all"
            if issue.get("updated_at", issue["created_at"]) >= since - timedelta(seconds=1)
        ]

    def pull_json(self, pull: Pull) -> dict[str, Any]:
        api = f"{self.url}/repos/{REPOSITORY}"
        return {
            "number": pull.number,
            "node_id": f"PR_{pull.number}",
            "url": f"{api}/pulls/{pull.number}",
            "issue_url": f"{api}/issues/{pull.number}",
            "html_url": f"https://github.example/{REPOSITORY}/pull/{pull.number}",
            "title": pull.title,
            "body": pull.body,
            "state": pull.state,
            "draft": pull.draft,
            "merged": pull.merged_at is not None,
            "merged_at": pull.merged_at,
            "merge_commit_sha": pull.merge_commit,
            "head": {
                "sha": pull.head,
                "ref": pull.branch,
                "repo": {"full_name": pull.fork or REPOSITORY},
            },
            "base": {"sha": "0" * 40, "ref": pull.base, "repo": {"full_name": REPOSITORY}},
            "auto_merge": {"merge_method": "squash"} if pull.auto_merge else None,
            "mergeable": pull.mergeable,
            "mergeable_state": pull.mergeable_state,
            "additions": pull.lines,
            "deletions": 0,
            "commits": pull.commits,
            "changed_files": len(pull.files),
            "labels": [{"name": name} for name in pull.labels],
        }


_REPO = f"/repos/{REPOSITORY}"
Handler = Callable[[GitHubStub, "re.Match[str]", dict[str, str], Any], tuple[int, Any]]
ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", _REPO, GitHubStub.get_repository),
    ("GET", rf"{_REPO}/pulls/(\d+)", GitHubStub.get_pull),
    ("GET", rf"{_REPO}/pulls/(\d+)/files", GitHubStub.get_files),
    ("GET", rf"{_REPO}/pulls", GitHubStub.get_pulls),
    ("POST", rf"{_REPO}/pulls", GitHubStub.create_pull),
    ("PUT", rf"{_REPO}/pulls/(\d+)/merge", GitHubStub.merge),
    ("POST", "/graphql", GitHubStub.graphql),
    ("GET", rf"{_REPO}/commits/(\w+)", GitHubStub.get_commit),
    ("GET", rf"{_REPO}/commits/(\w+)/check-runs", GitHubStub.get_check_runs),
    ("GET", rf"{_REPO}/rules/branches/(.+)", GitHubStub.get_rules),
    ("GET", rf"{_REPO}/commits/(\w+)/check-suites", GitHubStub.get_check_suites),
    ("GET", rf"{_REPO}/commits/(\w+)/status", GitHubStub.get_status),
    ("GET", rf"{_REPO}/actions/workflows/([\w.-]+)", GitHubStub.get_workflow),
    ("GET", rf"{_REPO}/actions/workflows/1/runs", GitHubStub.get_runs),
    ("POST", rf"{_REPO}/actions/workflows/1/dispatches", GitHubStub.dispatch),
    ("GET", rf"{_REPO}/labels/(.+)", GitHubStub.get_label),
    ("POST", rf"{_REPO}/labels", GitHubStub.create_label),
    ("POST", rf"{_REPO}/issues/(\d+)/labels", GitHubStub.add_labels),
    ("GET", rf"{_REPO}/issues", GitHubStub.get_issues),
]


class Server(ThreadingHTTPServer):
    daemon_threads = True
    stub: GitHubStub


class RequestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def respond(self) -> None:
        stub = cast("Server", self.server).stub
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        request = Request(self.command, parts.path, json.loads(content) if content else None, query)
        assert self.headers["Authorization"] == f"token {TOKEN}"
        breaks: type[Exception] | None = None
        with stub.lock:
            stub.requests.append(request)
            try:
                status, body, headers = stub.fault(request) or stub.answer(request, query)
            except (Gone, Lost, Half) as fault:
                breaks = type(fault)
                status, body, headers = (0, None, {}) if breaks is Gone else stub.answer(request, query)
        if breaks in {Gone, Lost}:
            self.hang_up()
        else:
            self.send(status, body, headers, half=breaks is Half)

    def send(self, status: int, body: Any, headers: dict[str, str], *, half: bool) -> None:
        """Send an answer: text as it is, and everything else as JSON, coded as GitHub's answers are."""
        payload = b"" if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
        headers = {"Content-Type": "application/json; charset=utf-8", **headers}
        if "gzip" in self.headers.get("Accept-Encoding", "") and payload and status < 400:
            payload, headers = gzip.compress(payload, 1), {**headers, "Content-Encoding": "gzip"}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload[: len(payload) // 2] if half else payload)
        if half:
            self.hang_up()

    def hang_up(self) -> None:
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    do_GET = do_POST = do_PUT = respond  # noqa: N815 - http.server's names

    def log_message(self, *_arguments: Any) -> None:
        """Log nothing: requests are kept."""


@contextmanager
def github_stub(remote: Remote) -> Iterator[GitHubStub]:
    """Serve a GitHub on a free port of 127.0.0.1."""
    server = Server(("127.0.0.1", 0), RequestHandler)
    server.stub = GitHubStub(remote, f"http://127.0.0.1:{server.server_address[1]}")
    cache.delete(busy_key(server.stub.url, TOKEN))  # of an earlier stub that had the port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
