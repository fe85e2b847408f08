"""Real git for tests: a bare repository as the remote, and a checkout of it."""

import subprocess
from pathlib import Path

IDENTITY = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false")
FUND = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\n"


def git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(directory), *IDENTITY, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Remote:
    """A bare repository, and the clone in which its developers work."""

    def __init__(self, directory: Path) -> None:
        self.bare = directory / "remote.git"
        self.desk = directory / "desk"
        git(directory, "init", "--quiet", "--bare", "--initial-branch=main", str(self.bare))
        git(directory, "clone", "--quiet", str(self.bare), str(self.desk))
        self.desk_is_on("main", new=True)
        self.write({"fund.py": FUND, "other.py": "other\n"}, "first")
        git(self.desk, "push", "--quiet", "origin", "main")

    def desk_is_on(self, branch: str, *, new: bool = False) -> None:
        git(self.desk, "checkout", "--quiet", *(["-B"] if new else []), branch)

    def write(self, files: dict[str, str], message: str) -> str:
        for name, content in files.items():
            (self.desk / name).write_text(content)
            git(self.desk, "add", name)
        git(self.desk, "commit", "--quiet", "--message", message)
        return git(self.desk, "rev-parse", "HEAD")

    def branch(self, name: str, *commits: dict[str, str]) -> str:
        """Push a branch off main with a commit for each set of files, and return its head."""
        git(self.desk, "fetch", "--quiet", "origin")
        git(self.desk, "checkout", "--quiet", "-B", name, "origin/main")
        for number, files in enumerate(commits):
            self.write(files, f"{name} {number}")
        git(self.desk, "push", "--quiet", "--force", "origin", name)
        return git(self.desk, "rev-parse", "HEAD")

    def commit_to_main(self, files: dict[str, str], message: str = "later") -> str:
        git(self.desk, "fetch", "--quiet", "origin")
        git(self.desk, "checkout", "--quiet", "-B", "main", "origin/main")
        commit = self.write(files, message)
        git(self.desk, "push", "--quiet", "origin", "main")
        return commit

    def merge(self, branch: str, base: str, message: str, how: str) -> str:
        """Merge as GitHub does: ``squash``, ``merge`` or ``rebase``; return what it put last on the base."""
        git(self.desk, "fetch", "--quiet", "origin")
        git(self.desk, "checkout", "--quiet", "-B", base, f"origin/{base}")
        if how == "squash":
            git(self.desk, "merge", "--quiet", "--squash", f"origin/{branch}")
            git(self.desk, "commit", "--quiet", "--message", message)
        elif how == "merge":
            git(self.desk, "merge", "--quiet", "--no-ff", "--message", message, f"origin/{branch}")
        else:
            git(self.desk, "cherry-pick", f"{base}..origin/{branch}")
        git(self.desk, "push", "--quiet", "origin", base)
        return git(self.desk, "rev-parse", "HEAD")

    def tip(self, branch: str) -> str | None:
        line = git(self.bare, "for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}")
        return line or None

    def branches(self) -> set[str]:
        return set(git(self.bare, "for-each-ref", "--format=%(refname:short)", "refs/heads").split())

    def read(self, branch: str, name: str) -> str:
        return subprocess.run(
            ["git", "-C", str(self.bare), "show", f"{branch}:{name}"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def commit(self, sha: str) -> tuple[str, list[str]]:
        parents, _, message = git(self.bare, "show", "--no-patch", "--format=%P%x00%B", sha).partition("\0")
        return message, parents.split()
