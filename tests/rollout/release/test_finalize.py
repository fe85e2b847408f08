"""``finalize_pr``: size, labels, end-to-end tests, and the merge."""

from typing import Any

import pytest

from rollout.models import Deployment
from tests.rollout.release.conftest import Release
from tests.rollout.release.stub import Lost, Request

GREEN = ("test", "completed", "success")
UNDER_WAY = ("test", "in_progress", None)


def test_a_pull_request_is_labelled_tested_and_left_open(release: Release) -> None:
    release.stub.labels |= {"judge"}
    pull = release.pull(
        files=("rollout/judge/decision.py", "idempotency/migrations/0002_x.py", "README.md"), lines=1234
    )
    ended = release.run("finalize_pr", pull.number, "--no-merge", "--run-e2e")
    assert (ended.code, "ready for review" in ended.says) == (0, True), ended
    assert pull.labels == ["judge", "migration"]
    assert release.stub.runs == [(pull.head, "queued", None)]
    assert ended.document["effects"] == [
        "create the label 'migration'",  # the only one that was missing
        f"label #{pull.number}: judge, migration",
        f"start ci.yml on {pull.branch}",
    ]
    assert "changes 1,234 lines" in ended.document["warnings"][0]
    assert pull.state == "open"


def test_a_second_run_changes_nothing(release: Release) -> None:
    pull = release.pull(files=("rollout/judge/decision.py",))
    release.run("finalize_pr", pull.number, "--no-merge", "--run-e2e")
    writes = release.stub.writes()
    assert release.run("finalize_pr", pull.number, "--no-merge", "--run-e2e").document["effects"] == []
    assert release.stub.writes() == writes


def test_end_to_end_tests_that_failed_are_started_again(release: Release) -> None:
    pull = release.pull()
    release.stub.runs = [(pull.head, "completed", "failure")]
    release.run("finalize_pr", pull.number, "--no-merge", "--run-e2e")
    assert release.stub.runs[1:] == [(pull.head, "queued", None)]


def test_a_missing_workflow_is_named(release: Release) -> None:
    release.stub.workflow = "other.yml"
    ended = release.run("finalize_pr", release.pull().number, "--no-merge", "--run-e2e")
    assert (ended.code, "is there a workflow ci.yml?" in ended.says) == (2, True)


@pytest.mark.parametrize(
    ("fields", "says"), [({"draft": True}, "is a draft"), ({"state": "closed"}, "closed without a merge")]
)
def test_what_cannot_be_reviewed_is_said(release: Release, fields: dict[str, Any], says: str) -> None:
    ended = release.run("finalize_pr", release.pull(**fields).number, "--no-merge")
    assert (ended.code, says in ended.says) == (1, True)


def test_a_number_that_is_none_is_said(release: Release) -> None:
    ended = release.run("finalize_pr", 48, "--no-merge")
    assert (ended.code, "could not read pull request #48" in ended.says) == (2, True)


def test_what_is_green_is_merged_and_recorded(release: Release) -> None:
    release.stub.checks = [GREEN]
    pull = release.pull()
    ended = release.run("finalize_pr", pull.number)
    assert ended.code == 0, ended.says
    assert Deployment.objects.get(environment=release.environment).commit == release.remote.tip("main")
    again = release.run("finalize_pr", pull.number)
    assert (again.code, again.says) == (0, f"#{pull.number} is merged already.")


@pytest.mark.parametrize("state", ["clean", "blocked"])
def test_what_is_not_green_yet_is_left_to_github(release: Release, state: str) -> None:
    release.stub.checks = [UNDER_WAY if state == "clean" else GREEN]
    pull = release.pull(mergeable_state=state)
    ended = release.run("finalize_pr", pull.number)
    assert (ended.code, pull.auto_merge) == (0, True), ended.says
    assert not pull.merged_at


def test_what_is_green_enters_the_merge_queue(release: Release) -> None:
    release.stub.checks, release.stub.merge_queue = [GREEN], True
    pull = release.pull()
    ended = release.run("finalize_pr", pull.number)
    assert (ended.code, "is in the merge queue of main" in ended.says) == (0, True), ended.says
    assert (release.stub.queue, pull.merged_at) == ([pull.number], None)


def test_a_label_made_by_a_request_whose_answer_was_lost_is_used(release: Release) -> None:
    pull = release.pull(files=("rollout/judge/decision.py",))
    lost: list[Request] = []

    def lose(request: Request) -> None:
        if request.path.endswith("/labels") and not lost:
            lost.append(request)
            raise Lost

    release.stub.fault = lose
    ended = release.run("finalize_pr", pull.number, "--no-merge")
    assert (ended.code, pull.labels) == (0, ["judge"]), ended.says


def test_files_that_github_does_not_list_are_warned_about(release: Release) -> None:
    pull = release.pull(files=tuple(f"{number}.md" for number in range(3001)))
    (warning,) = release.run("finalize_pr", pull.number, "--no-merge").document["warnings"]
    assert "lists 3,000 of 3,001 changed files" in warning


def test_where_auto_merge_is_not_allowed_it_says_what_to_run(release: Release) -> None:
    release.stub.checks = [UNDER_WAY]
    release.stub.auto_merge_allowed = False
    pull = release.pull()
    ended = release.run("finalize_pr", pull.number)
    assert ended.code == 2
    assert "Auto merge is not allowed for this repository" in ended.says
    assert f"deploy_with_confidence {pull.number}" in ended.says


def test_what_fails_is_not_left_to_github(release: Release) -> None:
    release.stub.checks = [("types", "completed", "failure")]
    pull = release.pull(mergeable_state="blocked")
    ended = release.run("finalize_pr", pull.number)
    assert (ended.code, "failing checks: types" in ended.says, pull.auto_merge) == (1, True, False)


def test_a_dry_run_changes_nothing(release: Release) -> None:
    release.stub.checks = [UNDER_WAY]
    pull = release.pull(files=("Dockerfile",))
    ended = release.run("finalize_pr", pull.number, "--run-e2e", "--dry-run")
    assert ended.document["effects"] == [
        "create the label 'deployment'",
        f"label #{pull.number}: deployment",
        f"start ci.yml on {pull.branch}",
        f"turn on auto-merge of #{pull.number}",
    ]
    assert release.stub.writes() == []
    assert (pull.labels, pull.auto_merge) == ([], False)
