"""``monitor_deployment``: the judge on real telemetry, by a clock that the tests move."""

import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import override_settings
from django.utils import timezone

from rollout import operations
from rollout.conf import conf
from rollout.models import Alert, Check, Deployment, Incident, Rollout
from rollout.release import monitor as release_monitor
from rollout.release.decisions import consecutive_reds
from rollout.tick import tick
from tests.canary import Canary, Judged
from tests.clock import SEARCH_PATH, Clock, travelling
from tests.eventually import eventually
from tests.obedience import query
from tests.rollout.release.conftest import Ended, Release, idle
from tests.rollout.release.repository import FUND
from tests.rollout.release.stub import Gone, Request

FOREVER = 60  # min; these end by themselves
SOON = 5  # min; a few checks
Meanwhile = Callable[[], object]
Monitor = Callable[..., Ended]


def reports(canary: Canary, *events: str, clients: int = 3) -> Meanwhile:
    """Return what lets new browsers report."""
    return lambda: canary.send(*events, clients=clients)


@contextmanager
def reporting(canary: Canary, *events: str) -> Iterator[None]:
    """Let new browsers report all the time, to monitors that run in processes of their own."""
    done = threading.Event()

    def send() -> None:
        while not done.is_set():
            canary.send(*events, clients=3)
            done.wait(0.2)

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send)
        try:
            yield
        finally:
            done.set()
            sending.result(30)


@pytest.fixture(scope="module")
def clock(database: None) -> Iterator[Clock]:
    with travelling() as clock:
        yield clock


@pytest.fixture
def monitor(release: Release, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Monitor]:
    """Run the command in this process.

    Its clock, the database's, stands still but while it sleeps. So no test waits, and none fails on a machine that is
    slow: what happens meanwhile happens each time that it sleeps.
    """

    def monitor(
        canary: Canary, *arguments: object, minutes: float = FOREVER, meanwhile: Meanwhile = lambda: None
    ) -> Ended:
        def sleep(seconds: float) -> None:
            meanwhile()
            clock.advance(seconds)

        clock.stop()
        monkeypatch.setattr(release_monitor, "time", SimpleNamespace(sleep=sleep))
        with override_settings(ROLLOUT_CHECK_INTERVAL=timedelta(minutes=1)):
            return release.run(
                "monitor_deployment", "--feature", canary.feature, "--minutes", minutes, *arguments
            )

    query(f"SET search_path = {SEARCH_PATH}")
    yield monitor
    query("RESET search_path")
    clock.reset()


def reasons(canary: Canary) -> list[str]:
    """Return the reason of each rollback to 0 %."""
    history = canary.rollout.history.filter(percentage=0, on_hold=True).order_by("version")
    return [record.history_change_reason for record in history]


# --- Red ----------------------------------------------------------------------------------------------------------


def test_three_red_checks_roll_the_flag_back_first_and_then_open_the_revert(
    release: Release, traffic: Judged, monitor: Monitor
) -> None:
    canary, deployment = traffic(auto_rollback=False), release.deployed()
    flag_at_the_revert: list[int] = []

    def look(request: Request) -> None:
        if request.method == "POST" and request.path.endswith("/pulls"):
            flag_at_the_revert.append(int(Rollout.objects.get(feature=canary.feature).percentage))
            connection.close()

    release.stub.fault = look
    ended = monitor(canary, "--auto-revert", meanwhile=reports(canary, "migration_failed"))
    assert ended.code == 1, ended
    assert "3 consecutive red checks" in ended.says
    assert ended.document["rolled_back"] is True
    assert canary.rollout.live_word == "legacy"
    (reason,) = reasons(canary)
    assert reason.startswith(f"monitor: {canary.feature}: 3 consecutive red checks")
    assert flag_at_the_revert == [0]
    deployment.refresh_from_db()
    assert deployment.state == "rolled_back"
    assert deployment.revert_pull_request == max(release.stub.pulls)
    assert release.remote.read(deployment.revert_branch, "fund.py") == FUND
    assert [each["signal"] for each in ended.document["sightings"]][-3:] == ["red"] * 3


