"""``deploy_with_confidence``, as far as the merge."""

import os
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.test import override_settings

from rollout.models import Deployment
from rollout.release import records
from tests.rollout.release.conftest import Release
from tests.rollout.release.stub import Answer, Gone, Pull, Request

GREEN = ("test", "completed", "success")
UNDER_WAY = ("test", "in_progress", None)


def test_a_green_pull_request_is_squashed_into_main_and_recorded(release: Release) -> None:
    release.stub.checks = [GREEN, ("lint", "completed", "skipped")]
    pull = release.pull()
    ended = release.deploy(pull, "--skip-e2e")
    assert ended.code == 2, ended  # merged, and nothing is judged yet
    assert "is not under way" in ended.says
    assert "drei" in release.remote.read("main", "fund.py")
    deployment = Deployment.objects.get(environment=release.environment)
    assert (deployment.pull_request, deployment.commit) == (pull.number, release.remote.tip("main"))
    assert deployment.deployed_by == os.environ.get("USER", "unknown")
    assert ended.document["deployment"]["commit"] == deployment.commit
    assert ended.document["effects"][0].startswith(f"merge #{pull.number} ({pull.head[:12]}")


def test_a_second_run_finds_what_the_first_did(release: Release) -> None:
    release.stub.checks = [GREEN]
    pull = release.pull()
    release.deploy(pull, "--skip-e2e")
    before = list(release.stub.requests)
    again = release.deploy(pull, "--skip-e2e")
    assert release.stub.requests == before
    assert again.document["effects"] == []
    assert Deployment.objects.filter(environment=release.environment).count() == 1


@pytest.mark.parametrize(("how", "commits"), [("squash", 1), ("merge", 1), ("rebase", 2)])
def test_what_somebody_merged_already_is_recorded_as_it_was_merged(
    release: Release, how: str, commits: int
) -> None:
    pull = release.pull(content=[{"a.py": "a\n"}, {"b.py": "b\n"}], commits=2)
    release.stub.merge_now(pull, how)
    release.remote.commit_to_main({"other.py": "not ours\n"})
    assert release.deploy(pull).code == 2
    deployment = Deployment.objects.get(environment=release.environment)
    assert (deployment.commit, deployment.commits) == (pull.merge_commit, commits)
    assert deployment.commit != release.remote.tip("main")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"draft": True}, "is a draft"),
        ({"state": "closed"}, "closed without a merge"),
        ({"mergeable": False, "mergeable_state": "dirty"}, "conflicts with main"),
        ({"mergeable_state": "blocked"}, "a review or a required check is missing"),
        ({"mergeable_state": "behind"}, "update its branch"),
    ],
)
def test_what_must_not_be_merged_is_not(release: Release, fields: dict[str, Any], says: str) -> None:
    release.stub.checks = [GREEN]
    ended = release.deploy(release.pull(**fields), "--skip-e2e")
    assert (ended.code, says in ended.says) == (1, True), ended.says
    assert release.stub.writes() == []


@pytest.mark.parametrize(
    "failing",
    [
        {"checks": [GREEN, ("types", "completed", "failure")]},
        {"checks": [GREEN, ("types", "completed", "timed_out")]},
        {"checks": [GREEN], "statuses": [("types", "error")]},
    ],
)
def test_failing_checks_are_named_and_nothing_is_merged(release: Release, failing: dict[str, Any]) -> None:
    vars(release.stub).update(failing)
    ended = release.deploy(release.pull(), "--skip-e2e")
    assert (ended.code, ended.says.partition("has ")[2]) == (1, "failing checks: types.")
    assert release.stub.writes() == []


def test_checks_that_never_start_are_not_taken_for_passed(release: Release) -> None:
    ended = release.deploy(release.pull())
    assert ended.code == 2
    assert "Are Actions enabled" in ended.says
    assert release.stub.writes() == []


def test_checks_that_do_not_end_in_time_are_named(release: Release) -> None:
    release.stub.checks = [GREEN, UNDER_WAY]
    ended = release.deploy(release.pull(), "--skip-e2e", "--wait-minutes", "0.01")
    assert (ended.code, "still waiting for test" in ended.says) == (2, True)
    assert release.stub.writes() == []


def test_the_time_to_wait_also_bounds_the_wait_for_a_first_check(release: Release) -> None:
    began = time.monotonic()
    pauses = {"ROLLOUT_CHECKS_START": timedelta(minutes=5), "ROLLOUT_GITHUB_POLL": timedelta(seconds=15)}
    with override_settings(**pauses):
        ended = release.deploy(release.pull(), "--skip-e2e", "--wait-minutes", "0.02")
    assert (ended.code, "a first check" in ended.says) == (2, True)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(("state", "code"), [("failure", 1), ("error", 1), ("pending", 2)])
