"""The revert after a rollback by the judge (``ROLLOUT_AUTO_REVERT``), and by hand (``revert_deployment``)."""

import base64
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from django.core.cache import cache
from django.db import connection
from django.test import override_settings

from rollout.models import Deployment
from rollout.release.git import Git
from rollout.tasks import open_revert
from tests.canary import Canary, Judged
from tests.eventually import eventually
from tests.reliability.valkey import private_valkey
from tests.rollout.release.conftest import Ended, Release
from tests.rollout.release.repository import FUND
from tests.rollout.release.stub import REPOSITORY, Gone, Request
from tests.servers import PROJECT, celery, database_url


def rolled_back(traffic: Judged) -> Canary:
    """A rollout that the judge has rolled back."""
    canary = traffic()
    for _ in range(3):
        canary.send("migration_failed", clients=3)
        canary.check()
    assert canary.rollout.percentage == 0
    return canary


def after_rollback(release: Release, canary: Canary) -> Ended:
    return release.run("revert_deployment", "--after-rollback", "--feature", canary.feature)


def test_a_rollback_by_the_judge_opens_the_revert_once(release: Release, traffic: Judged) -> None:
    deployment = release.deployed()
    canary = rolled_back(traffic)
    ended = after_rollback(release, canary)
    deployment.refresh_from_db()
    assert (ended.code, ended.says) == (0, deployment.revert_says)
    assert deployment.state == "rolled_back"
    pull = release.stub.pulls[deployment.revert_pull_request or 0]
    assert f"The judge rolled {canary.feature} back: " in pull.body
    assert release.remote.read(deployment.revert_branch, "fund.py") == FUND
    requests = len(release.stub.requests)
    assert after_rollback(release, canary).document["effects"] == []
    assert len(release.stub.requests) == requests


def test_nothing_is_reverted_while_nothing_was_rolled_back(release: Release, traffic: Judged) -> None:
    canary = rolled_back(traffic)
    mended = release.deployed()
    Deployment.objects.filter(pk=mended.pk).update(deployed_at=canary.now + timedelta(minutes=5))
    assert (after_rollback(release, canary).code, release.stub.requests) == (0, [])


def test_without_a_deployment_there_is_nothing_to_revert(release: Release, traffic: Judged) -> None:
    canary = rolled_back(traffic)
    assert after_rollback(release, canary).code == 0
    ended = release.run("revert_deployment")
    assert ended.code == 2
    assert "run monitor_deployment --pr NUMBER" in ended.says


def test_what_github_does_not_answer_is_tried_again(release: Release, traffic: Judged) -> None:
    deployment = release.deployed()
    canary = rolled_back(traffic)

    def go(_: Request) -> None:
        raise Gone

    release.stub.fault = go
    assert after_rollback(release, canary).code == 2
    deployment.refresh_from_db()
    assert (deployment.state, deployment.revert_settled) == ("rolled_back", False)
    assert "GitHub did not answer" in deployment.revert_says
    release.stub.fault = lambda _request: None
    assert after_rollback(release, canary).code == 0
    deployment.refresh_from_db()
    assert deployment.revert_settled


def test_a_pause_that_github_asks_for_is_kept_by_later_attempts(release: Release, traffic: Judged) -> None:
    deployment = release.deployed()
    canary = rolled_back(traffic)
    release.stub.fault = lambda _request: (429, {"message": "Too many requests"}, {"Retry-After": "3600"})
    assert after_rollback(release, canary).code == 2
    asked = len(release.stub.requests)
    for _ in range(3):
        assert after_rollback(release, canary).code == 2
    assert len(release.stub.requests) == asked == 1
    deployment.refresh_from_db()
    assert "try again after" in deployment.revert_says


def test_an_hour_of_late_messages_is_one_attempt(release: Release, traffic: Judged) -> None:
    """Where GitHub hangs, each attempt takes a minute of the worker."""
    asked: list[Request] = []

    def go(request: Request) -> None:
        asked.append(request)
        raise Gone

    release.deployed()
    rolled_back(traffic)
    release.stub.fault = go
    tried = f"rollout.revert.{connection.settings_dict['NAME']}"
    cache.delete(tried)
    with override_settings(ROLLOUT_CHECK_INTERVAL=timedelta(minutes=1)):
        open_revert()
        of_one = len(asked)
        for _ in range(59):
            open_revert()
        assert len(asked) == of_one > 0
        cache.delete(tried)  # the pause is over
        open_revert()
        assert len(asked) == 2 * of_one
    cache.delete(tried)


