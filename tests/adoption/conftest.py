"""The wheels, built once a run from a copy of what is in git or may be added to it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import PROJECT

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


def build(source: Path, into: Path) -> Path:
    """Return the wheel of a folder with a pyproject.toml."""
    subprocess.run(
        [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", into, source],
        check=True,
        capture_output=True,
    )
    [wheel] = into.glob("*.whl")
    return wheel


@pytest.fixture(scope="session", params=["idempotency", "rollout"])
def app(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of each app."""
    return {app: build(PROJECT / app, tmp_path_factory.mktemp(app)) for app in ("idempotency", "rollout")}