def test_a_red_status_behind_the_first_page_keeps_it_out(release: Release, state: str, code: int) -> None:
    release.stub.statuses = [(f"ci/{number}", "success") for number in range(35)]
    release.stub.statuses[32] = ("ci/32", state)
    ended = release.deploy(release.pull(), "--skip-e2e", "--wait-minutes", "0.005")
    assert (ended.code, "ci/32" in ended.says) == (code, True), ended.says
    assert release.stub.writes() == []


def test_commit_statuses_alone_are_enough(release: Release) -> None:
    release.stub.statuses = [(f"ci/{number}", "success") for number in range(35)]
    pull = release.pull()
    release.deploy(pull, "--skip-e2e")
    assert pull.merged_at


def test_checks_under_way_are_waited_for(release: Release) -> None:
    release.stub.checks, release.stub.statuses = [UNDER_WAY], [("coverage", "pending")]
    looks = 0

    def pass_at_the_third_look(request: Request) -> None:
        nonlocal looks
        looks += request.path.endswith("check-runs")
        if looks == 3:
            release.stub.checks, release.stub.statuses = [GREEN], [("coverage", "success")]

    release.stub.fault = pass_at_the_third_look
    release.deploy(release.pull(), "--skip-e2e")
    assert "drei" in release.remote.read("main", "fund.py")
    assert looks == 3


def test_the_end_to_end_tests_are_started_once_and_waited_for(release: Release) -> None:
    release.stub.checks = [GREEN]
    pull = release.pull()
    looks = 0

    def pass_at_the_fourth_look(request: Request) -> None:
        nonlocal looks
        looks += request.path.endswith("/runs")
        if looks == 4:
            release.stub.runs = [(pull.head, "completed", "success")]

    release.stub.fault = pass_at_the_fourth_look
    release.deploy(pull)
    dispatches = [write for write in release.stub.writes() if write.endswith("dispatches")]
    assert (looks, len(dispatches)) == (4, 1)
    assert pull.merged_at


def test_failing_end_to_end_tests_keep_it_out(release: Release) -> None:
    release.stub.checks = [GREEN]
    pull = release.pull()
    release.stub.runs = [(pull.head, "completed", "failure")]
    ended = release.deploy(pull)
    assert (ended.code, "end-to-end (ci.yml)" in ended.says) == (1, True)
    assert release.stub.writes() == []


def test_a_commit_pushed_meanwhile_is_not_merged_unseen(release: Release) -> None:
    release.stub.checks = [GREEN]
    pull = release.pull()

    def push(request: Request) -> None:
        if request.path.endswith("check-runs"):
            pull.head = "f" * 40

    release.stub.fault = push
    ended = release.deploy(pull, "--skip-e2e")
    assert (ended.code, "Head branch was modified" in ended.says) == (2, True)
    assert "drei" not in release.remote.read("main", "fund.py")


# --- Merge queues -------------------------------------------------------------------------------------------------


def in_the_queue(release: Release, then: Callable[[Pull], None], looks: int = 2) -> list[Request]:
    """A base with a merge queue, which does something at the third look into it. Returns the looks."""
    release.stub.checks, release.stub.merge_queue = [GREEN], True
    seen: list[Request] = []

    def look(request: Request) -> None:
        if "isInMergeQueue" not in str(request.body):
            return
        seen.append(request)
        if len(seen) == looks:
            then(release.stub.pulls[release.stub.queue.pop()])

    release.stub.fault = look
    return seen


@pytest.mark.parametrize("state", ["clean", "blocked", "behind"])
def test_a_merge_queue_is_entered_and_waited_for(release: Release, state: str) -> None:
    seen = in_the_queue(release, release.stub.merge_now)
    pull = release.pull(mergeable_state=state)
    ended = release.deploy(pull, "--skip-e2e")
    assert (ended.code, "is not under way" in ended.says) == (2, True), ended.says
    assert Deployment.objects.get(environment=release.environment).commit == pull.merge_commit
    assert len(seen) == 2
    entered = [each for each in release.stub.requests if "enqueuePullRequest" in str(each.body)]
    assert len(entered) == 1
    assert f"#{pull.number} is in the merge queue of main" in ended.shown


def test_what_the_queue_gives_back_is_not_deployed(release: Release) -> None:
    in_the_queue(release, lambda _pull: None)
    ended = release.deploy(release.pull(), "--skip-e2e")
    assert (ended.code, "left the merge queue of main without a merge" in ended.says) == (1, True)
    assert not Deployment.objects.filter(environment=release.environment).exists()


