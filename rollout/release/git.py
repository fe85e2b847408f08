"""The git commands of the release commands, as fixed argument lists.

A revert is made in a temporary worktree, so the checkout and its branches are not touched.
"""

import base64
import fcntl
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from rollout.conf import Settings
from rollout.release.errors import Missing, RevertConflict, Unavailable

POLL = 0.1  # s between two attempts to take the lock
TIMEOUT = 120  # s; of one command, so that a dead network cannot block the run
LEFT_OVER = "1.day.ago"  # a younger worktree may belong to a run that is under way
HASH = re.compile(r"[0-9a-f]{40}")
# No prompts: nobody answers them. No hooks: one may run a test suite, or refuse an urgent revert.
QUIET = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes", "LC_ALL": "C"}
NO_HOOKS = ("-c", "core.hooksPath=/dev/null")


@dataclass(frozen=True, slots=True)
class Deployed:
    """The commits of a merge: how many, the last one, and their branch."""

    commit: str
    commits: int
    branch: str


@dataclass(frozen=True, slots=True)
class Git:
    """A checkout and its remote: a name, or an address, which needs no checkout.

    ``token`` signs in at a remote whose address begins with https://, unless git has credentials.
    """

    directory: Path
    remote: str = "origin"
    token: str = field(default="", repr=False)

    @classmethod
    def from_settings(cls, conf: Settings) -> "Git":
        """Use the checkout, the remote and the token of the settings."""
        return cls(conf.project_directory, conf.git_remote, conf.github_token)

    def remote_branch(self, branch: str) -> str | None:
        """Return the commit that a branch has on the remote, or ``None`` when there is no such branch."""
        line = self.run("ls-remote", "--heads", self.remote, f"refs/heads/{branch}")
        return line.split()[0] if line else None

    def holds_revert(self, branch: str, deployed: Deployed) -> bool:
        """Return whether a branch of the remote has a commit that reverts this deployment, by its message."""
        with self.worktree() as tree:
            tip, base = tree.fetch(branch), tree.fetch(deployed.branch)
            says = f"--grep=This reverts commit {deployed.commit}"
            return bool(tree.run("log", "--format=%H", "--fixed-strings", says, f"{base}..{tip}"))

    @contextmanager
    def revert(self, deployed: Deployed, *, title: str, why: str) -> Iterator["Git | None"]:
        """Make a commit on top of the remote's branch that reverts a deployment.

        Yields the worktree with this commit as HEAD, to push from; ``None`` when there is nothing to revert.

        Raises:
            RevertConflict: later changes depend on the deployment.
            Missing: the commit is not on the branch.
        """
        with self.worktree() as tree:
            tip = tree.fetch(deployed.branch)
            _require(tree, deployed, tip)
            tree.run("reset", "--quiet", "--hard", tip)
            _stage_revert(tree, deployed)
            if tree.succeeds("diff", "--cached", "--quiet"):
                yield None
                return
            message = f"{title}\n\nThis reverts commit {deployed.commit}.\n\n{why}"
            tree.run(*NO_HOOKS, *_author(tree), "commit", "--quiet", "--message", message)
            yield tree

    def push_new(self, branch: str) -> bool:
        """Push HEAD to a new branch of the remote. ``False``: the branch exists, and is left as it is."""
        ref = f"refs/heads/{branch}"
        try:
            self.run(*NO_HOOKS, "push", "--quiet", f"--force-with-lease={ref}:", self.remote, f"HEAD:{ref}")
        except Unavailable:
            if self.remote_branch(branch):
                return False
            raise
        return True

    # --- Steps ------------------------------------------------------------------------------------------------

    @contextmanager
    def worktree(self) -> Iterator["Git"]:
        """Make a worktree without files, and remove it afterwards. Also remove those of killed runs.

        One run at a time: when git fetches, it reads the HEAD of every worktree, and a worktree that is being made has
        no commit there yet. Without a checkout (in a container) the worktree is an empty repository, which fetches
        the whole branch.
        """
        with _temporary_directory() as parent:
            # Git names the worktree after its folder.
            tree = replace(self, directory=Path(parent) / Path(parent).name)
            if not self.succeeds("rev-parse", "--git-dir"):
                tree.directory.mkdir()
                tree.run("init", "--quiet")
                yield tree
                return
            with self._lock():
                self.run("worktree", "prune", f"--expire={LEFT_OVER}")
                self.run("worktree", "add", "--quiet", "--detach", "--no-checkout", str(tree.directory))
                try:
                    yield tree
                finally:
                    self.run("worktree", "remove", "--force", str(tree.directory))

    def fetch(self, branch: str) -> str:
        """Fetch a branch with its whole history, and return its commit.

        The oldest commit of a shallow clone seems to have no parent, so its revert would delete every file.
        """
        shallow = self.run("rev-parse", "--is-shallow-repository") == "true"
        depth = ("--unshallow",) if shallow else ()
        # No refmap: two runs at once would both write refs/remotes.
        self.run("fetch", "--quiet", "--no-tags", "--refmap=", *depth, self.remote, f"refs/heads/{branch}")
        return self.run("rev-parse", "FETCH_HEAD")  # a worktree has its own

    def run(self, *arguments: str) -> str:
        """Run a git command, and return what it printed."""
        done = self._start(*arguments)
        if done.returncode:
            lines = [line for line in done.stderr.strip().splitlines() if line]
            raise Unavailable(
                f"git {_command(arguments)} failed in {self.directory}: {' '.join(lines[:3]) or 'no message'}"
            )
        return done.stdout.strip()

    def succeeds(self, *arguments: str) -> bool:
        """Return whether a git command exits with 0."""
        return self._start(*arguments).returncode == 0

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Wait for the lock of this checkout: one run on this machine at a time. A killed run holds no lock."""
        path = Path(self.run("rev-parse", "--path-format=absolute", "--git-common-dir"), "release.lock")
        end = time.monotonic() + TIMEOUT
        with ExitStack() as stack:
            try:
                lock = stack.enter_context(path.open("w"))
            except OSError as error:
                raise Unavailable(f"{path} cannot be written: {error.strerror}.") from None
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        raise Unavailable(
                            f"Another run has locked {self.directory} for over {TIMEOUT} s."
                        ) from None
                time.sleep(POLL)
            yield

    def _start(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        try:
            return subprocess.run(
                ["git", "-C", str(self.directory), *arguments],  # noqa: S607 - git of the PATH
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=TIMEOUT,
                env=os.environ | QUIET | self._sign_in(),
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"git {_command(arguments)} took longer than {TIMEOUT} s.") from None
        except FileNotFoundError:
            raise Unavailable("There is no git on this machine.") from None
        except OSError as error:
            raise Unavailable(f"git could not be started: {error.strerror}.") from None

    def _sign_in(self) -> dict[str, str]:
        """Return the token as environment variables of git: other users of the machine can read arguments."""
        address = urlsplit(self.remote)
        if not self.token or address.scheme != "https":
            return {}
        basic = base64.b64encode(f"x-access-token:{self.token}".encode()).decode()
        return {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"http.{address.scheme}://{address.netloc}/.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: Basic {basic}",
        }


def _temporary_directory() -> TemporaryDirectory[str]:
    try:
        return TemporaryDirectory(prefix="release-", ignore_cleanup_errors=True)
    except OSError as error:
        raise Unavailable(
            f"There is no room for git's temporary files: {error.strerror}. Set TMPDIR."
        ) from None


def _require(tree: Git, deployed: Deployed, tip: str) -> None:
    if not HASH.fullmatch(deployed.commit):
        raise Missing(f"'{deployed.commit}' is not a commit.")
    if not tree.succeeds("merge-base", "--is-ancestor", deployed.commit, tip):
        raise Missing(
            f"The recorded commit {deployed.commit[:12]} is not on {deployed.branch}: was its history rewritten?"
        )


def _stage_revert(tree: Git, deployed: Deployed) -> None:
    """Stage the revert of a deployment; of a merge commit, against its first parent."""
    parents = tree.run("rev-list", "--parents", "--max-count=1", deployed.commit).split()[1:]
    mainline = ("--mainline", "1") if len(parents) > 1 else ()
    rebased = f"{deployed.commit}~{deployed.commits}..{deployed.commit}"
    commits = deployed.commit if deployed.commits == 1 else rebased
    try:
        tree.run(*NO_HOOKS, *_author(tree), "revert", "--no-commit", *mainline, commits)
    except Unavailable:
        files = tree.run("diff", "--name-only", "--diff-filter=U", "-z").split("\0")
        if conflicting := [file for file in files if file]:
            raise RevertConflict(deployed.commit, conflicting) from None
        raise


def _author(git: Git) -> tuple[str, ...]:
    """Return an identity for a machine without one, where a commit would fail."""
    if git.succeeds("config", "user.email"):
        return ()
    return ("-c", "user.name=release commands", "-c", "user.email=release@localhost")


def _command(arguments: tuple[str, ...]) -> str:
    """Return the git command among arguments: the first that is neither ``-c`` nor its value."""
    return next(word for word in arguments if word != "-c" and "=" not in word)
