"""The commit that runs, for ``/health``: read from files, because an image may have no git."""

import re
from pathlib import Path

HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")  # SHA-1, or SHA-256


def commit_of(directory: Path) -> str | None:
    """Return the commit that an image was built from, or that a checkout has as HEAD; ``None`` when it is unknown."""
    for read in (_built, _head):
        try:
            commit = read(directory)
        except (OSError, ValueError):  # there is no such file, or it is no text
            continue
        if HASH.fullmatch(commit):
            return commit
    return None


def _built(directory: Path) -> str:
    """Return the commit that the Dockerfile's build has written down."""
    return (directory / "COMMIT").read_text().strip().lower()


def _head(directory: Path) -> str:
    git = directory / ".git"
    if git.is_file():  # of a worktree or a submodule: "gitdir: path"
        git = directory / git.read_text().removeprefix("gitdir:").strip()
    commit = (git / "HEAD").read_text().strip()
    return _branch(git, commit.removeprefix("ref:").strip()) if commit.startswith("ref:") else commit


def _branch(git: Path, name: str) -> str:
    """Return the commit of a branch, whose file is newer than its line among the packed ones; "" for none."""
    shared = git / "commondir"  # a worktree shares its branches with the checkout
    common = git / shared.read_text().strip() if shared.is_file() else git
    if (common / name).is_file():
        return (common / name).read_text().strip()
    packed = common / "packed-refs"
    lines = packed.read_text().splitlines() if packed.is_file() else []
    return next((line.partition(" ")[0] for line in lines if line.partition(" ")[2] == name), "")
