"""`make chaos` in short: a real deployment, real harm, and a table that says what it has cost."""

import os
import subprocess
import sys

from tests.servers import PROJECT


def chaos(*arguments: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.endswith("_URL")}
    return subprocess.run(
        [sys.executable, "-m", "chaos", *arguments],
        cwd=PROJECT,
        env=inherited,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )


def test_a_storm_that_kills_web_workers_costs_nothing() -> None:
    run = chaos("web", "--seconds", "4", "--clients", "4", "--seed", "7")
    assert run.returncode == 0, run.stdout + run.stderr
    (row,) = [line for line in run.stdout.splitlines() if line.startswith("│ web ")]
    _, name, faults, requests, _, acknowledged, *wrong = [
        cell.strip().replace(",", "") for cell in row.split("│")
    ]
    assert name == "web"
    assert int(faults) >= 3
    assert int(requests) >= int(acknowledged) > 0
    *wrong, longest_pause, _ = wrong
    assert wrong == ["0", "0", "0", "0", "0"]
    assert 0 < float(longest_pause) < 30


def test_an_unknown_storm_is_refused_with_the_names_of_those_there_are() -> None:
    run = chaos("tornado")
    assert run.returncode == 2
    assert "there is no trial called tornado: choose from calm, web," in run.stderr