def test_a_rollback_by_the_judge_is_followed_by_the_revert(
    release: Release, traffic: Judged, monitor: Monitor
) -> None:
    canary, deployment = traffic(), release.deployed()
    ended = monitor(canary, "--auto-revert", meanwhile=reports(canary, "migration_failed"))
    assert (ended.code, ended.says.partition(":")[0]) == (1, f"The judge rolled {canary.feature} back")
    (reason,) = reasons(canary)
    assert reason.startswith("judge: ")
    # No channel is set up in this shell; the worker that sends may have one.
    alerts = Alert.objects.filter(rollout=canary.pk, kind="rolled_back", sent_at=None, skipped=False)
    assert sorted(alert.channel for alert in alerts) == ["email", "webhook"]
    deployment.refresh_from_db()
    assert deployment.revert_pull_request
    again = monitor(canary, "--auto-revert")
    assert (again.code, again.document["effects"]) == (1, [])
    assert len(reasons(canary)) == 1


def test_a_rollback_by_the_judge_before_anybody_monitored_is_found(
    release: Release, traffic: Judged, monitor: Monitor
) -> None:
    canary, deployment = traffic(), release.deployed()
    Deployment.objects.filter(pk=deployment.pk).update(deployed_at=canary.began)
    for _ in range(3):
        canary.send("migration_failed", clients=3)
        canary.check()
    assert Incident.objects.filter(rollout=canary.rollout).exists()
    ended = monitor(canary, "--auto-revert")
    assert (ended.code, ended.document["rolled_back"]) == (1, True)
    deployment.refresh_from_db()
    assert deployment.revert_pull_request


def test_without_auto_revert_nothing_is_rolled_back(
    release: Release, traffic: Judged, monitor: Monitor
) -> None:
    canary, deployment = traffic(auto_rollback=False), release.deployed()
    ended = monitor(canary, meanwhile=reports(canary, "migration_failed"))
    assert (ended.code, "--auto-revert was not given" in ended.says) == (1, True)
    assert canary.rollout.percentage == 10
    deployment.refresh_from_db()
    assert (deployment.state, deployment.revert_pull_request) == ("unhealthy", None)
    assert release.stub.writes() == []


def test_a_lower_threshold_than_the_judge_s_is_kept(
    release: Release, traffic: Judged, monitor: Monitor
) -> None:
    canary, _ = traffic(), release.deployed()
    ended = monitor(
        canary,
        "--error-threshold",
        1,
        "--auto-revert",
        meanwhile=reports(canary, "console_warning", clients=1),
    )
    assert ended.code == 1, ended.says
    assert canary.rollout.percentage == 0
    assert not Check.objects.filter(rollout=canary.rollout, action="roll_back").exists()


def test_a_revert_in_conflict_takes_nothing_back_of_the_rollback(
    release: Release, traffic: Judged, monitor: Monitor
) -> None:
    canary, deployment = traffic(auto_rollback=False), release.deployed()
    release.remote.commit_to_main({"fund.py": FUND.replace("three", "trois")})
    ended = monitor(canary, "--auto-revert", meanwhile=reports(canary, "migration_failed"))
    assert (ended.code, "conflicts with later changes in fund.py" in ended.says) == (1, True)
    assert canary.rollout.percentage == 0
    deployment.refresh_from_db()
    assert (deployment.state, deployment.revert_pull_request) == ("rolled_back", None)
    assert release.is_clean()


