"""The commit in ``/health``, from a variable or the checkout's own files."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fundapi.web.commit import commit_of
from tests.rollout.release.repository import git
from tests.servers import PROJECT


def checkout(directory: Path) -> str:
    git(directory, "init", "--quiet", "--initial-branch=main")
    git(directory, "commit", "--quiet", "--allow-empty", "--message", "first")
    return git(directory, "rev-parse", "HEAD")


def nothing(_directory: Path) -> None:
    """Leave the checkout as git makes it: a file for the branch."""


def packed(directory: Path) -> None:
    git(directory, "tag", "other")
    git(directory, "pack-refs", "--all")
    assert not (directory / ".git/refs/heads/main").exists()


def newer_than_packed(directory: Path) -> None:
    packed(directory)
    git(directory, "commit", "--quiet", "--allow-empty", "--message", "second")


def detached(directory: Path) -> None:
    git(directory, "checkout", "--quiet", "--detach")


@pytest.mark.parametrize("change", [nothing, packed, newer_than_packed, detached])
def test_a_checkout_knows_its_commit(tmp_path: Path, change: Callable[[Path], None]) -> None:
    checkout(tmp_path)
    change(tmp_path)
    assert commit_of(tmp_path) == git(tmp_path, "rev-parse", "HEAD")


@pytest.mark.parametrize("pack", [False, True])
def test_a_worktree_knows_its_own(tmp_path: Path, pack: bool) -> None:
    (tmp_path / "main").mkdir()
    checkout(tmp_path / "main")
    git(tmp_path / "main", "worktree", "add", "--quiet", "-b", "feature/one", "../tree")
    git(tmp_path / "tree", "commit", "--quiet", "--allow-empty", "--message", "mine")
    if pack:
        git(tmp_path / "main", "pack-refs", "--all")
    assert commit_of(tmp_path / "tree") == git(tmp_path / "tree", "rev-parse", "HEAD")
    assert commit_of(tmp_path / "tree") != commit_of(tmp_path / "main")


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"HEAD": ""},
        {"HEAD": "ref: refs/heads/none\n"},
        {"HEAD": "abc\n"},
        {"HEAD": "ref: refs/heads/main", "packed-refs": "# nonsense\n\n"},
        {"HEAD": "ref: ../../etc/passwd"},
    ],
)
def test_what_is_no_checkout_has_no_commit(tmp_path: Path, files: dict[str, str]) -> None:
    assert commit_of(tmp_path) is None
    (tmp_path / ".git").mkdir()
    for name, text in files.items():
        (tmp_path / ".git" / name).write_text(text)
    assert commit_of(tmp_path) is None


def test_a_file_that_is_no_text_has_no_commit(tmp_path: Path) -> None:
    (tmp_path / ".git").write_bytes(b"\xff\xfe\x00")
    assert commit_of(tmp_path) is None


def settings_with(commit: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", "from fundapi import settings; print(settings.COMMIT)"],
        cwd=PROJECT,
        env=os.environ | {"COMMIT": commit},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_variable_comes_first() -> None:
    assert settings_with("ABCDEF0123" * 4).stdout.strip() == "abcdef0123" * 4
    assert settings_with("").stdout.strip() == str(commit_of(PROJECT))


def test_half_a_hash_is_refused() -> None:
    refused = settings_with("abcdef0")
    assert refused.returncode
    assert "COMMIT is 'abcdef0', and should be the full hash of the commit that runs" in refused.stderr


def test_the_image_gets_it_from_its_build(tmp_path: Path) -> None:
    dockerfile, compose = (PROJECT / "Dockerfile").read_text(), (PROJECT / "docker-compose.yml").read_text()
    assert 'ARG COMMIT=\nRUN echo "$COMMIT" > COMMIT\n' in dockerfile
    assert 'args: {COMMIT: "${COMMIT:-}"}' in compose
    (tmp_path / "COMMIT").write_text("abcdef0123" * 4 + "\n")
    assert commit_of(tmp_path) == "abcdef0123" * 4
    (tmp_path / "COMMIT").write_text("\n")  # built without it
    assert commit_of(tmp_path) is None
