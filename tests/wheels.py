"""The wheels of the apps and of the project, built as `make wheels` does."""

import subprocess
import sys
from pathlib import Path


def build(source: Path, into: Path) -> Path:
    """Return the wheel of a folder with a pyproject.toml, built into an empty folder."""
    into.mkdir(exist_ok=True)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"),
            *("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", into, source),
        ],
        check=True,
        capture_output=True,
    )
    [wheel] = into.glob("*.whl")
    return wheel
