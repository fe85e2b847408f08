"""Processes that share a directory of metrics leave no gauge when they die, and no file that grows the directory."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import PROJECT

PROGRAM = """
import fundapi.metric_files
import os, sys
from fundapi import metrics
from prometheus_client import generate_latest
metrics.requests_waiting.inc(22)
metrics.requests_shed.inc()
"""
FORKING = (
    PROGRAM
    + """
child = os.fork()
metrics.requests_waiting.inc(1)
"""
)
WAIT = "print('ready', flush=True); sys.stdin.read()"


def start(directory: Path, program: str) -> "subprocess.Popen[str]":
    environ = os.environ | {
        "PROMETHEUS_MULTIPROC_DIR": str(directory),
        "DJANGO_SETTINGS_MODULE": "fundapi.settings",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", program + WAIT],
        cwd=PROJECT,
        env=environ,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: "subprocess.Popen[str]") -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def samples(directory: Path) -> dict[str, float]:
    """Return what a scrape by another process shows, without its own 22 and 1."""
    program = f"""
import fundapi.metric_files
from pathlib import Path
from fundapi.metrics import SharedSamples
for family in SharedSamples(Path({str(directory)!r})).collect():
    for sample in family.samples:
        print(sample.name, sample.value)
"""
    output = subprocess.check_output([sys.executable, "-c", program], cwd=PROJECT, text=True)
    return {name: float(value) for name, value in (line.split() for line in output.splitlines())}


def test_a_process_that_was_killed_leaves_its_counters_and_no_gauge(tmp_path: Path) -> None:
    processes = [start(tmp_path, PROGRAM), start(tmp_path, PROGRAM)]
    try:
        assert samples(tmp_path)["http_requests_waiting"] == 44
        kill(processes.pop())
        now = samples(tmp_path)
        assert (now["http_requests_waiting"], now["http_requests_shed_total"]) == (22, 2)
    finally:
        for process in processes:
            kill(process)
    assert samples(tmp_path).get("http_requests_waiting", 0) == 0


def test_the_next_process_takes_the_number_of_a_dead_one(tmp_path: Path) -> None:
    """With its files: however often a worker is replaced, the directory does not grow."""
    for _ in range(3):
        kill(start(tmp_path, PROGRAM))
    assert samples(tmp_path)["http_requests_shed_total"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.lock", "counter_1.db", "histogram_1.db"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_has_a_number_of_its_own(tmp_path: Path) -> None:
    process = start(tmp_path, FORKING)
    try:
        assert samples(tmp_path)["http_requests_waiting"] == 24
        assert {path.name for path in tmp_path.glob("*.lock")} == {"1.lock", "2.lock"}
    finally:
        kill(process)
