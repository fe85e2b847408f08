"""Schemathesis on every operation of a document: valid requests, invalid ones, and sequences of requests.

The document is the server's own ``/api/schema``, or another of what it should be, such as OFREP's.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from fundapi.embedded.home import PROJECT

OFREP = PROJECT / "fuzz" / "ofrep.yaml"
OPTIONS = (
    *("--checks", "all", "--continue-on-failure", "--suppress-health-check", "all"),
    *("--output-sanitize", "false"),  # printed requests can be sent again; the token is a throw-away one
    *("--request-timeout", "60"),  # s
)


def attack(
    port: int, token: str | None, seed: int, *options: str, document: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run schemathesis with all its checks; without ``token``, unauthenticated. Its status is 0 without findings.

    Args:
        document: OpenAPI, instead of the server's own.
    """
    server = f"http://127.0.0.1:{port}"
    source = [f"{server}/api/schema"] if document is None else [str(document), "--url", server]
    command = [str(Path(sys.executable).with_name("schemathesis")), "--no-color", "run", *source]
    command += ["--seed", str(seed), *OPTIONS, *options]
    if token:
        command += ["--header", f"Authorization: Bearer {token}"]
    # It writes its findings to the current directory.
    with TemporaryDirectory(prefix="fundapi-fuzz-") as directory:
        return subprocess.run(
            command,
            cwd=directory,
            env=os.environ | {"SCHEMATHESIS_HOOKS": "fuzz.hooks", "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            check=False,
        )
