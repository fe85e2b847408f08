"""``deploy_with_confidence`` after the merge: the canary, and what it monitors."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings

from rollout import operations
from rollout.models import Deployment, Rollout
from tests.rollout.release.conftest import Ended, Release, idle
from tests.rollout.release.stub import Request
from tests.rollout.release.test_deploy import GREEN

BRIEFLY = ("--skip-e2e", "--minutes", "0")


@pytest.fixture
def deploy(release: Release) -> Callable[..., Ended]:
    """Deploy a green pull request, with a monitoring that ends at once."""

    def deploy(*arguments: object) -> Ended:
        release.stub.checks = [GREEN]
        return release.run("deploy_with_confidence", release.pull().number, *BRIEFLY, *arguments)

    return deploy


def percentage(rollout: Rollout) -> float:
    rollout.refresh_from_db()
    return float(rollout.percentage)


def reason(rollout: Rollout) -> str:
    return str(rollout.history.latest("version").history_change_reason)


Deploy = Callable[..., Ended]


def test_a_rollout_at_0_becomes_the_canary_and_is_monitored(release: Release, deploy: Deploy) -> None:
    rollout = idle()
    ended = deploy("--feature", rollout.feature, "--auto-revert")
    assert (ended.code, ended.says) == (2, "The judge made no check in that time."), ended
    deployment = Deployment.objects.get(environment=release.environment)
    assert percentage(rollout) == 10
    assert reason(rollout) == f"deploy_with_confidence: canary of #{deployment.pull_request}"
    assert ended.document["effects"][-2:] == [
        f"record the deployment of #{deployment.pull_request} as {deployment.commit[:12]} to {release.environment}",
        f"set {rollout.feature} to 10 %",
    ]


@pytest.mark.parametrize(("canary", "expected"), [("25", 25), ("0.5", 0.5), ("100", 100)])
def test_its_percentage_is_an_option(deploy: Deploy, canary: str, expected: float) -> None:
    rollout = idle()
    deploy("--feature", rollout.feature, "--canary", canary)
    assert percentage(rollout) == expected


def test_without_a_canary_it_ends_with_the_merge(release: Release, deploy: Deploy) -> None:
    rollout = idle()
    ended = deploy("--feature", rollout.feature, "--canary", 0)
    assert (ended.code, f"{rollout.feature} is at 0 %" in ended.says) == (2, True), ended.says
    assert percentage(rollout) == 0
    assert Deployment.objects.filter(environment=release.environment).exists()


@pytest.mark.parametrize("higher", [5, 10, 50])
def test_a_rollout_under_way_stays_where_it_is(deploy: Deploy, higher: int) -> None:
    rollout = idle()
    operations.set_percentage(rollout.feature, Decimal(higher), reason="before")
    ended = deploy("--feature", rollout.feature)
    assert (percentage(rollout), reason(rollout)) == (higher, "before")
    assert f"{rollout.feature} is at {higher} %, and stays there." in ended.shown


def stop(feature: str) -> None:
    operations.stop(feature, reason="x")


def roll_back(feature: str) -> None:
    operations.roll_back(feature, reason="x")


def disable(feature: str) -> None:
    operations.configure(feature, {"enabled": False}, reason="x")


def finish(feature: str) -> None:
    operations.set_percentage(feature, Decimal(100), reason="x")
    operations.complete(feature, reason="x")


def elsewhere(change: Callable[[str], None], feature: str) -> None:
    """Change a rollout in the thread of the stub, which has a connection of its own."""
    try:
        change(feature)
    finally:
        connection.close()


OBSTACLES = [
    (stop, 1, "is stopped: release it first"),
    (roll_back, 1, "is at 0 % and on hold: resume it first"),
    (disable, 1, "is disabled: enable it first"),
    (finish, 2, "is complete, on for everybody and no longer judged"),
]


@pytest.mark.parametrize(("obstacle", "code", "says"), OBSTACLES)
def test_nothing_is_merged_that_could_not_be_monitored(
    release: Release, deploy: Deploy, obstacle: Callable[[str], None], code: int, says: str
) -> None:
    rollout = idle()
    obstacle(rollout.feature)
    ended = deploy("--feature", rollout.feature)
    assert (ended.code, f"{rollout.feature} {says}" in ended.says) == (code, True), ended.says
    assert release.stub.requests[-1].method == "GET"
    assert release.stub.writes() == []


@pytest.mark.parametrize(("obstacle", "code", "says"), OBSTACLES)
def test_what_happens_before_the_merge_still_counts(
    release: Release, deploy: Deploy, obstacle: Callable[[str], None], code: int, says: str
) -> None:
    """The checks may take an hour: it looks again when they have passed."""
    rollout = idle()
    happened = False

    def meanwhile(request: Request) -> None:
        nonlocal happened
        if request.path.endswith("check-runs") and not happened:
            happened = True
            elsewhere(obstacle, rollout.feature)

    release.stub.fault = meanwhile
    ended = deploy("--feature", rollout.feature)
    assert (ended.code, says in ended.says) == (code, True), ended.says
    assert release.stub.writes() == []


def test_a_stop_after_the_merge_is_obeyed(release: Release, deploy: Deploy) -> None:
    rollout = idle()

    def meanwhile(request: Request) -> None:
        if request.method == "PUT":
            elsewhere(stop, rollout.feature)

    release.stub.fault = meanwhile
    ended = deploy("--feature", rollout.feature)
    assert (ended.code, "is stopped: release it first" in ended.says) == (2, True), ended.says
    assert percentage(rollout) == 0
    assert Deployment.objects.filter(environment=release.environment).exists()


def test_a_percentage_that_is_too_fine_is_refused_before_the_merge(release: Release, deploy: Deploy) -> None:
    rollout = idle()
    Rollout.objects.filter(pk=rollout.pk).update(hash_version=1)
    ended = deploy("--feature", rollout.feature, "--canary", "2.5")
    assert (ended.code, "2.5 is too fine: this rollout has steps of 1." in ended.says) == (2, True)
    assert release.stub.writes() == []


# --- Which rollout ------------------------------------------------------------------------------------------------


@pytest.fixture
def alone(release: Release) -> Any:
    """Only rollouts of the test's own: those of others are complete meanwhile."""
    kept = list(Rollout.objects.all())
    Rollout.objects.update(percentage=100, stage="complete", enabled=True)
    yield
    Rollout.objects.bulk_update(kept, ["percentage", "stage", "enabled"])


