"""The revert of a recorded commit: real git, a real push, and one pull request."""

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from django.db import connection

from rollout.models import Deployment
from rollout.release import records
from rollout.release.errors import Missing, Rejected, ReleaseError, RevertConflict, Unavailable
from rollout.release.git import Git
from rollout.release.github import Revert
from rollout.release.revert import open_revert, roll_back
from tests.canary import Judged
from tests.eventually import eventually
from tests.rollout.release.conftest import Release, terminal
from tests.rollout.release.repository import FUND, git
from tests.rollout.release.stub import Gone, Request
from tests.servers import database_url


def revert(release: Release, deployment: Deployment) -> Revert | None:
    return open_revert(deployment, "it was red", github=release.github, git=release.git, terminal=terminal())


def branch_of(deployment: Deployment) -> str:
    return f"revert-{deployment.pull_request}-{deployment.commit[:12]}"


def test_the_recorded_commit_is_reverted_whatever_came_to_main_since(release: Release) -> None:
    deployment = release.deployed()
    later = release.remote.commit_to_main({"other.py": "later\n"})
    opened = revert(release, deployment)
    assert opened is not None
    branch = branch_of(deployment)
    assert release.remote.read(branch, "fund.py") == FUND
    assert release.remote.read(branch, "other.py") == "later\n"
    tip = release.remote.tip(branch)
    assert tip is not None
    message, parents = release.remote.commit(tip)
    assert parents == [later]
    assert f"This reverts commit {deployment.commit}." in message
    pull = release.stub.pulls[opened.number]
    assert (pull.branch, pull.base) == (branch, "main")
    assert pull.title == f'Revert "Count in German" (#{deployment.pull_request})'
    assert "it was red" in pull.body
    deployment.refresh_from_db()
    assert (deployment.revert_branch, deployment.revert_pull_request) == (branch, opened.number)
    assert release.is_clean()


@pytest.mark.parametrize(("how", "commits"), [("squash", 1), ("merge", 1), ("rebase", 2)])
def test_all_of_a_merge_is_reverted_however_it_was_made(release: Release, how: str, commits: int) -> None:
    deployment = release.deployed(content=[{"a.py": "a\n"}, {"b.py": "b\n"}], how=how)
    Deployment.objects.filter(pk=deployment.pk).update(commits=commits)
    deployment.refresh_from_db()
    assert revert(release, deployment)
    files = git(release.remote.bare, "ls-tree", "-r", "--name-only", branch_of(deployment)).split()
    assert files == [".github/labeler.yml", "fund.py", "other.py"]


def test_a_second_run_finds_the_first_s_pull_request(release: Release) -> None:
    deployment = release.deployed()
    first = revert(release, deployment)
    writes = release.stub.writes()
    assert revert(release, deployment) == first
    assert release.stub.writes() == writes


def test_a_run_that_was_cut_off_after_the_push_is_finished(release: Release) -> None:
    deployment = release.deployed()

    def go(request: Request) -> None:
        if request.method == "POST":
            raise Gone

    release.stub.fault = go
    with pytest.raises(Unavailable, match="GitHub did not answer the request to open a pull request"):
        revert(release, deployment)
    pushed = release.remote.tip(branch_of(deployment))
    assert pushed
    release.stub.fault = lambda _request: None
    assert revert(release, deployment)
    assert release.remote.tip(branch_of(deployment)) == pushed


def test_two_runs_at_once_open_one_pull_request(release: Release) -> None:
    deployment = release.deployed()

    def run(_: int) -> int:
        try:
            opened = revert(release, Deployment.objects.get(pk=deployment.pk))
            assert opened is not None
            return opened.number
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as pool:
        numbers = set(pool.map(run, range(3)))
    assert len(numbers) == 1
    assert release.remote.branches() == {"main", f"feature-{deployment.pull_request}", branch_of(deployment)}
    assert len(release.stub.pulls) == 2
    assert release.is_clean()


def test_a_run_waits_until_the_worktree_of_another_is_gone(release: Release) -> None:
    def worktrees() -> int:
        with release.git.worktree():
            return len(git(release.checkout, "worktree", "list").splitlines())

    with ThreadPoolExecutor(1) as pool:
        with release.git.worktree():
            second = pool.submit(worktrees)
            with pytest.raises(TimeoutError):
                second.result(1)
        assert second.result(60) == 2


def test_a_branch_that_another_run_pushed_first_is_left_as_it_is(release: Release) -> None:
    deployment = release.deployed()
    with release.git.revert(records.deployed(deployment), title="Revert", why="it was red") as tree:
        assert tree is not None
        first = release.remote.branch(branch_of(deployment), {"a.py": "the other run's\n"})
        assert tree.push_new(branch_of(deployment)) is False
    assert release.remote.tip(branch_of(deployment)) == first


def test_of_many_that_roll_back_at_once_one_does(release: Release, traffic: Judged) -> None:
    canary = traffic()

    def run(_: int) -> None:
        try:
            roll_back([canary.feature], "it was red", terminal())
        finally:
            connection.close()

    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with ThreadPoolExecutor(3) as pool, psycopg.connect(database_url()) as session:
        session.execute("SELECT FROM rollout_rollout WHERE feature = %s FOR UPDATE", (canary.feature,))
        running = [pool.submit(run, number) for number in range(3)]
        with psycopg.connect(database_url(), autocommit=True) as look:
            eventually(lambda: look.execute(waiting).fetchone() == (3,))
        session.commit()
        for each in running:
            each.result(30)
    history = canary.rollout.history.filter(history_change_reason__startswith="monitor: ")
    assert [record.percentage for record in history] == [0]


