"""Parts of the app that are installed on demand, and the sentence about one that is not."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

# What each extra of pyproject.toml brings, by the names that are imported. `release` brings all of `judge` too.
PACKAGES = {
    "judge": {"billiard", "celery", "httpx", "kombu", "scipy", "standardwebhooks"},
    "release": {"github", "requests", "yaml"},
}
COULD_NOT_TELL = 2  # exit code, like that of the release commands


class NotInstalled(SystemExit):
    """Ends a command whose extra is not installed."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.code = COULD_NOT_TELL


def missing(error: ModuleNotFoundError, extra: str) -> str | None:
    """Return the sentence that says what to install, or None where a package of no extra is missing."""
    package = (error.name or "").partition(".")[0]
    if not any(package in packages for packages in PACKAGES.values()):
        return None
    return f"This needs {package}, which is not installed: pip install 'fundapi-rollout[{extra}]'"


@contextmanager
def imported(extra: str) -> Iterator[None]:
    """Import what a command needs; where its extra is not installed, end with a sentence, not with a traceback."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (sentence := missing(error, extra)) is None:
            raise
        sys.stderr.write(f"{sentence}\n")
        raise NotInstalled(sentence) from None