def test_a_conflict_is_for_a_person_and_not_tried_for_ever(release: Release, traffic: Judged) -> None:
    deployment = release.deployed()
    release.remote.commit_to_main({"fund.py": FUND.replace("three", "trois")})
    canary = rolled_back(traffic)
    ended = after_rollback(release, canary)
    assert ended.code == 1
    assert "conflicts with later changes in fund.py" in ended.says
    deployment.refresh_from_db()
    assert (deployment.revert_says, deployment.revert_settled) == (ended.says, True)
    assert after_rollback(release, canary).code == 0


def test_a_person_rolls_back_and_reverts_in_one_go(release: Release, traffic: Judged) -> None:
    canary, deployment = traffic(), release.deployed()
    later = release.deployed(content=[{"other.py": "later\n"}])
    arguments = ("--pr", deployment.pull_request, "--feature", canary.feature, "--reason", "drafts get lost")
    rehearsed = release.run("revert_deployment", *arguments, "--dry-run")
    assert (rehearsed.code, release.stub.writes()) == (0, [])
    assert canary.rollout.percentage == 10
    ended = release.run("revert_deployment", *arguments)
    assert ended.code == 0, ended
    assert ended.document["effects"] == rehearsed.document["effects"]
    assert canary.rollout.percentage == 0
    deployment.refresh_from_db()
    assert "drafts get lost" in release.stub.pulls[deployment.revert_pull_request or 0].body
    assert release.remote.read(deployment.revert_branch, "other.py") == "later\n"
    later.refresh_from_db()
    assert later.revert_pull_request is None


def test_a_container_without_a_checkout_reverts_by_the_remote_s_address(
    release: Release, traffic: Judged, tmp_path: Path
) -> None:
    deployment = release.deployed()
    canary = rolled_back(traffic)
    nothing = tmp_path / "app"
    nothing.mkdir()
    with override_settings(ROLLOUT_PROJECT_DIRECTORY=nothing, ROLLOUT_GIT_REMOTE=str(release.remote.bare)):
        ended = after_rollback(release, canary)
    assert ended.code == 0, ended
    deployment.refresh_from_db()
    assert release.remote.read(deployment.revert_branch, "fund.py") == FUND
    assert list(nothing.iterdir()) == []


def test_the_token_signs_in_at_github_and_nowhere_else(tmp_path: Path) -> None:
    git = Git(tmp_path, "https://github.example.com/acme/funds", token="secret-token")
    asked = git.run("config", "--get-urlmatch", "http.extraHeader", "https://github.example.com/acme/funds")
    scheme, _, encoded = asked.removeprefix("Authorization: ").partition(" ")
    assert (scheme, base64.b64decode(encoded)) == ("Basic", b"x-access-token:secret-token")
    assert not git.succeeds("config", "--get-urlmatch", "http.extraHeader", "https://other.example.com/")
    assert not Git(tmp_path, "origin", token="secret-token").succeeds("config", "http.extraHeader")
    assert not Git(tmp_path, "http://github.example.com/acme/funds", token="secret-token").succeeds(
        "config", "--get-urlmatch", "http.extraHeader", "http://github.example.com/"
    )
    assert "secret-token" not in repr(git)


def test_celery_judges_rolls_back_and_opens_the_revert(
    release: Release, traffic: Judged, tmp_path: Path
) -> None:
    canary, deployment = traffic(), release.deployed()
    with private_valkey() as valkey, ExitStack() as stack:
        env = {
            "DATABASE_URL": database_url(),
            "REDIS_URL": valkey.url,
            "ENVIRONMENT": release.environment,
            "GITHUB_TOKEN": "secret-token",
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_API_URL": release.stub.url,
            "ROLLOUT_AUTO_REVERT": "on",
            "ROLLOUT_BREAKER_CHECKS": "1",
            "ROLLOUT_CHECK_INTERVAL": "1",
            "DJANGO_SETTINGS_MODULE": "tests.rollout.release.checkout_settings",
            "TEST_CHECKOUT": str(release.checkout),
            "PYTHONPATH": str(PROJECT),
        }
        canary.send("migration_failed", clients=3)
        beat = ("-B", "--schedule", str(tmp_path / "schedule"))
        stack.enter_context(celery(env, tmp_path / "worker.log", "worker", "--concurrency", "1", *beat))
        try:
            eventually(lambda: Deployment.objects.filter(pk=deployment.pk, revert_settled=True).first())
            eventually(lambda: canary.rollout.percentage == 0)
        finally:
            print(log := (tmp_path / "worker.log").read_text())  # noqa: T201 - pytest shows it where this fails
    deployment.refresh_from_db()
    assert deployment.revert_pull_request in release.stub.pulls
    assert "secret-token" not in log
