"""Runs the modules' own tests, ``*.test.js``, with Node's test runner."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.node import NODE

FILES = sorted(Path(__file__).parent.glob("*.test.js"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.removesuffix(".test.js"))
def test_the_browser_module_passes_its_own_tests(file: Path) -> None:
    command = [NODE, "--test", "--test-reporter=tap", str(file)]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stdout + run.stderr
    passed = re.search(r"^# pass (\d+)$", run.stdout, re.MULTILINE)
    assert passed, run.stdout
    assert int(passed[1]) > 0


def test_no_module_is_without_tests() -> None:
    assert {file.name.removesuffix(".test.js") for file in FILES} >= {
        "rollout",
        "emergency",
        "telemetry",
        "client",
    }
