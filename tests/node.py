"""Node.js for tests of the browser modules: absent, they are skipped, or fail where ``REQUIRE_BROWSER=1``."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import playwright
import pytest

from tests.servers import PROJECT

NODE_MIN = 20  # its test runner mocks timers
ORACLE = PROJECT / "tests" / "js" / "oracle.mjs"


def _absent(message: str) -> NoReturn:
    if os.environ.get("REQUIRE_BROWSER") == "1":
        pytest.fail(message)
    pytest.skip(message)


def node() -> str:
    """Return a Node.js that is new enough: the system's (Debian 12's is not), else Playwright's own, or skip."""
    own = Path(playwright.__file__).with_name("driver") / "node"
    for found in (shutil.which("node"), str(own)):
        if found and Path(found).exists() and _version(found) >= NODE_MIN:
            return found
    _absent(f"no Node.js: install version {NODE_MIN} or newer")


def _version(executable: str) -> int:
    said = subprocess.run([executable, "--version"], capture_output=True, text=True, check=True).stdout
    return int(re.findall(r"\d+", said)[0])


def node_with_packages() -> str:
    """Return Node.js where ``npm ci`` has put the packages of the tests, or skip the test."""
    found = node()
    if not (PROJECT / "node_modules" / "@openfeature" / "ofrep-web-provider").is_dir():
        _absent("no node_modules: run `npm ci`, as `make test` does where npm is installed")
    return found


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
    command = [node(), str(ORACLE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Oracle(process)
        assert process.stdin
        process.stdin.close()