def test_a_queue_that_takes_too_long_is_waited_for_by_the_next_run(release: Release) -> None:
    in_the_queue(release, release.stub.merge_now, looks=99)
    pull = release.pull()
    ended = release.deploy(pull, "--skip-e2e", "--wait-minutes", "0.01")
    assert (ended.code, "still in the merge queue of main" in ended.says) == (2, True), ended.says
    in_the_queue(release, release.stub.merge_now)
    release.deploy(pull, "--skip-e2e")
    assert Deployment.objects.get(environment=release.environment).commit == pull.merge_commit


def test_without_the_right_to_look_into_the_queue_the_merge_is_waited_for(release: Release) -> None:
    release.stub.checks, release.stub.merge_queue = [GREEN], True
    pull = release.pull()

    def forbid(request: Request) -> Answer | None:
        if "isInMergeQueue" not in str(request.body):
            return None
        release.stub.merge_now(pull)
        return 200, {"data": None, "errors": [{"type": "FORBIDDEN", "message": "no"}]}, {}

    release.stub.fault = forbid
    release.deploy(pull, "--skip-e2e")
    assert Deployment.objects.get(environment=release.environment).commit == pull.merge_commit


def test_a_fork_s_end_to_end_tests_are_for_a_person_to_approve(release: Release) -> None:
    release.stub.checks = [GREEN]
    ended = release.deploy(release.pull(fork="bob/funds"))
    assert (ended.code, "comes from the fork bob/funds" in ended.says) == (2, True), ended.says
    assert "approve its run" in ended.says
    assert release.stub.writes() == []


def test_a_long_pull_request_is_warned_about(release: Release) -> None:
    release.stub.checks = [GREEN]
    (warning,) = release.deploy(release.pull(lines=1000), "--skip-e2e").document["warnings"]
    assert "changes 1,000 lines" in warning
    assert (
        release.deploy(release.pull(lines=999, content=[{"a.py": "a\n"}]), "--skip-e2e").document["warnings"]
        == []
    )


def test_a_dry_run_says_everything_and_does_nothing(release: Release) -> None:
    release.stub.checks = [GREEN]
    pull, main = release.pull(), release.remote.tip("main")
    ended = release.deploy(pull, "--dry-run", "--auto-revert")
    assert ended.document["effects"] == [
        f"start ci.yml on {pull.branch}",
        f"merge #{pull.number} ({pull.head[:12]}, “{pull.title}”) into main by squashing",
        f"record the deployment of #{pull.number} to {release.environment}",
    ]
    assert release.stub.writes() == []
    assert release.remote.tip("main") == main
    assert not Deployment.objects.filter(environment=release.environment).exists()
    assert release.is_clean()


# --- GitHub at its worst ------------------------------------------------------------------------------------------


def test_a_merge_whose_answer_is_lost_is_found(release: Release) -> None:
    release.stub.checks = [GREEN]
    pull = release.pull()

    def lose(request: Request) -> None:
        if request.path.endswith("/merge") and not pull.merged_at:
            release.stub.merge_now(pull)
            raise Gone

    release.stub.fault = lose
    release.deploy(pull, "--skip-e2e")
    deployment = Deployment.objects.get(environment=release.environment)
    assert deployment.commit == pull.merge_commit == release.remote.tip("main")


def test_a_network_that_goes_half_way_is_found_where_it_was(release: Release) -> None:
    release.stub.checks = [GREEN]
    pull = release.pull()

    def go(_request: Request) -> None:
        if pull.merged_at:
            raise Gone

    release.stub.fault = go
    ended = release.deploy(pull, "--skip-e2e")
    assert (ended.code, "GitHub did not answer" in ended.says) == (2, True), ended.says
    assert pull.merged_at
    assert not Deployment.objects.filter(environment=release.environment).exists()
    release.stub.fault = lambda _request: None
    release.deploy(pull, "--skip-e2e")
    assert Deployment.objects.get(environment=release.environment).commit == pull.merge_commit


