"""A release to try the commands on: a GitHub, its repository, a checkout, and an environment of the test's own."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from rollout.conf import conf
from rollout.models import Deployment, Rollout
from rollout.release import api
from rollout.release.git import Git
from rollout.release.github import GitHub
from rollout.release.terminal import Terminal
from tests.rollout.release.repository import FUND, Remote, git
from tests.rollout.release.stub import REPOSITORY, GitHubStub, Pull, github_stub
from tests.servers import PROJECT, database_url


@dataclass
class Ended:
    """The exit code and the output of a command."""

    code: int
    document: dict[str, Any]
    shown: str

    @property
    def says(self) -> str:
        says: str = self.document["says"]
        return says


@dataclass
class Release:
    stub: GitHubStub
    remote: Remote
    checkout: Path
    environment: str

    def pull(self, **fields: Any) -> Pull:
        """Open a pull request that changes the third line of ``fund.py``."""
        number = random.randrange(1000, 2**31 - 2000)
        branch = f"feature-{number}"
        head = self.remote.branch(
            branch, *fields.pop("content", [{"fund.py": FUND.replace("three", "drei")}])
        )
        self.stub.pulls[number] = Pull(number, "Count in German", branch, head, **fields)
        return self.stub.pulls[number]

    def deployed(self, **fields: Any) -> Deployment:
        """Merge a pull request, and record it."""
        pull = self.pull(**{key: fields.pop(key) for key in ("content", "commits") if key in fields})
        self.stub.merge_now(pull, fields.pop("how", "squash"))
        assert pull.merge_commit
        assert pull.merged_at
        return Deployment.objects.create(
            pull_request=pull.number,
            title=pull.title,
            branch=pull.base,
            commit=pull.merge_commit,
            environment=self.environment,
            deployed_by="ada",
            deployed_at=datetime.fromisoformat(pull.merged_at),
            **fields,
        )

    def run(self, command: str, *arguments: object) -> Ended:
        """Run a command with ``--json``."""
        out, err = StringIO(), StringIO()
        code = 0
        try:
            call_command(command, *map(str, arguments), "--json", stdout=out, stderr=err)
        except CommandError as error:
            code = error.returncode
        document = json.loads(out.getvalue())
        assert document["exit_code"] == code
        return Ended(code, document, err.getvalue())

    def deploy(self, pull: Pull, *arguments: object) -> Ended:
        """Deploy without a canary, so that it ends with the merge (exit code 2: unknown)."""
        return self.run(
            "deploy_with_confidence", pull.number, "--feature", idle().feature, "--canary", 0, *arguments
        )

    def start(self, *arguments: object, **environment: str) -> "subprocess.Popen[str]":
        """Run a command as a process of its own, as a shell does, on this test's repository and GitHub."""
        settings = {
            "DATABASE_URL": database_url(),
            "ENVIRONMENT": self.environment,
            "GITHUB_TOKEN": "secret-token",
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_API_URL": self.stub.url,
            "ROLLOUT_CHECK_INTERVAL": "1",
            "DJANGO_SETTINGS_MODULE": "tests.rollout.release.checkout_settings",
            "TEST_CHECKOUT": str(self.checkout),
        }
        return subprocess.Popen(
            [sys.executable, "manage.py", *map(str, arguments)],
            cwd=PROJECT,
            env=os.environ | settings | environment,
            # Tests that run in the background of a shell inherit that Ctrl-C is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - a signal, and no more
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def github(self) -> GitHub:
        return GitHub.from_settings(conf)

    @property
    def git(self) -> Git:
        return Git(self.checkout)

    def is_clean(self) -> bool:
        """Return whether the checkout is unchanged: no change, no branch, no worktree."""
        return (
            git(self.checkout, "status", "--porcelain") == ""
            and git(self.checkout, "branch", "--format=%(refname:short)") == "main"
            and len(git(self.checkout, "worktree", "list").splitlines()) == 1
        )


def idle() -> Rollout:
    """A rollout that nobody gets."""
    return Rollout.objects.create(feature=f"IDLE_{uuid.uuid4().hex[:12].upper()}")


def terminal(*, dry_run: bool = False) -> Terminal:
    return Terminal(StringIO(), dry_run=dry_run)


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the pauses between writes and retries."""
    monkeypatch.setattr(api, "BACK_OFF", 0.01)
    monkeypatch.setattr(api, "WRITES_APART", 0)


@pytest.fixture
def release(database: None, tmp_path: Path) -> Iterator[Release]:
    remote = Remote(tmp_path)
    checkout = tmp_path / "checkout"
    (remote.desk / ".github").mkdir()
    shutil.copy(PROJECT / ".github" / "labeler.yml", remote.desk / ".github")
    remote.write({".github/labeler.yml": (PROJECT / ".github" / "labeler.yml").read_text()}, "labels")
    git(remote.desk, "push", "--quiet", "origin", "main")
    git(tmp_path, "clone", "--quiet", str(remote.bare), str(checkout))
    environment = f"test-{uuid.uuid4().hex[:12]}"
    with (
        github_stub(remote) as stub,
        override_settings(
            ROLLOUT_ENVIRONMENT=environment,
            ROLLOUT_PROJECT_DIRECTORY=checkout,
            ROLLOUT_GITHUB_TOKEN="secret-token",
            ROLLOUT_GITHUB_REPOSITORY=REPOSITORY,
            ROLLOUT_GITHUB_API_URL=stub.url,
            ROLLOUT_GITHUB_RETRIES=2,
            ROLLOUT_GITHUB_POLL=timedelta(milliseconds=100),
            ROLLOUT_CHECKS_START=timedelta(milliseconds=300),
            ROLLOUT_SITE_POLL=timedelta(milliseconds=20),
            ROLLOUT_CHECK_INTERVAL=timedelta(seconds=1),
        ),
    ):
        yield Release(stub, remote, checkout, environment)
