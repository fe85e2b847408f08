"""``deploy_with_confidence`` waits until the merged commit is the one that answers."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.test import override_settings

from benchmarks.servers import free_port
from rollout.models import Deployment, Rollout
from rollout.release.errors import Unavailable
from rollout.release.site import ANSWERS, get
from tests.rollout.release.conftest import Ended, Release, idle
from tests.rollout.release.stub import Pull
from tests.rollout.release.test_deploy import GREEN
from tests.rollout.release.test_github import speaker, trickle
from tests.servers import Server

OLD = "a" * 40


@dataclass
class Instances:
    """A site: each request asks the next of its answers; the last one stays."""

    url: str
    answers: list[Callable[[], Any]] = field(default_factory=list)
    asked: int = 0

    def answer(self) -> Any:
        self.asked += 1
        return (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])()


@contextmanager
def instances() -> Iterator[Instances]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            payload = json.dumps(asked.answer()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_arguments: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    asked = Instances(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def site() -> Iterator[Instances]:
    with instances() as running:
        yield running


def old() -> dict[str, Any]:
    return {"commit": OLD}


def deploy(
    release: Release, pull: Pull, rollout: Rollout, url: str, *arguments: object, wait: str = "0.5"
) -> Ended:
    release.stub.checks = [GREEN]
    with override_settings(ROLLOUT_SITE_URL=url):
        return release.run(
            *("deploy_with_confidence", pull.number, "--feature", rollout.feature, "--skip-e2e"),
            *("--minutes", 0, "--wait-minutes", wait, *arguments),
        )


def percentage(rollout: Rollout) -> int:
    rollout.refresh_from_db()
    return int(rollout.percentage)


def test_the_canary_waits_until_every_instance_runs_the_merged_commit(
    release: Release, site: Instances
) -> None:
    pull, rollout = release.pull(), idle()

    def new() -> dict[str, Any]:
        return {"commit": pull.merge_commit}

    # Before the merge two looks; then two instances, of which one is replaced later.
    site.answers = [old, old, old, new, old, new, new, old, new]
    ended = deploy(release, pull, rollout, site.url)
    assert percentage(rollout) == 10, ended
    assert site.asked == 8 + ANSWERS
    assert f"{site.url} runs {OLD[:12]}" in ended.shown


def test_drops_do_not_outlast_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollout.release.site.ANSWER_MAX", 0.3)
    with speaker(trickle) as url, pytest.raises(Unavailable, match=r"/health did not answer in 0\.3 s\.$"):
        get(f"{url}/health")


def test_a_later_commit_contains_it(release: Release, site: Instances) -> None:
    pull, rollout = release.pull(), idle()
    later: list[str] = []

    def newest() -> dict[str, Any]:
        if not later:
            later.append(release.remote.commit_to_main({"other.py": "later\n"}))
        return {"commit": later[0]}

    site.answers = [old, old, newest]
    deploy(release, pull, rollout, site.url)
    assert percentage(rollout) == 10
    assert release.is_clean()


@pytest.mark.parametrize(
    "answer", [old, dict, lambda: {"commit": None}, list, lambda: {"commit": "FETCH_HEAD"}]
)
def test_what_never_comes_is_one_sentence_and_nothing_is_promoted(
    release: Release, site: Instances, answer: Callable[[], Any]
) -> None:
    pull, rollout = release.pull(), idle()
    site.answers = [old, old, answer]
    ended = deploy(release, pull, rollout, site.url, wait="0.005")
    assert (ended.code, "is merged and recorded, but" in ended.says) == (2, True), ended.says
    assert "No canary was started: run the command again" in ended.says
    assert percentage(rollout) == 0
    assert Deployment.objects.get(environment=release.environment).commit == pull.merge_commit
    site.answers = [lambda: {"commit": pull.merge_commit}]
    deploy(release, pull, rollout, site.url)
    assert percentage(rollout) == 10


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (dict, "does not name the commit that runs"),
        (lambda: {"commit": None}, "does not name the commit that runs"),
        (lambda: ["x"], "did not answer with an object"),
    ],
)
def test_a_site_that_does_not_know_its_commit_is_found_before_the_merge(
    release: Release, site: Instances, answer: Callable[[], Any], says: str
) -> None:
    site.answers = [answer]
    ended = deploy(release, release.pull(), idle(), site.url)
    assert (ended.code, says in ended.says) == (2, True), ended.says
    assert release.stub.writes() == []


def test_a_site_that_is_away_is_found_before_the_merge(release: Release) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    ended = deploy(release, release.pull(), idle(), url)
    assert (ended.code, ended.says) == (2, f"{url}/health did not answer: ConnectError.")
    assert release.stub.writes() == []


def test_the_option_comes_before_the_setting(release: Release, site: Instances) -> None:
    pull, rollout = release.pull(), idle()
    site.answers = [old, old, lambda: {"commit": pull.merge_commit}]
    deploy(release, pull, rollout, "http://127.0.0.1:9", "--url", f"{site.url}/")
    assert percentage(rollout) == 10


def test_a_dry_run_says_that_it_would_wait(release: Release, site: Instances) -> None:
    site.answers = [old]
    ended = deploy(release, release.pull(), idle(), site.url, "--dry-run")
    assert (ended.code, site.asked) == (0, 2), ended
    assert f"would wait until the merged commit runs at {site.url}" in ended.shown


def test_a_real_server_names_its_commit(server: Server) -> None:
    assert httpx.get(f"{server.url}/health").json()["commit"] == settings.COMMIT
