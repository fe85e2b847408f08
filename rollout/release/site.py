"""The running site: its ``/health`` and its configuration for browsers, and which commit answers."""

import re
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx

from rollout.conf import conf
from rollout.models import Deployment
from rollout.release.deadline import call_within
from rollout.release.errors import Missing, ReleaseError, Unavailable
from rollout.release.git import Git
from rollout.release.terminal import Terminal
from rollout.units import duration

TIMEOUT = 10  # s of silence
ANSWER_MAX = 15  # s of a whole answer, which may come in drops
COMMIT = re.compile("[0-9a-f]{7,64}", re.IGNORECASE)  # git would take HEAD and --all for commits too
ANSWERS = 5  # in a row: behind a balancer, instances are replaced one by one


@dataclass(frozen=True, slots=True)
class Site:
    """A site, and the checkout that knows which commits contain which."""

    url: str
    git: Git
    _contained: dict[str, bool] = field(default_factory=dict)

    def commit(self) -> str:
        """Return the commit that one of the site's instances runs.

        Raises:
            Unavailable: it does not answer, or not with its commit.
        """
        commit = get(f"{self.url}/health").get("commit")
        if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
            raise Unavailable(
                f"{self.url}/health does not name the commit that runs: set COMMIT where the site is built or started."
            )
        return commit

    def wait_for(self, deployment: Deployment | None, *, timeout: timedelta, terminal: Terminal) -> None:
        """Wait until every answer comes from the deployed commit, or from a later one that contains it.

        A dry run does not wait.

        Raises:
            Unavailable: it did not come in time.
        """
        if deployment is None or terminal.dry_run:
            terminal.say(f"would wait until the merged commit runs at {self.url}", "cyan")
            return
        began, streak = time.monotonic(), 0
        what = f"{deployment.commit[:12]} at {self.url}"
        with terminal.progress(f"Waiting for {what}", timeout.total_seconds()) as show:
            while True:
                try:
                    commit = self.commit()
                    streak = streak + 1 if self._contains(commit, deployment, terminal) else 0
                    says = f"{self.url} runs {commit[:12]}"
                except ReleaseError as error:
                    streak, says = 0, str(error).rstrip(".")
                waited = timedelta(seconds=time.monotonic() - began)
                show(waited.total_seconds(), says)
                if streak == ANSWERS:
                    return
                if not streak and waited >= timeout:
                    raise Unavailable(
                        f"#{deployment.pull_request} is merged and recorded, but {deployment.commit[:12]} does not "
                        f"answer after {duration(waited)}: {says}. No canary was started: run the command again when "
                        f"the deployment is through."
                    )
                time.sleep(conf.site_poll.total_seconds())

    def _contains(self, commit: str, deployment: Deployment, terminal: Terminal) -> bool:
        """Return whether a commit is the deployed one or a later one of its branch."""
        if commit == deployment.commit:
            return True
        if commit not in self._contained:
            try:
                with self.git.worktree() as tree:
                    tree.fetch(deployment.branch)
                    self._contained[commit] = tree.succeeds(
                        "merge-base", "--is-ancestor", deployment.commit, commit
                    )
            except ReleaseError as error:
                terminal.warn(f"Whether {commit[:12]} contains {deployment.commit[:12]} is unknown. {error}")
                self._contained[commit] = False
        return self._contained[commit]


def site_url(given: str | None) -> str:
    """Return the site's address from ``--url`` or the settings, without a slash at its end; "" for none.

    Raises:
        Missing: it cannot be asked.
    """
    url = conf.site_url if given is None else given
    if (given is not None or url) and not is_site(url):
        name = "ROLLOUT_SITE_URL" if given is None else "--url"
        raise Missing(
            f"{name} is {url!r}: write the site's address, such as https://www.example.com, or leave it out."
        )
    return url.rstrip("/")


def is_site(url: str) -> bool:
    """Return whether a text is an address that can be asked: ``http`` or ``https``, and a host."""
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return address.scheme in {"http", "https"} and bool(address.host)


def get(url: str) -> dict[str, Any]:
    """Return a JSON object, over a connection of its own. ``/health`` is one even when the database is gone."""
    try:
        document = call_within(
            ANSWER_MAX, lambda: httpx.get(url, timeout=TIMEOUT, follow_redirects=True).json()
        )
    except TimeoutError:
        raise Unavailable(f"{url} did not answer in {ANSWER_MAX} s.") from None
    except httpx.HTTPError as error:
        raise Unavailable(f"{url} did not answer: {type(error).__name__}.") from None
    except (ValueError, RecursionError):
        raise Unavailable(f"{url} did not answer in JSON.") from None
    if not isinstance(document, dict):
        raise Unavailable(f"{url} did not answer with an object.")
    return document
