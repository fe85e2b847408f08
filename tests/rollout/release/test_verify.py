"""``verify_rollback``: in the database, and at a running server."""

from typing import Any

import httpx
import pytest

from benchmarks.servers import free_port
from rollout import operations
from rollout.models import Rollout
from tests.canary import Judged
from tests.rollout.release.conftest import Release, idle
from tests.rollout.release.test_site import instances
from tests.servers import Server


def test_a_rollback_is_seen_in_the_database_and_at_the_server(
    release: Release, server: Server, traffic: Judged
) -> None:
    canary = traffic()
    operations.roll_back(canary.feature, reason="a test")
    ended = release.run("verify_rollback", "--feature", canary.feature, "--url", f"{server.url}/")
    assert ended.code == 0, ended
    assert ended.document["legacy"] == [canary.feature]
    assert f"{canary.feature} in the database: legacy (at 0 %)" in ended.shown
    assert f"{server.url}/health: store_type" in ended.shown
    assert f"{server.url}/api/rollouts: {canary.feature} is legacy" in ended.shown


def test_a_stop_is_a_rollback(release: Release, server: Server, traffic: Judged) -> None:
    canary = traffic()
    operations.stop(canary.feature, reason="a test")
    ended = release.run("verify_rollback", "--feature", canary.feature, "--url", server.url)
    assert (ended.code, "legacy (stopped)" in ended.shown) == (0, True)


def test_what_is_still_live_is_said(release: Release, traffic: Judged) -> None:
    canary = traffic()
    ended = release.run("verify_rollback", "--feature", canary.feature)
    assert (ended.code, ended.says) == (1, f"{canary.feature} is fund-store in the database: at 10 %.")


def test_a_server_that_has_not_heard_of_it_is_said(release: Release, server: Server, traffic: Judged) -> None:
    canary = traffic()
    # The server keeps the configuration for some seconds; any change but the next one clears it.
    httpx.get(f"{server.url}/api/rollouts")
    Rollout.objects.filter(feature=canary.feature).update(percentage=0)
    ended = release.run("verify_rollback", "--feature", canary.feature, "--url", server.url)
    assert (ended.code, ended.says) == (1, f"{server.url} serves fund-store for {canary.feature}.")


def test_a_server_that_does_not_answer_could_not_be_told(release: Release) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    ended = release.run("verify_rollback", "--feature", idle().feature, "--url", url)
    assert (ended.code, ended.says) == (2, f"{url}/health did not answer: ConnectError.")


@pytest.mark.parametrize("answer", [{"rollouts": None}, {"rollouts": [1]}, {"rollouts": [{}]}, {}])
def test_another_server_than_ours_could_not_be_told(release: Release, answer: dict[str, Any]) -> None:
    with instances() as site:
        site.answers = [lambda: answer | {"store_type": "legacy"}]
        ended = release.run("verify_rollback", "--feature", idle().feature, "--url", site.url)
    assert (ended.code, ended.says) == (2, f"{site.url}/api/rollouts did not answer with rollouts.")


@pytest.mark.parametrize(
    "url", ["", " ", "nonsense", "funds.example.com", "http://", "http://[::1", "ftp://a", "http://a:b"]
)
def test_an_address_that_cannot_be_asked_is_not_taken_for_none(
    release: Release, traffic: Judged, url: str
) -> None:
    """A script whose variable is empty must not read that the site was checked."""
    operations.roll_back(traffic().feature, reason="a test")
    ended = release.run("verify_rollback", "--url", url)
    assert (ended.code, ended.says) == (
        2,
        f"--url is {url!r}: write the site's address, such as https://www.example.com, or leave it out.",
    )