def test_a_conflict_names_the_files_and_leaves_everything_clean(release: Release) -> None:
    deployment = release.deployed()
    release.remote.commit_to_main({"fund.py": FUND.replace("three", "trois"), "other.py": "later\n"})
    with pytest.raises(RevertConflict) as raised:
        revert(release, deployment)
    assert raised.value.files == ["fund.py"]
    assert "conflicts with later changes in fund.py. Nothing was pushed" in str(raised.value)
    assert release.remote.tip(branch_of(deployment)) is None
    assert release.stub.writes() == []
    assert release.is_clean()


def test_what_is_reverted_already_is_not_reverted_again(release: Release) -> None:
    deployment = release.deployed()
    release.remote.commit_to_main({"fund.py": FUND}, "back, by hand")
    assert revert(release, deployment) is None
    assert release.stub.writes() == []


def test_another_branch_of_that_name_is_not_taken_for_the_revert(release: Release) -> None:
    deployment = release.deployed()
    release.remote.branch(branch_of(deployment), {"a.py": "something else\n"})
    with pytest.raises(Rejected, match=f"does not revert {deployment.commit[:12]}"):
        revert(release, deployment)
    assert release.stub.writes() == []


def test_a_revert_that_somebody_closed_is_not_opened_again(release: Release) -> None:
    deployment = release.deployed()
    opened = revert(release, deployment)
    assert opened is not None
    release.stub.pulls[opened.number].state = "closed"
    seen = terminal()
    again = open_revert(deployment, "still red", github=release.github, git=release.git, terminal=seen)
    assert again is not None
    assert (again.number, again.is_open) == (opened.number, False)
    assert seen.warnings == [
        f"Revert #{opened.number} was closed without a merge: reopen it to take the code back."
    ]


def test_a_commit_that_is_not_on_the_branch_is_refused(release: Release) -> None:
    deployment = release.deployed()
    git(release.remote.desk, "checkout", "--quiet", "-B", "main", f"{deployment.commit}~1")
    git(release.remote.desk, "push", "--quiet", "--force", "origin", "main")
    git(release.checkout, "fetch", "--quiet", "origin", deployment.commit)
    with pytest.raises(Missing, match="is not on main: was its history rewritten"):
        revert(release, deployment)


def test_a_shallow_checkout_reverts_the_commit_and_not_the_whole_tree(
    release: Release, tmp_path: Path
) -> None:
    deployment = release.deployed()
    shallow = tmp_path / "shallow"
    url = f"file://{release.remote.bare}"
    git(tmp_path, "clone", "--quiet", "--depth", "1", url, str(shallow))
    assert open_revert(deployment, "it was red", github=release.github, git=Git(shallow), terminal=terminal())
    assert release.remote.read(branch_of(deployment), "fund.py") == FUND


def test_a_hook_of_the_checkout_does_not_stop_a_revert(release: Release) -> None:
    for name in ("pre-commit", "pre-push", "commit-msg"):
        hook = release.checkout / ".git" / "hooks" / name
        hook.write_text("#!/bin/sh\nexit 1\n")
        hook.chmod(0o755)
    assert revert(release, release.deployed())


def test_work_in_progress_in_the_checkout_is_left_alone(release: Release) -> None:
    (release.checkout / "fund.py").write_text("half a thought\n")
    assert revert(release, release.deployed())
    assert (release.checkout / "fund.py").read_text() == "half a thought\n"
    assert git(release.checkout, "status", "--porcelain") == "M fund.py"


def test_a_remote_that_is_away_is_said_in_a_sentence(release: Release) -> None:
    deployment = release.deployed()
    shutil.rmtree(release.remote.bare)
    with pytest.raises(ReleaseError, match="git ls-remote failed"):
        revert(release, deployment)
    assert release.is_clean()


def test_a_disk_without_room_for_a_worktree_is_said_in_a_sentence(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = release.deployed()
    monkeypatch.setattr(tempfile, "tempdir", "/dev/full")
    with pytest.raises(Unavailable, match=r"no room for git's temporary files: .* Set TMPDIR"):
        revert(release, deployment)
    assert release.is_clean()


def test_a_rebased_pull_request_is_told_from_a_squashed_one(release: Release) -> None:
    content = [{"a.py": "a\n"}, {"b.py": "b\n"}]
    for how, expected in [("squash", 1), ("rebase", 2)]:
        pull = release.pull(content=content, commits=2)
        release.stub.merge_now(pull, how)
        assert release.github.merged_commits(release.github.pull_request(pull.number)) == expected
        content = [{"c.py": "c\n"}, {"d.py": "d\n"}]


def test_a_deployment_is_known_by_its_environment(release: Release) -> None:
    deployment = release.deployed()
    assert records.latest() == deployment
    Deployment.objects.filter(pk=deployment.pk).update(environment="elsewhere")
    assert records.latest() is None
