"""Node.js for tests of the browser modules: absent, they are skipped, or fail where ``REQUIRE_BROWSER=1``."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.servers import PROJECT

NODE_MIN = 20  # its test runner mocks timers
ORACLE = PROJECT / "tests" / "js" / "oracle.mjs"


def _absent(message: str) -> None:
    if os.environ.get("REQUIRE_BROWSER") == "1":
        pytest.fail(message)
    pytest.skip(message)


def node() -> str:
    """Return Node.js, or skip the test."""
    found = shutil.which("node")
    if found is None:
        _absent(f"no Node.js: install version {NODE_MIN} or newer")
    version = subprocess.run([str(found), "--version"], capture_output=True, text=True, check=True).stdout
    if int(re.findall(r"\d+", version)[0]) < NODE_MIN:
        _absent(f"Node.js {version.strip()} is too old: install version {NODE_MIN} or newer")
    return str(found)


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
