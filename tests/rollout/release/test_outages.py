"""The release commands while the database or the site is away, and after signals."""

import json
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from django.db import OperationalError, connection

from chaos.proxy import Proxy
from rollout.models import Check, Deployment
from rollout.release import outages
from rollout.release.errors import Unavailable
from rollout.release.outages import outlive
from tests.canary import Judged
from tests.eventually import eventually
from tests.rollout.release.conftest import Release, idle, terminal
from tests.rollout.release.stub import Request
from tests.rollout.release.test_deploy import GREEN
from tests.rollout.release.test_monitor import reporting

OUTAGE = 3  # s


@pytest.fixture
def proxy(database: None) -> Iterator[Proxy]:
    """The way to the database of the commands that a test starts, but not of the test."""
    with Proxy(f"{connection.settings_dict['HOST']}/.s.PGSQL.5432") as running:
        yield running


def through(proxy: Proxy) -> str:
    return f"postgres://fundapi@127.0.0.1:{proxy.port}/{connection.settings_dict['NAME']}?sslmode=disable"


@pytest.mark.parametrize("fault", ["refuse", "strand"])
def test_a_monitoring_outlives_an_outage_and_still_opens_the_revert(
    release: Release, traffic: Judged, proxy: Proxy, fault: str
) -> None:
    canary, deployment = traffic(auto_rollback=False), release.deployed()
    process = release.start(
        *("monitor_deployment", "--feature", canary.feature, "--auto-revert", "--json"),
        DATABASE_URL=through(proxy),
        DATABASE_STATEMENT_TIMEOUT="3",
    )
    with reporting(canary, "migration_failed"):
        eventually(lambda: Check.objects.filter(rollout=canary.rollout).first())
        getattr(proxy, fault)()
        time.sleep(OUTAGE)
        if fault == "refuse":
            proxy.accept()
        else:
            proxy.half_close()  # PostgreSQL ends the old session; by itself it would after a minute
        out, shown = process.communicate(timeout=90)
    assert process.returncode == 1, out + shown
    (warning,) = json.loads(out)["warnings"]
    assert warning.startswith("The database does not answer: ")
    assert shown.count("The database does not answer") == shown.count("The database answers again.") == 1
    assert "Traceback" not in shown
    assert canary.rollout.percentage == 0
    deployment.refresh_from_db()
    assert deployment.revert_pull_request == max(release.stub.pulls)


def test_a_deployment_is_recorded_although_the_database_goes_with_the_merge(
    release: Release, proxy: Proxy
) -> None:
    release.stub.checks = [GREEN]
    pull, rollout = release.pull(), idle()

    def go(request: Request) -> None:
        if request.method == "PUT":
            proxy.refuse()
            threading.Timer(OUTAGE, proxy.accept).start()

    release.stub.fault = go
    process = release.start(
        *("deploy_with_confidence", pull.number, "--feature", rollout.feature, "--skip-e2e", "--minutes", 0),
        DATABASE_URL=through(proxy),
    )
    out, errors = process.communicate(timeout=90)
    assert process.returncode == 2, out + errors
    assert Deployment.objects.get(environment=release.environment).commit == pull.merge_commit
    rollout.refresh_from_db()
    assert rollout.percentage == 10
    assert "Traceback" not in out + errors


def test_an_outage_that_does_not_end_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "LEAST", 0.1)
    monkeypatch.setattr(outages, "PAUSE", 0.02)
    calls: list[str] = []

    def fail() -> None:
        calls.append("")
        raise OperationalError("connection failed:\nmore")

    shell = terminal()
    with pytest.raises(Unavailable) as ended:
        outlive(fail, terminal=shell)
    assert str(ended.value) == "The database has not answered for 0.1 s: connection failed."
    assert len(calls) > 2
    assert len(shell.warnings) == 1


def test_an_error_of_the_command_is_no_outage() -> None:
    def fail() -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        outlive(fail, terminal=terminal())


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_end_from_outside_says_how_to_go_on(
    release: Release, traffic: Judged, sent: signal.Signals, code: int
) -> None:
    canary, deployment = traffic(), release.deployed()
    process = release.start("monitor_deployment", "--feature", canary.feature)
    eventually(lambda: Deployment.objects.get(pk=deployment.pk).monitored_since)
    process.send_signal(sent)
    out, errors = process.communicate(timeout=30)
    assert (process.returncode, "Interrupted. Run the command again" in out) == (code, True), out + errors
    assert "Traceback" not in out + errors
