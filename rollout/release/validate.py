"""Run `make check`, `make test`, the build of the static files and an audit of dependencies.

One list of steps, each a child process of this Python, whose output is printed when it fails.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from rollout.release.decisions import Outcome
from rollout.release.terminal import Result, Terminal

TAIL = 40  # lines of a failed step that are shown
# Settings of a deployment, for the checks; nothing is served with them.
DEPLOYMENT = {
    "SECRET_KEY": "only-for-checks-0123456789-abcdefghijklmnopqrstuvwxyz",
    "ALLOWED_HOSTS": "fundapi.example",
    "HTTPS": "on",
    "TRUSTED_PROXIES": "1",
}
SERVICES = {"DATABASE_URL", "REDIS_URL"}  # tests start their own, and must not use the caller's
AUDIT = "dependency audit"
PINS = ("--requirement", "requirements/image.txt", "--disable-pip")  # complete and hashed: nothing to resolve
BANDIT = (
    *("--quiet", "--configfile", "pyproject.toml", "--severity-level", "medium"),
    *("--recursive", "fundapi", "idempotency", "rollout"),
)


@dataclass(frozen=True, slots=True)
class Step:
    """A command that must succeed."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepResult:
    """The result of a step."""

    name: str
    outcome: Outcome
    seconds: float
    output: str


def steps(*, tests: bool, static_root: str) -> list[Step]:
    """Return the steps in order: first those that are quick and fail often.

    Args:
        static_root: the temporary folder of the built static files.
    """
    python, tool = sys.executable, Path(sys.executable).with_name
    manage = (python, "manage.py")
    all_steps = [
        Step("lint", (python, "-m", "ruff", "check", "--quiet", ".")),
        Step("format", (python, "-m", "ruff", "format", "--quiet", "--check", ".")),
        Step("comments", (python, "-m", "tests.comments")),
        Step("security", (python, "-m", "bandit", *BANDIT)),
        Step("types", (python, "-m", "mypy"), DEPLOYMENT),
        Step("import directions", (str(tool("lint-imports")),)),  # it has no module to run
        Step("deployment settings", (*manage, "check", "--deploy", "--fail-level", "WARNING"), DEPLOYMENT),
        Step("missing migrations", (*manage, "makemigrations", "--check", "--dry-run"), DEPLOYMENT),
        Step(
            "static files",
            (*manage, "collectstatic", "--no-input", "--verbosity", "0"),
            {**DEPLOYMENT, "STATIC_ROOT": static_root},
        ),
    ]
    if shutil.which("npm"):
        all_steps.append(Step("types of the browser modules", ("node_modules/.bin/tsc",)))
    all_steps.append(
        Step(AUDIT, (python, "-m", "pip_audit", *PINS, "--format", "json", "--progress-spinner", "off"))
    )
    if tests:
        all_steps.append(Step("tests", (python, "-m", "pytest", "-n", "logical", "-q")))
    return all_steps


def validate(directory: Path, *, tests: bool, terminal: Terminal, only_audit: bool = False) -> Result:
    """Run every step in the project's directory until one fails, or the audit alone."""
    with TemporaryDirectory(prefix="static-") as static_root:
        wanted = [
            step
            for step in steps(tests=tests, static_root=static_root)
            if step.name == AUDIT or not only_audit
        ]
        if absent := absent_tools(wanted, directory):
            says = f"Nothing was checked: run `make check` once, which installs {', '.join(absent)}."
            return Result(Outcome.UNKNOWN, says, {"absent": absent})
        return conclusion(list(run_all(wanted, directory, terminal)))


def run_all(wanted: Iterable[Step], directory: Path, terminal: Terminal) -> Iterator[StepResult]:
    """Run the steps until one fails; a dry run prints them."""
    for step in wanted:
        if terminal.dry_run:
            terminal.outside(f"run {' '.join(step.command)}", lambda: None)
            continue
        with terminal.step(step.name) as say:
            done = run(step, directory)
            say(done.outcome)
        yield done
        if done.outcome is Outcome.UNHEALTHY:
            terminal.say(done.output)
            return


def absent_tools(wanted: Sequence[Step], directory: Path) -> list[str]:
    """Return the tools that steps need and that are not installed, as after `make run` alone."""
    tools = dict.fromkeys(tool_of(step) for step in wanted)
    return [Path(tool).name for tool in tools if tool and not is_installed(tool, directory)]


def tool_of(step: Step) -> str:
    """Return the module or program that runs a step; "" for one of the project's own."""
    program, option, *arguments = *step.command, ""
    if program != sys.executable:
        return program
    return arguments[0] if option == "-m" and not arguments[0].startswith("tests.") else ""


def is_installed(tool: str, directory: Path) -> bool:
    """Return whether a module or program is there. A project without package.json has no modules of the browser."""
    if "/" not in tool:
        return find_spec(tool) is not None
    return (directory / tool).exists() or not (directory / "package.json").is_file()


def run(step: Step, directory: Path) -> StepResult:
    """Run one step."""
    began = time.monotonic()
    inherited = {name: value for name, value in os.environ.items() if name not in SERVICES}
    try:
        done = subprocess.run(
            step.command,
            cwd=directory,
            env={**inherited, **step.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        outcome, output = outcome_of(step, done), done.stdout + done.stderr
    except FileNotFoundError as error:
        outcome, output = Outcome.UNHEALTHY, f"{error.filename} does not exist: run `make check` once."
    lines = output.strip().splitlines()
    return StepResult(step.name, outcome, time.monotonic() - began, "\n".join(lines[-TAIL:]))


def outcome_of(step: Step, done: "subprocess.CompletedProcess[str]") -> Outcome:
    """Return the outcome of a step by its exit code, and of the audit by its report too.

    The audit exits alike when it finds a vulnerability and when it cannot reach its database.
    """
    if step.name == AUDIT and not vulnerable(done.stdout) and (done.returncode or nothing_known(done.stdout)):
        return Outcome.UNKNOWN
    return Outcome.UNHEALTHY if done.returncode else Outcome.HEALTHY


def vulnerable(report: str) -> list[str]:
    """Return ``name version: ids`` of the vulnerable packages in a JSON report of pip-audit; none for invalid JSON."""
    try:
        dependencies = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return []
    return [
        f"{each['name']} {each['version']}: {', '.join(one['id'] for one in each['vulns'])}"
        for each in dependencies
        if each.get("vulns")
    ]


def nothing_known(report: str) -> bool:
    """Return whether a report of pip-audit has data of no package, as when an index has none."""
    return not any("vulns" in each for each in json.loads(report)["dependencies"])


def conclusion(made: Sequence[StepResult]) -> Result:
    """Return the result of all steps: a failure comes before an unknown outcome."""
    seconds = sum(done.seconds for done in made)
    details = {
        "steps": [
            {"name": done.name, "outcome": done.outcome.name.lower(), "seconds": round(done.seconds, 1)}
            for done in made
        ]
    }
    if failed := [done for done in made if done.outcome is Outcome.UNHEALTHY]:
        says = f"{failed[0].name} failed, after {seconds:.0f} s in all."
        return Result(Outcome.UNHEALTHY, says, {**details, "output": failed[0].output})
    if unknown := [done for done in made if done.outcome is Outcome.UNKNOWN]:
        why = (unknown[0].output.splitlines() or ["no message"])[-1]
        says = f"Nothing failed in {seconds:.0f} s, but {unknown[0].name} could not tell: {why}"
        return Result(Outcome.UNKNOWN, says, {**details, "output": unknown[0].output})
    return Result(Outcome.HEALTHY, f"All {len(made)} steps passed in {seconds:.0f} s.", details)
