"""GitHub's lists, answers and refusals, as the client of the release commands meets them."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, cast

import pytest

from rollout.release import api
from rollout.release.decisions import CheckRun, CheckState
from rollout.release.errors import (
    Busy,
    Missing,
    MissingPermission,
    Rejected,
    ReleaseError,
    Unanswered,
    Unavailable,
)
from rollout.release.github import GitHub
from tests.rollout.release.repository import Remote
from tests.rollout.release.stub import (
    OLD_REPOSITORY,
    REPOSITORY,
    Answer,
    GitHubStub,
    Gone,
    Half,
    Lost,
    Pull,
    Request,
    github_stub,
)

HEAD = "a" * 40
HTML: Answer = (200, "<!DOCTYPE html><title>Sign in</title>", {"Content-Type": "text/html"})
GREEN = ("test", "completed", "success")


class Commits:
    """The commits of the stub, where no repository is needed."""

    def tip(self, branch: str) -> str | None:
        return None if branch == "gone" else HEAD

    def merge(self, *_what: str) -> str:
        return "b" * 40


@pytest.fixture
def stub() -> Iterator[GitHubStub]:
    with github_stub(cast("Remote", Commits())) as stub:
        stub.pulls[48] = Pull(48, "Fund store", "fund-store", HEAD)
        yield stub


def client(stub: GitHubStub, repository: str = REPOSITORY, retries: int = 2) -> GitHub:
    return GitHub(token="secret-token", repository=repository, api_url=stub.url, retries=retries)


def open_checks(stub: GitHubStub) -> list[tuple[str, CheckState]]:
    """The checks of the head that have not passed."""
    checks: list[CheckRun] = client(stub).checks(HEAD)
    return [(check.name, check.state) for check in checks if check.state is not CheckState.PASSED]


# --- Lists --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["failure", "error", "pending"])
@pytest.mark.parametrize(("of", "at"), [(35, 0), (35, 29), (35, 30), (35, 32), (250, 249)])
def test_every_commit_status_is_read(stub: GitHubStub, of: int, at: int, state: str) -> None:
    stub.statuses = [(f"ci/{number}", state if number == at else "success") for number in range(of)]
    expected = CheckState.PENDING if state == "pending" else CheckState.FAILED
    assert open_checks(stub) == [(f"ci/{at}", expected)]


@pytest.mark.parametrize(("of", "at"), [(35, 34), (101, 100), (450, 399)])
def test_every_check_run_is_read(stub: GitHubStub, of: int, at: int) -> None:
    stub.checks = [
        (f"{number}", "completed", "failure" if number == at else "success") for number in range(of)
    ]
    assert len(client(stub).checks(HEAD)) == of
    assert open_checks(stub) == [(f"{at}", CheckState.FAILED)]


def test_the_latest_status_of_a_context_counts(stub: GitHubStub) -> None:
    stub.statuses = [("ci", "failure"), ("lint", "success"), ("ci", "success")]
    assert open_checks(stub) == []
    stub.statuses.append(("lint", "pending"))
    assert open_checks(stub) == [("lint", CheckState.PENDING)]


@pytest.mark.parametrize(
    ("of", "says"),
    [
        ("check-runs", "all check runs (100 of 130 were read)"),
        ("status", "all commit statuses (100 of 130 were read)"),
    ],
)
def test_a_list_that_ends_early_is_not_known(stub: GitHubStub, of: str, says: str) -> None:
    """A proxy may drop the Link headers."""
    stub.checks = [(f"{number}", "completed", "success") for number in range(130)]
    stub.statuses = [(f"ci/{number}", "success") for number in range(130)]

    def cut(request: Request) -> Answer | None:
        if not request.path.endswith(of):
            return None
        status, body, _ = stub.answer(request, {"per_page": "100"})
        return status, body, {}

    stub.fault = cut
    assert open_checks(stub) == [(says, CheckState.PENDING)]


@pytest.mark.parametrize(
    ("state", "expected"), [("pending", CheckState.PENDING), ("failure", CheckState.FAILED)]
)
def test_a_combined_state_that_is_worse_counts(stub: GitHubStub, state: str, expected: CheckState) -> None:
    stub.statuses = [("ci", "success")]

    def worse(request: Request) -> Answer | None:
        if not request.path.endswith("/status"):
            return None
        status, body, headers = stub.answer(request, {})
        return status, {**body, "state": state}, headers

    stub.fault = worse
    assert open_checks(stub) == [(f"combined status ({state})", expected)]


def test_a_combined_failure_without_a_status_counts(stub: GitHubStub) -> None:
    stub.checks = [GREEN]
    body = {"state": "failure", "statuses": [], "total_count": 0}
    stub.fault = lambda request: (200, body, {}) if request.path.endswith("/status") else None
    assert open_checks(stub) == [("combined status (failure)", CheckState.FAILED)]


@pytest.mark.parametrize(
    ("suite", "expected"),
    [
        (("github-actions", "completed", "action_required", 0), CheckState.FAILED),
        (("github-actions", "completed", "startup_failure", 0), CheckState.FAILED),
        (("circleci-checks", "completed", "failure", 0), CheckState.FAILED),
        (("github-actions", "queued", None, 0), CheckState.PENDING),
        (("circleci-checks", "queued", None, 0), None),  # an app that is installed and checks nothing
        (("github-actions", "completed", "cancelled", 0), None),
        # Jobs that need others have no check run before those have passed.
        (("github-actions", "in_progress", None, 1), CheckState.PENDING),
        (("circleci-checks", "queued", None, 2), CheckState.PENDING),
        (("github-actions", "completed", "failure", 3), CheckState.FAILED),
    ],
)
def test_a_suite_that_has_not_passed_is_not_overlooked(
    stub: GitHubStub, suite: tuple[str, str, str | None, int], expected: CheckState | None
) -> None:
    stub.checks, stub.suites = [GREEN], [suite]
    assert [state for _, state in open_checks(stub)] == ([expected] if expected else [])


def test_more_check_suites_than_github_lists_are_not_known(stub: GitHubStub) -> None:
    stub.checks = [GREEN]
    stub.suites = [("github-actions", "completed", "success", 1)] * 1000
    assert open_checks(stub) == [("all check suites (1,000 of 1,001 were read)", CheckState.PENDING)]


def test_every_file_of_a_pull_request_is_read(stub: GitHubStub) -> None:
    names = tuple(f"{number}.py" for number in range(230))
    stub.pulls[48].files = names
    assert client(stub).paths(48) == list(names)


def test_every_issue_is_counted_once_and_no_pull_request(stub: GitHubStub) -> None:
    began = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    for number in range(220):
        stub.open_issue(began + timedelta(minutes=number - 10), kind="pull" if number % 11 == 0 else "issues")
    assert len(client(stub).production_issues(began)) == 191


def test_the_pull_request_of_a_branch_is_looked_for_on_every_page(stub: GitHubStub) -> None:
    """GitHub ignores a filter that it does not understand."""
    for number in range(100, 240):
        stub.pulls[number] = Pull(number, "Other", f"other-{number}", HEAD)
    everything = stub.get_pulls

    def ignore(request: Request) -> Answer | None:
        if not request.path.endswith("/pulls"):
            return None
        _, pulls = everything(cast("Any", None), {}, None)
        return stub.paged(200, pulls, request.path, request.query)

    stub.fault = ignore
    found = client(stub).pull_request_of("fund-store", "main")
    assert found is not None
    assert found.number == 48
    assert client(stub).pull_request_of("nobody-s", "main") is None


def test_a_list_without_an_end_is_given_up(stub: GitHubStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "PAGES_MAX", 3)
    link = {"Link": f'<{stub.url}/repos/{REPOSITORY}/pulls/48/files?page=1>; rel="next"'}
    stub.fault = lambda request: (200, [], link) if request.path.endswith("/files") else None
    with pytest.raises(Unavailable, match="its list has no end"):
        client(stub).paths(48)


def test_a_repository_that_was_renamed_is_read_with_every_filter(stub: GitHubStub) -> None:
    stub.pulls[49] = Pull(49, "Other", "other", HEAD)
    github = client(stub, OLD_REPOSITORY)
    found = github.pull_request_of("fund-store", "main")
    assert found is not None
    assert found.number == 48
    github.create_label("judge")
    assert "judge" in stub.labels


# --- Answers ------------------------------------------------------------------------------------------------------


def each(answer: Answer | type[Exception], *, times: int, of: str = "/pulls/48") -> Callable[[Request], Any]:
    """A fault of so many requests."""
    left = times

    def fault(request: Request) -> Answer | None:
        nonlocal left
        if not request.path.endswith(of) or not left:
            return None
        left -= 1
        if isinstance(answer, tuple):
            return answer
        raise answer

    return fault


STRANGE = {
    "html": HTML,
    "html as json": (200, HTML[1], {}),
    "half": Half,
    "nothing": Gone,
    "empty": (204, None, {}),
    "a list": (200, [], {}),
    "null": (200, "null", {}),
    "fields missing": (200, {"number": 48}, {}),
    "a field of another type": (200, {"number": "48"}, {}),
    "cut json": (200, '{"number": 48, "ti', {}),
    "nested without an end": (200, '{"number": ' + "[" * 100_000, {}),
    "bad gateway": (502, HTML[1], {"Content-Type": "text/html"}),
    "unavailable": (503, "", {"Retry-After": "0"}),
}


@pytest.mark.parametrize("answer", STRANGE.values(), ids=STRANGE)
def test_what_is_not_github_s_answer_is_asked_again(stub: GitHubStub, answer: Any) -> None:
    stub.fault = each(answer, times=2)
    assert client(stub).pull_request(48).title == "Fund store"


@pytest.mark.parametrize("answer", STRANGE.values(), ids=STRANGE)
def test_what_stays_strange_is_one_sentence(stub: GitHubStub, answer: Any) -> None:
    stub.fault = each(answer, times=99)
    with pytest.raises(Unavailable, match=r"read pull request #48.*\.$") as raised:
        client(stub).pull_request(48)
    assert "\n" not in str(raised.value)
    assert "secret-token" not in str(raised.value)
    assert len([each for each in stub.requests if each.path.endswith("/pulls/48")]) == 3


def test_html_is_named(stub: GitHubStub) -> None:
    stub.fault = each(HTML, times=99)
    with pytest.raises(Unanswered, match=r"is not GitHub \(text/html\): check GITHUB_API_URL"):
        client(stub).pull_request(48)


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        ((401, {"message": "Bad credentials"}, {}), MissingPermission, "does not accept GITHUB_TOKEN"),
        ((401, "", {}), MissingPermission, "does not accept GITHUB_TOKEN"),
        ((403, {"message": "Resource not accessible"}, {}), MissingPermission, "may not read"),
        ((403, HTML[1], {"Content-Type": "text/html"}), MissingPermission, "may not read"),
        ((404, {"message": "Not Found"}, {}), Missing, "it does not exist"),
        ((407, "", {}), Unavailable, "A proxy asks for a password"),
        ((410, {"message": "Issues are disabled"}, {}), Missing, "no longer there. Issues are disabled"),
        ((422, {"message": ["odd"], "errors": "odder"}, {}), Rejected, "422"),
        ((451, {"message": "Repository access blocked"}, {}), Rejected, "Repository access blocked"),
        (
            (302, "", {"Location": "https://sso.example.com/"}),
            Unavailable,
            "redirects to https://sso.example",
        ),
        ((301, "", {"Location": "https://other.example.com/"}), Unavailable, "redirected from http"),
        ((304, "", {}), Unavailable, "redirects to nowhere"),
    ],
)
def test_a_refusal_is_one_sentence(
    stub: GitHubStub, answer: Answer, error: type[ReleaseError], says: str
) -> None:
    stub.fault = each(answer, times=99)
    with pytest.raises(error, match=says) as raised:
        client(stub).pull_request(48)
    assert "\n" not in str(raised.value)


@contextmanager
def speaker(speak: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server of one connection after the other, which does what it likes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=speak, args=(peer,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def hang(peer: socket.socket) -> None:
    with peer:
        peer.recv(4096)
        time.sleep(2)


def trickle(peer: socket.socket) -> None:
    with peer, suppress(OSError):
        peer.recv(4096)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(20):
            peer.sendall(b" ")
            time.sleep(0.1)


@pytest.mark.parametrize("speak", [hang, trickle])
def test_neither_silence_nor_drops_outlast_the_time(
    speak: Callable[[socket.socket], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "REQUEST_MIN", 0.3)
    with speaker(speak) as url:
        github = GitHub(token="secret-token", repository=REPOSITORY, api_url=url, retries=9)
        began = time.monotonic()
        with github.within(0.5), pytest.raises(Unanswered, match="in time"):
            github.pull_request(48)
        assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "url",
    [
        "api.github.com",
        "github.example.com/api/v3",
        "https://",
        "ftp://a.example",
        "https://a:b/",
        "",
        "https://[::1]/",
    ],
)
def test_an_address_that_is_none_is_named(url: str) -> None:
    with pytest.raises(Unavailable, match=r"GITHUB_API_URL is .*: set one "):
        GitHub(token="secret-token", repository=REPOSITORY, api_url=url, retries=0)


def test_a_slash_at_the_end_of_the_address_is_no_part_of_it(stub: GitHubStub) -> None:
    stub.url += "/"
    assert client(stub).pull_request(48).number == 48


def test_an_address_of_something_else_is_one_sentence(stub: GitHubStub) -> None:
    stub.url = stub.url.replace("http:", "https:")
    with pytest.raises(Unanswered, match=r"GitHub did not answer the request to find acme/funds: .+\.$"):
        client(stub).pull_request(48)


# --- Pauses -------------------------------------------------------------------------------------------------------


def in_(minutes: int) -> datetime:
    return datetime.now(UTC) + timedelta(minutes=minutes)


@pytest.mark.parametrize(
    "limit",
    [
        lambda: (429, {"message": "Too many requests"}, {"Retry-After": "3600"}),
        lambda: (403, {"message": "You have exceeded a secondary rate limit."}, {"Retry-After": "3600"}),
        lambda: (503, "", {"Retry-After": "3600"}),
        lambda: (429, "", {"Retry-After": format_datetime(in_(60), usegmt=True)}),
        lambda: (
            403,
            {"message": "API rate limit exceeded for user ID 1."},
            {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{in_(60).timestamp():.0f}"},
        ),
    ],
)
def test_a_long_pause_is_told_and_nobody_asks_again_before(
    stub: GitHubStub, limit: Callable[[], Answer]
) -> None:
    stub.fault = each(limit(), times=1)
    github = client(stub)
    began = time.monotonic()
    with pytest.raises(Busy, match=r"try again after \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC") as raised:
        github.pull_request(48)
    assert raised.value.until == pytest.approx(in_(60).timestamp(), abs=5)
    asked = len(stub.requests)
    for other in (github, client(stub)):  # a later run, or another process
        with pytest.raises(Busy):
            other.pull_request(48)
    assert len(stub.requests) == asked
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("seconds", ["9" * 400, "9" * 5000])
@pytest.mark.parametrize("header", ["Retry-After", "X-RateLimit-Reset"])
def test_a_pause_without_measure_is_one_sentence(stub: GitHubStub, header: str, seconds: str) -> None:
    stub.fault = each((429, "", {"X-RateLimit-Remaining": "0", header: seconds}), times=99)
    with pytest.raises(Unavailable, match=r"read pull request #48.*\.$"):
        client(stub).pull_request(48)


@pytest.mark.parametrize(
    "answer",
    [
        (429, {"message": "Too many requests"}, {"Retry-After": "1"}),
        (403, {"message": "You have exceeded a secondary rate limit."}, {"Retry-After": "1"}),
    ],
)
def test_a_short_pause_is_made(stub: GitHubStub, answer: Answer) -> None:
    stub.fault = each(answer, times=1)
    began = time.monotonic()
    assert client(stub).pull_request(48).number == 48
    assert 1 <= time.monotonic() - began < 5


def test_no_pause_outlasts_the_time_of_the_command(stub: GitHubStub) -> None:
    stub.fault = each((429, "", {"Retry-After": "30"}), times=1)
    github = client(stub)
    began = time.monotonic()
    with github.within(10), pytest.raises(Busy):
        github.pull_request(48)
    assert time.monotonic() - began < 1


# --- Changes whose answer is lost ---------------------------------------------------------------------------------


LOST = [Lost, Half, Gone, HTML, (200, [], {}), (502, "", {})]


@pytest.mark.parametrize("fault", LOST)
def test_a_label_that_was_made_is_found(stub: GitHubStub, fault: Any) -> None:
    stub.fault = each(fault, times=1, of="/labels")
    client(stub).create_label("judge")
    assert "judge" in stub.labels


def test_a_label_that_somebody_makes_first_is_no_error(stub: GitHubStub) -> None:
    stub.labels.add("judge")
    client(stub).create_label("judge")


@pytest.mark.parametrize("fault", [Lost, Half, Gone, HTML, (200, {}, {})])
def test_labels_that_were_set_are_found(stub: GitHubStub, fault: Any) -> None:
    stub.fault = each(fault, times=1, of="/issues/48/labels")
    client(stub).add_labels(48, ["production-issue"])
    assert stub.pulls[48].labels == ["production-issue"]


@pytest.mark.parametrize("fault", LOST)
def test_a_workflow_is_started_once(stub: GitHubStub, fault: Any) -> None:
    stub.runs = [(HEAD, "completed", "failure")]
    stub.fault = each(fault, times=1, of="/dispatches")
    github = client(stub)
    github.start_workflow("ci.yml", github.pull_request(48))
    assert stub.runs[1:] == [(HEAD, "queued", None)]


@pytest.mark.parametrize("fault", LOST)
def test_a_merge_is_made_once(stub: GitHubStub, fault: Any) -> None:
    stub.fault = each(fault, times=1, of="/merge")
    github = client(stub)
    assert github.merge(github.pull_request(48)).merged
    assert stub.pulls[48].merge_commit


@pytest.mark.parametrize("fault", LOST)
def test_a_queue_is_entered_once(stub: GitHubStub, fault: Any) -> None:
    stub.merge_queue = True
    stub.fault = each(fault, times=1, of="/graphql")
    github = client(stub)
    assert not github.merge(github.pull_request(48)).merged
    assert stub.queue == [48]


@pytest.mark.parametrize("fault", LOST)
def test_auto_merge_is_turned_on_once(stub: GitHubStub, fault: Any) -> None:
    stub.fault = each(fault, times=1, of="/graphql")
    github = client(stub)
    github.merge_when_green(github.pull_request(48))
    assert stub.pulls[48].auto_merge


@pytest.mark.parametrize("fault", LOST)
def test_a_pull_request_is_opened_once(stub: GitHubStub, fault: Any) -> None:
    stub.fault = each(fault, times=1, of="/pulls")
    opened = client(stub).create_pull_request(branch="revert-1", base="main", title="Revert", body="red")
    assert (opened.number, len(stub.pulls)) == (49, 2)


def test_graphql_says_what_is_wrong(stub: GitHubStub) -> None:
    pull = client(stub).pull_request(48)
    for problem, error in [
        ({"type": "FORBIDDEN", "message": "Resource not accessible"}, MissingPermission),
        ({"type": "UNPROCESSABLE", "message": "Pull request is in clean status"}, Rejected),
        ({"type": "NOT_FOUND", "message": "Could not resolve to a node"}, Missing),
        ({"message": "Something went wrong while executing your query."}, Unanswered),
        ({"type": "RATE_LIMITED", "message": "API rate limit exceeded"}, Busy),
    ]:
        answer: Answer = (200, {"data": None, "errors": [problem]}, {})
        stub.fault = each(answer, times=99, of="/graphql")
        github = client(stub)
        with github.within(5), pytest.raises(error):
            github.merge_when_green(pull)


def test_a_fork_s_branch_is_no_place_to_start_a_workflow(stub: GitHubStub) -> None:
    stub.pulls[48].fork = "bob/funds"
    github = client(stub)
    with pytest.raises(Rejected, match=r"from the fork bob/funds, and GitHub starts ci.yml only on branches"):
        github.start_workflow("ci.yml", github.pull_request(48))
    assert stub.writes() == []
