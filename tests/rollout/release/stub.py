"""A small GitHub: the endpoints that the release commands use, over real HTTP, on a real bare repository."""

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

from tests.rollout.release.repository import Remote

REPOSITORY = "acme/funds"
Answer = tuple[int, Any, dict[str, str]]


class Gone(Exception):
    """The connection breaks before an answer."""


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


@dataclass
class Request:
    method: str
    path: str
    body: Any


@dataclass
class GitHubStub:
    """The state of this GitHub; tests change it and read ``requests``."""

    remote: Remote
    url: str = ""
    pulls: dict[int, Pull] = field(default_factory=dict)
    checks: list[tuple[str, str, str | None]] = field(default_factory=list)  # name, status, conclusion
    statuses: list[tuple[str, str]] = field(default_factory=list)  # context, state
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
        for method, pattern, handler in ROUTES:
            found = re.fullmatch(pattern, request.path)
            if method == request.method and found:
                status, body = handler(self, found, query, request.body)
                return status, body, {}
        return 404, {"message": "Not Found"}, {}

    def get_repository(self, _found: re.Match[str], _query: dict[str, str], _body: Any) -> tuple[int, Any]:
        return 200, {"id": 1, "full_name": REPOSITORY, "url": f"{self.url}/repos/{REPOSITORY}"}

    # --- Pull requests ----------------------------------------------------------------------------------------

    def get_pull(self, found: re.Match[str], _query: dict[str, str], _body: Any) -> tuple[int, Any]:
        pull = self.pulls.get(int(found[1]))
        return (200, self.pull_json(pull)) if pull else (404, {"message": "Not Found"})

    def get_files(self, found: re.Match[str], _query: dict[str, str], _body: Any) -> tuple[int, Any]:
        return 200, [{"filename": name, "sha": "0" * 40} for name in self.pulls[int(found[1])].files]

    def get_pulls(self, _found: re.Match[str], query: dict[str, str], _body: Any) -> tuple[int, Any]:
        owner, _, branch = query["head"].partition(":")
        assert owner == REPOSITORY.partition("/")[0]
        return 200, [
            self.pull_json(pull)
            for pull in reversed(self.pulls.values())
            if pull.branch == branch and pull.base == query["base"]
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
        assert body["merge_method"] == "squash"
        self.merge_now(pull)
        return 200, {"sha": pull.merge_commit, "merged": True, "message": "Pull Request successfully merged"}

    def merge_now(self, pull: Pull, how: str = "squash") -> None:
        pull.merge_commit = self.remote.merge(pull.branch, pull.base, f"{pull.title} (#{pull.number})", how)
        pull.merged_at, pull.state = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "closed"

    def graphql(self, _found: re.Match[str], _query: dict[str, str], body: Any) -> tuple[int, Any]:
        assert "enablePullRequestAutoMerge" in body["query"]
        given = body["variables"]["input"]
        pull = self.pulls[int(given["pullRequestId"].removeprefix("PR_"))]
        assert (given["mergeMethod"], given["expectedHeadOid"]) == ("SQUASH", pull.head)
        if not self.auto_merge_allowed:
            says = "Pull request Auto merge is not allowed for this repository"
            return 200, {"data": None, "errors": [{"type": "UNPROCESSABLE", "message": says}]}
        pull.auto_merge = True
        return 200, {"data": {"enablePullRequestAutoMerge": {"clientMutationId": None, "actor": None}}}

    # --- Checks -----------------------------------------------------------------------------------------------

    def get_check_runs(self, _found: re.Match[str], _query: dict[str, str], _body: Any) -> tuple[int, Any]:
        runs = [
            {"id": number, "name": name, "status": status, "conclusion": conclusion, "html_url": self.url}
            for number, (name, status, conclusion) in enumerate(self.checks)
        ]
        return 200, {"total_count": len(runs), "check_runs": runs}

    def get_status(self, _found: re.Match[str], _query: dict[str, str], _body: Any) -> tuple[int, Any]:
        statuses = [{"context": context, "state": state} for context, state in self.statuses]
        return 200, {"state": "pending", "statuses": statuses, "total_count": len(statuses)}

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
        if found[1] != self.workflow:
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
        self.labels.add(body["name"])
        return 201, body

    def add_labels(self, found: re.Match[str], _query: dict[str, str], body: Any) -> tuple[int, Any]:
        assert set(body) <= self.labels
        self.pulls[int(found[1])].labels += body
        return 200, [{"name": name} for name in body]

    def get_issues(self, _found: re.Match[str], query: dict[str, str], _body: Any) -> tuple[int, Any]:
        return 200, [
            {
                "number": number,
                "url": f"{self.url}/repos/{REPOSITORY}/issues/{number}",
                "created_at": issue["created_at"].strftime("%Y-%m-%dT%H:%M:%SZ"),
                "labels": [{"name": name} for name in issue["labels"]],
                "html_url": f"https://github.example/{REPOSITORY}/{issue['kind']}/{number}",
            }
            for number, issue in enumerate(self.issues)
            if query["labels"] in issue["labels"] and query["state"] == "all"
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
            "head": {"sha": pull.head, "ref": pull.branch},
            "base": {"sha": "0" * 40, "ref": pull.base},
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
        request = Request(self.command, parts.path, json.loads(content) if content else None)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        assert self.headers["Authorization"] == "token secret-token"
        try:
            with stub.lock:
                stub.requests.append(request)
                status, body, headers = stub.fault(request) or stub.answer(request, query)
        except Gone:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        payload = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_POST = do_PUT = respond  # noqa: N815 - http.server's names

    def log_message(self, *_arguments: Any) -> None:
        """Log nothing: requests are kept."""


@contextmanager
def github_stub(remote: Remote) -> Iterator[GitHubStub]:
    """Serve a GitHub on a free port of 127.0.0.1."""
    server = Server(("127.0.0.1", 0), RequestHandler)
    server.stub = GitHubStub(remote, f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