def test_a_network_that_is_gone_by_then_is_no_reason_to_stay(
    release: Release, traffic: Judged, monitor: Monitor
) -> None:
    canary, deployment = traffic(auto_rollback=False), release.deployed()

    def go(_request: Request) -> None:
        raise Gone

    release.stub.fault = go
    ended = monitor(canary, "--auto-revert", meanwhile=reports(canary, "migration_failed"))
    assert ended.code == 1
    assert canary.rollout.percentage == 0
    assert "No revert was opened: GitHub did not answer" in ended.says
    release.stub.fault = lambda _request: None
    again = monitor(canary, "--auto-revert")
    assert again.code == 1
    deployment.refresh_from_db()
    assert deployment.revert_pull_request == max(release.stub.pulls)
    assert len(reasons(canary)) == 1


def test_two_monitors_at_once_roll_back_once(release: Release, traffic: Judged) -> None:
    canary, deployment = traffic(auto_rollback=False), release.deployed()
    with reporting(canary, "migration_failed"):
        processes = [start(release, canary, "--auto-revert", "--json") for _ in range(2)]
        printed = [process.communicate(timeout=90) for process in processes]
    assert [process.returncode for process in processes] == [1, 1], printed
    assert len(reasons(canary)) == 1
    deployment.refresh_from_db()
    reverts = [pull for pull in release.stub.pulls.values() if pull.branch.startswith("revert-")]
    assert [pull.number for pull in reverts] == [deployment.revert_pull_request]
    assert release.is_clean()


def test_what_could_not_be_reverted_is_said_before_it_has_to_be(
    release: Release, traffic: Judged, monitor: Monitor
) -> None:
    canary, _ = traffic(), release.deployed()
    with override_settings(ROLLOUT_GITHUB_TOKEN=""):
        (warning,) = monitor(canary, "--auto-revert", minutes=0.01).document["warnings"]
    assert "GITHUB_TOKEN or GITHUB_REPOSITORY is not set" in warning
    shutil.rmtree(release.remote.bare)
    (warning,) = monitor(canary, "--auto-revert", minutes=0.01).document["warnings"]
    assert "no revert can be opened. git ls-remote failed" in warning


# --- Not red ------------------------------------------------------------------------------------------------------


def test_a_healthy_deployment_is_healthy(release: Release, traffic: Judged, monitor: Monitor) -> None:
    canary, deployment = traffic(), release.deployed()
    canary.send("migration_succeeded", clients=20)
    ended = monitor(canary, "--auto-revert", minutes=SOON, meanwhile=reports(canary, "migration_succeeded"))
    assert (ended.code, ended.document["effects"]) == (0, []), ended.says
    assert ended.says.startswith("Green at the end.")
    deployment.refresh_from_db()
    assert (deployment.state, deployment.monitored_since) == ("healthy", None)
    assert canary.rollout.percentage == 10


def test_the_checks_of_a_beat_that_runs_are_followed_and_none_made(
    release: Release, traffic: Judged, monitor: Monitor
) -> None:
    canary, _ = traffic(), release.deployed()
    canary.send("migration_succeeded", clients=20)
    made: list[int] = []

    def beat() -> None:
        canary.send("migration_succeeded", clients=3)
        made.extend(check.pk for check in tick() if check.rollout.feature == canary.feature)

    ended = monitor(canary, minutes=SOON, meanwhile=beat)
    assert ended.code == 0, ended.says
    assert sorted(Check.objects.filter(rollout=canary.rollout).values_list("pk", flat=True)) == made
    assert len(made) >= 2


def test_no_telemetry_and_no_issues_is_not_healthy(
    release: Release, traffic: Judged, monitor: Monitor
) -> None:
    canary, _ = traffic(), release.deployed()
    release.stub.open_issue(timezone.now() - timedelta(days=1))  # before the deployment
    for _ in range(3):
        release.stub.open_issue(timezone.now(), label="question")
        release.stub.open_issue(timezone.now(), kind="pull")
    ended = monitor(canary, "--auto-revert", minutes=SOON)
    assert (ended.code, "no telemetry; 0 production issues" in ended.says) == (2, True), ended.says
    assert canary.rollout.percentage == 10


