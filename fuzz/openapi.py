"""Schemathesis over all that ``/api/schema`` describes: what it allows, what it forbids, one thing after another."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from fundapi.embedded.home import PROJECT

OPTIONS = (
    *("--checks", "all", "--continue-on-failure", "--suppress-health-check", "all"),
    *("--output-sanitize", "false"),  # what it prints can be sent again; the token is a throw-away one
    *("--request-timeout", "60"),  # s
)


def attack(port: int, token: str | None, seed: int, *options: str) -> subprocess.CompletedProcess[str]:
    """Run it with every check there is; without ``token`` as a stranger. Its status is 0 when all is as described."""
    command = [str(Path(sys.executable).with_name("schemathesis")), "--no-color", "run"]
    command += [f"http://127.0.0.1:{port}/api/schema", "--seed", str(seed), *OPTIONS, *options]
    if token:
        command += ["--header", f"Authorization: Bearer {token}"]
    with TemporaryDirectory(prefix="fundapi-fuzz-") as directory:  # it keeps what it finds where it runs
        return subprocess.run(
            command,
            cwd=directory,
            env=os.environ | {"SCHEMATHESIS_HOOKS": "fuzz.hooks", "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            check=False,
        )
