"""P0 and the Django peers run in a project as a team has it without us."""

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from benchmarks.contestants import prepared
from benchmarks.peers.catalog import DJANGO_PEERS, PEERS, Peer
from benchmarks.peers.facts import Facts
from benchmarks.ratios import P0
from benchmarks.stack import stack
from fundapi.web.serve import THREADS
from tests.servers import PROJECT

ENVIRON = {
    "DJANGO_SETTINGS_MODULE": "benchmarks.peers.settings",
    "SECRET_KEY": "made-up",
    "DATABASE_URL": "postgres:///nowhere",
    "REDIS_URL": "redis://nowhere",
}
# startproject leaves these to the project.
OF_A_PROJECT = {
    *("BASE_DIR", "SECRET_KEY", "DEBUG", "ALLOWED_HOSTS", "DATABASES"),
    *("ROOT_URLCONF", "WSGI_APPLICATION"),
}
IMPORTED = """
import sys
from benchmarks.peers import wsgi, urls
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"fundapi", "idempotency", "rollout"}))
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the settings that startproject writes."""
    directory = tmp_path_factory.mktemp("startproject")
    call_command("startproject", "team", str(directory))
    return _settings(directory / "team/settings.py")


def _settings(path: Path) -> dict[str, Any]:
    return {name: value for name, value in runpy.run_path(str(path)).items() if name.isupper()}


@pytest.mark.parametrize("peer", DJANGO_PEERS, ids=lambda peer: peer.name)
def test_its_settings_are_those_of_startproject_and_what_is_installed(
    peer: Peer, started: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (ENVIRON | {"BENCH_PEER": peer.name}).items():
        monkeypatch.setenv(name, value)
    found = _settings(PROJECT / "benchmarks/peers/settings.py")
    added = {
        "INSTALLED_APPS": ["rest_framework", "knox", "benchmarks.peers.funds", *peer.apps],
        "MIDDLEWARE": list(peer.middleware),
    }
    for name in started.keys() - OF_A_PROJECT:
        assert found[name] == (started[name] + added[name] if name in added else started[name]), name


def test_it_imports_nothing_of_the_product() -> None:
    """Not counted: the server, which all contestants share."""
    environ = {**os.environ, **ENVIRON, "BENCH_PEER": P0}
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED], cwd=PROJECT, env=environ, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == []


def test_p0_creates_a_fund_for_each_request_of_a_user_who_may() -> None:
    with stack() as running:
        tokens = running.token(), running.token("somebody-else")
        found = prepared(PEERS[P0], running, tokens)
    command = found.site.command(8000, workers=1, threads=THREADS)
    assert command[command.index("--blocking-threads") + 1] == f"{THREADS}"  # the others wait in the server
    assert found.facts == Facts(
        replay_status=None,
        replay="no: 201, a second row",
        other_body="201, a second row",
        storm="8 rows (80 x 201)",
        other_user="201, a row of their own",
        no_token="401",
        killed="2 rows (1 x 201)",
    )