def test_three_production_issues_trip_the_breaker_where_telemetry_is_silent(
    release: Release, traffic: Judged, monitor: Monitor
) -> None:
    canary, deployment = traffic(), release.deployed()
    for _ in range(3):
        release.stub.open_issue(deployment.deployed_at)
    ended = monitor(canary, "--auto-revert")
    assert (ended.code, "3 production issues since the deployment: 15 points" in ended.says) == (1, True)
    assert canary.rollout.percentage == 0
    assert [each["source"] for each in ended.document["sightings"]] == ["issues"] * 3


def test_issues_say_nothing_where_telemetry_speaks(
    release: Release, traffic: Judged, monitor: Monitor
) -> None:
    canary, deployment = traffic(), release.deployed()
    for _ in range(9):
        release.stub.open_issue(deployment.deployed_at)
    canary.send("migration_succeeded", clients=20)
    ended = monitor(canary, minutes=SOON, meanwhile=reports(canary, "migration_succeeded"))
    assert ended.code == 0, ended.says


def test_a_missing_label_is_not_taken_for_no_issues(
    release: Release, traffic: Judged, monitor: Monitor
) -> None:
    canary, _ = traffic(), release.deployed()
    release.stub.labels.clear()
    ended = monitor(canary, minutes=SOON)
    assert (ended.code, "has no label 'production-issue'" in ended.says) == (2, True)


def test_what_nobody_gets_is_not_judged_and_not_reverted(release: Release) -> None:
    deployment = release.deployed()
    ended = release.run("monitor_deployment", "--feature", idle().feature, "--auto-revert")
    assert (ended.code, "is not under way" in ended.says) == (2, True)
    deployment.refresh_from_db()
    assert (deployment.state, release.stub.writes()) == ("deployed", [])


def test_a_reader_of_the_output_that_has_gone_ends_no_monitoring(release: Release) -> None:
    with release.start("monitor_deployment", "--feature", idle().feature, "--minutes", 0) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        shown = process.stderr.read()
    assert process.returncode == 2, shown
    assert "is not under way: there is nothing to monitor." in shown
    assert "Traceback" not in shown


def test_a_person_s_stop_ends_it_without_a_revert(
    release: Release, traffic: Judged, monitor: Monitor
) -> None:
    canary, deployment = traffic(), release.deployed()
    ended = monitor(
        canary, "--auto-revert", meanwhile=lambda: operations.stop(canary.feature, reason="a person")
    )
    assert (ended.code, "back to legacy meanwhile" in ended.says) == (1, True)
    assert canary.rollout.percentage == 10
    assert release.stub.writes() == []
    deployment.refresh_from_db()
    assert deployment.state == "unhealthy"


def test_a_feature_that_is_none_is_said(release: Release) -> None:
    ended = release.run("monitor_deployment", "--feature", "NO_SUCH")
    assert (ended.code, "There is no rollout 'NO_SUCH'" in ended.says) == (2, True)


def test_a_pull_request_that_nobody_recorded_is_looked_up(release: Release) -> None:
    pull = release.pull()
    release.stub.merge_now(pull)
    release.remote.commit_to_main({"other.py": "later\n"})
    release.run("monitor_deployment", "--pr", pull.number, "--feature", idle().feature)
    assert Deployment.objects.get(environment=release.environment).commit == pull.merge_commit


def test_a_dry_run_has_no_effect_anywhere(
    release: Release, traffic: Judged, monitor: Monitor, clock: Clock
) -> None:
    canary, deployment = traffic(), release.deployed()
    for _ in range(2):
        canary.send("migration_failed", clients=3)
        canary.check()
    canary.send("migration_failed", clients=3)
    checks, version, branches = Check.objects.count(), canary.rollout.version, release.remote.branches()
    Rollout.objects.filter(feature=canary.feature).update(auto_rollback=False)
    canary.check()
    clock.advance(seconds=240)  # until the checks, which are dated ahead, are past
    ended = monitor(canary, "--auto-revert", "--dry-run", minutes=60)
    assert ended.code == 1, ended.says
    branch = f"revert-{deployment.pull_request}-{deployment.commit[:12]}"
    assert ended.document["effects"] == [
        f"roll {canary.feature} back to 0 %",
        f"push {branch}, which reverts {deployment.commit[:12]}",
        f"open a pull request of {branch} against main",
    ]
    assert release.stub.writes() == []
    assert (Check.objects.count(), canary.rollout.version) == (checks + 1, version)
    assert release.remote.branches() == branches
    before = deployment.state, deployment.monitored_since
    deployment.refresh_from_db()
    assert (deployment.state, deployment.monitored_since) == before
    assert release.is_clean()