@pytest.mark.parametrize(
    "answer",
    [
        (502, {"message": "Bad Gateway"}, {}),
        (429, {"message": "Too many requests"}, {"Retry-After": "1"}),
        (403, {"message": "You have exceeded a secondary rate limit"}, {"Retry-After": "1"}),
    ],
)
def test_github_is_asked_again(release: Release, answer: Answer) -> None:
    release.stub.checks = [GREEN]
    pull = release.pull()
    refused: list[Request] = []

    def refuse_once(request: Request) -> Answer | None:
        if refused or not request.path.endswith("check-runs"):
            return None
        refused.append(request)
        return answer

    release.stub.fault = refuse_once
    release.deploy(pull, "--skip-e2e")
    assert refused
    assert pull.merged_at


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            (
                403,
                {"message": "Resource not accessible by personal access token"},
                {"X-Accepted-GitHub-Permissions": "contents=write"},
            ),
            "GITHUB_TOKEN may not merge #{number}. It needs contents=write.",
        ),
        ((401, {"message": "Bad credentials"}, {}), "GitHub does not accept GITHUB_TOKEN"),
        ((404, {"message": "Not Found"}, {}), "could not merge #{number}: it does not exist"),
        (
            (
                403,
                {"message": "API rate limit exceeded for user ID 1."},
                {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "4102444800"},
            ),
            "rate limit is used up",
        ),
    ],
)
def test_what_github_refuses_is_said_in_a_sentence(release: Release, answer: Answer, says: str) -> None:
    release.stub.checks = [GREEN]
    pull = release.pull()
    release.stub.fault = lambda request: answer if request.method == "PUT" else None
    ended = release.deploy(pull, "--skip-e2e")
    assert (ended.code, says.format(number=pull.number) in ended.says) == (2, True), ended.says


@pytest.mark.parametrize("missing", ["TOKEN", "REPOSITORY"])
def test_without_configuration_it_says_what_is_missing(release: Release, missing: str) -> None:
    with override_settings(**{f"ROLLOUT_GITHUB_{missing}": ""}):
        ended = release.run("deploy_with_confidence", 48)
    assert (ended.code, ended.says) == (2, f"GITHUB_{missing} is not set: GitHub cannot be asked.")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("REPOSITORY", "funds", "GITHUB_REPOSITORY is 'funds': it should be OWNER/NAME."),
        ("REPOSITORY", "https://github.com/acme/funds", "it should be OWNER/NAME."),
        ("TOKEN", "secret-token\n", "GITHUB_TOKEN has a character that no token has"),
        ("TOKEN", "secret-tökén", "GITHUB_TOKEN has a character that no token has"),
        (
            "API_URL",
            "api.github.com",
            "GITHUB_API_URL is 'api.github.com', which is not the address of an API",
        ),
    ],
)
def test_wrong_configuration_is_named(release: Release, name: str, value: str, says: str) -> None:
    with override_settings(**{f"ROLLOUT_GITHUB_{name}": value}):
        ended = release.run("deploy_with_confidence", 48)
    assert (ended.code, says in ended.says) == (2, True), ended.says
    assert "secret" not in ended.says


def test_html_in_place_of_github_is_one_sentence(release: Release) -> None:
    release.stub.fault = lambda _request: (200, "<html>", {"Content-Type": "text/html"})
    ended = release.deploy(release.pull())
    assert (ended.code, "is not GitHub (text/html)" in ended.says) == (2, True), ended.says
    assert "Traceback" not in ended.shown


def test_a_commit_is_recorded_once_and_as_a_hash(release: Release) -> None:
    pull = release.pull()
    release.stub.merge_now(pull)
    seen = release.github.pull_request(pull.number)
    assert records.record(seen, 1).pk == records.record(seen, 1).pk


def test_an_outage_while_it_waits_is_outlived(release: Release) -> None:
    release.stub.checks = [UNDER_WAY]
    pull = release.pull()
    looks, gone = 0, 4

    def go(request: Request) -> None:
        nonlocal looks, gone
        if looks and gone:
            gone -= 1
            raise Gone
        looks += request.path.endswith("/status")
        if looks == 2:
            release.stub.checks = [GREEN]

    release.stub.fault = go
    with override_settings(ROLLOUT_GITHUB_RETRIES=1):
        ended = release.deploy(pull, "--skip-e2e")
    assert "GitHub did not answer" in ended.shown
    assert pull.merged_at, ended.says


def test_an_outage_that_lasts_ends_with_the_time(release: Release) -> None:
    release.stub.checks = [UNDER_WAY]
    looks = 0

    def go(request: Request) -> None:
        nonlocal looks
        if looks:
            raise Gone
        looks += request.path.endswith("/status")

    release.stub.fault = go
    ended = release.deploy(release.pull(), "--skip-e2e", "--wait-minutes", "0.02")
    assert (ended.code, "GitHub did not answer" in ended.says) == (2, True), ended.says


def test_a_pause_that_ends_in_time_is_waited_for_without_asking(release: Release) -> None:
    release.stub.checks = [GREEN]
    pull = release.pull()
    times: list[float] = []

    def limit(request: Request) -> Answer | None:
        times.append(time.monotonic())
        if request.path.endswith("check-runs") and len(times) < 4:
            return 429, {"message": "Too many requests"}, {"Retry-After": "3"}
        return None

    release.stub.fault = limit
    with override_settings(ROLLOUT_GITHUB_RETRIES=0):
        release.deploy(pull, "--skip-e2e")
    assert pull.merged_at
    assert max(after - before for before, after in pairwise(times)) >= 3
