"""The errors that end a release command early. Each message is a sentence for the person at the shell."""

from datetime import UTC, datetime

from rollout.release.decisions import Outcome


class ReleaseError(Exception):
    """The outcome is unknown: GitHub or git did not answer, or not completely."""

    outcome = Outcome.UNKNOWN


class Unavailable(ReleaseError):
    """GitHub or git cannot be reached: no network, no token, rate limit reached."""


class Unanswered(Unavailable):
    """No answer, half of one, or one that is not GitHub's. A change may have been made all the same."""


class Busy(Unavailable):
    """GitHub asks not to be asked again before ``until`` (seconds since the epoch)."""

    def __init__(self, what: str, until: float, *, limited: bool = True) -> None:
        self.until = until
        why = "GitHub's rate limit is used up" if limited else "GitHub asks for a pause"
        at = datetime.fromtimestamp(until, UTC)
        super().__init__(f"{why}, so it did not {what}: try again after {at:%Y-%m-%d %H:%M:%S} UTC.")


class MissingPermission(ReleaseError):
    """The token lacks the permission."""


class Missing(ReleaseError):
    """The object does not exist, or the token cannot read it."""


class Rejected(ReleaseError):
    """GitHub rejected a valid request."""


class Refused(ReleaseError):
    """The pull request must not be released: a draft, closed, in conflict, or with failing checks."""

    outcome = Outcome.UNHEALTHY


class RevertConflict(ReleaseError):
    """Later changes depend on the commit, so a person must revert it by hand."""

    def __init__(self, commit: str, files: list[str]) -> None:
        self.files = files
        super().__init__(
            f"Reverting {commit[:12]} conflicts with later changes in {', '.join(files)}. Nothing was pushed: "
            f"revert it by hand."
        )
