"""Why a release command ended early. Each message is a sentence for the person at the shell."""

from rollout.release.decisions import Outcome


class ReleaseError(Exception):
    """Nobody could tell: GitHub or git did not answer, or not with what is needed."""

    outcome = Outcome.UNKNOWN


class Unavailable(ReleaseError):
    """The other side cannot be asked: no network, no token, a used-up rate limit."""


class MissingPermission(ReleaseError):
    """The token may not do it."""


class Missing(ReleaseError):
    """It is not there, or the token cannot see it."""


class Rejected(ReleaseError):
    """GitHub understood, and will not do it."""


class Refused(ReleaseError):
    """It is known that it must not be released: a draft, closed, in conflict, with failing checks."""

    outcome = Outcome.UNHEALTHY


class RevertConflict(ReleaseError):
    """What came after the commit builds on it, so only a person can take it back."""

    def __init__(self, commit: str, files: list[str]) -> None:
        self.files = files
        super().__init__(
            f"Reverting {commit[:12]} conflicts with later changes in {', '.join(files)}. Nothing was pushed: "
            f"revert it by hand."
        )