# --- Interrupted --------------------------------------------------------------------------------------------------


def start(release: Release, canary: Canary, *arguments: str, breaker: int = 3) -> "subprocess.Popen[str]":
    """Run the command as a process of its own, as a shell does."""
    return release.start(
        *("monitor_deployment", "--feature", canary.feature, "--minutes", FOREVER, *arguments),
        ROLLOUT_BREAKER_CHECKS=str(breaker),
    )


def test_a_second_run_goes_on_with_what_was_interrupted(
    release: Release, traffic: Judged, monitor: Monitor
) -> None:
    canary, deployment = traffic(auto_rollback=False), release.deployed()
    first = start(release, canary, breaker=1000)  # what it sees does not end it
    with reporting(canary, "migration_failed"):
        eventually(lambda: Check.objects.filter(rollout=canary.rollout, signal="red").first())
        first.send_signal(signal.SIGINT)
        try:
            out, errors = first.communicate(timeout=30)
        finally:
            first.kill()
    assert first.returncode == 130, out + errors
    assert "Interrupted. Run the command again" in out
    deployment.refresh_from_db()
    began = deployment.monitored_since
    assert began is not None
    ended = monitor(canary, meanwhile=reports(canary, "migration_failed"))
    assert ended.code == 1
    assert "Continuing the monitoring that began at" in ended.shown
    earliest = Check.objects.filter(rollout=canary.rollout).order_by("id")[0]
    assert ended.document["sightings"][0]["at"] == earliest.at.isoformat().replace("+00:00", "Z")


def test_a_monitoring_can_be_begun_anew(release: Release, traffic: Judged, monitor: Monitor) -> None:
    canary = traffic()
    long_ago = timezone.now() - timedelta(hours=3)
    release.deployed(monitored_since=long_ago)
    ended = monitor(canary, minutes=60)
    assert (ended.code, ended.says) == (2, "The judge made no check in that time.")
    Deployment.objects.filter(environment=release.environment).update(monitored_since=long_ago)
    canary.send("migration_succeeded", clients=20)
    ended = monitor(canary, "--restart", minutes=SOON, meanwhile=reports(canary, "migration_succeeded"))
    assert ended.code == 0, ended.says


@pytest.mark.parametrize("command", ["monitor_deployment", "deploy_with_confidence", "finalize_pr"])
def test_help_tells_the_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call_command(command, "--help")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "0 healthy, 1 rolled back or unhealthy, 2" in shown
    assert "--dry-run" in shown


def test_an_observation_knows_whether_its_red_was_new(traffic: Judged) -> None:
    """The same failures, still in the stage's totals, are no further reds: the judge does not count them either."""
    canary = traffic()
    canary.send("migration_succeeded", clients=17)
    canary.send("migration_failed", clients=3)
    canary.check()
    for _ in range(2):
        canary.send(clients=2)
        canary.check()
    canary.send("migration_failed")
    canary.check()
    checks = Check.objects.filter(rollout=canary.rollout).order_by("id")
    seen = [release_monitor.observe(check, conf.policy) for check in checks]
    assert [each.signal for each in seen] == ["red"] * 4
    assert [each.fresh for each in seen] == [True, False, False, True]
    assert consecutive_reds(seen) == checks.last().decision["carry"]["reds"] == 2  # type: ignore[union-attr]