@pytest.mark.usefixtures("alone")
def test_the_only_one_that_can_start_is_meant(deploy: Deploy) -> None:
    rollout = idle()
    ended = deploy()
    assert percentage(rollout) == 10, ended
    assert "The judge made no check in that time." in ended.says


@pytest.mark.usefixtures("alone")
def test_of_two_that_can_start_one_has_to_be_named(release: Release, deploy: Deploy) -> None:
    one, other = sorted((idle().feature, idle().feature))
    ended = deploy()
    assert (ended.code, ended.says) == (2, f"Which rollout is meant? Name it: --feature {one} or {other}.")
    assert release.stub.writes() == []


@pytest.mark.usefixtures("alone")
def test_without_names_those_under_way_are_monitored_and_none_is_started(deploy: Deploy) -> None:
    live, waiting = idle(), idle()
    operations.set_percentage(live.feature, Decimal(50), reason="before")
    (warning,) = deploy().document["warnings"]
    assert warning == f"{waiting.feature} stays at 0 %: --feature {waiting.feature} starts it."
    assert (percentage(live), percentage(waiting)) == (50, 0)


@pytest.mark.usefixtures("alone")
def test_with_none_that_can_start_nothing_is_merged(release: Release, deploy: Deploy) -> None:
    assert deploy().code == 2
    assert release.stub.writes() == []


# --- A second run -------------------------------------------------------------------------------------------------


def test_a_second_run_starts_what_the_first_could_not(release: Release, deploy: Deploy) -> None:
    rollout = idle()
    deploy("--feature", rollout.feature, "--canary", 0)
    number = Deployment.objects.get(environment=release.environment).pull_request
    for _ in range(2):
        release.run("deploy_with_confidence", number, *BRIEFLY, "--feature", rollout.feature)
        assert percentage(rollout) == 10
    assert rollout.history.count() == 2  # created, and started once


@pytest.mark.parametrize(
    "back", [roll_back, lambda feature: operations.set_percentage(feature, Decimal(0), reason="x")]
)
def test_a_second_run_does_not_start_what_was_taken_back(
    release: Release, deploy: Deploy, back: Callable[[str], None]
) -> None:
    rollout = idle()
    deploy("--feature", rollout.feature)
    back(rollout.feature)
    number = Deployment.objects.get(environment=release.environment).pull_request
    ended = release.run("deploy_with_confidence", number, *BRIEFLY, "--feature", rollout.feature)
    assert (ended.code, percentage(rollout)) == (2, 0), ended
    assert len(ended.document["warnings"]) == 1


def test_two_runs_at_once_merge_record_and_start_once(release: Release) -> None:
    release.stub.checks = [GREEN]
    pull, rollout = release.pull(), idle()
    command = ("deploy_with_confidence", pull.number, "--feature", rollout.feature, *BRIEFLY)
    processes = [release.start(*command) for _ in range(2)]
    printed = [process.communicate(timeout=90) for process in processes]
    assert [process.returncode for process in processes] == [2, 2], printed
    assert not [text for both in printed for text in both if "Traceback" in text]
    deployment = Deployment.objects.get(environment=release.environment)
    assert deployment.commit == pull.merge_commit == release.remote.tip("main")
    assert (percentage(rollout), rollout.history.count()) == (10, 2)


def test_a_dry_run_says_what_it_would_start(release: Release, deploy: Deploy) -> None:
    rollout = idle()
    ended = deploy("--feature", rollout.feature, "--dry-run")
    assert (ended.code, ended.says) == (0, "A dry run: nothing was changed.")
    assert ended.document["effects"][-1] == f"set {rollout.feature} to 10 %"
    assert (percentage(rollout), release.stub.writes()) == (0, [])


def test_a_database_that_takes_no_writes_is_found_before_the_merge(release: Release, deploy: Deploy) -> None:
    feature = idle().feature
    connection.cursor().execute("SET default_transaction_read_only = on")
    try:
        ended = deploy("--feature", feature)
    finally:
        connection.cursor().execute("RESET default_transaction_read_only")
    assert (ended.code, ended.says.startswith("The database is read-only")) == (2, True), ended.says
    assert release.stub.writes() == []


@pytest.mark.parametrize("url", ["nonsense", "ftp://a", "http://"])
def test_a_site_that_is_none_is_refused(deploy: Deploy, url: str) -> None:
    with override_settings(ROLLOUT_SITE_URL=url):
        ended = deploy()
    assert (ended.code, ended.says.startswith(f"ROLLOUT_SITE_URL is '{url}'")) == (2, True)
