"""``validate_local``: its steps, and what becomes of them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from benchmarks.servers import free_port
from rollout.release.decisions import Outcome
from rollout.release.validate import (
    AUDIT,
    DEPLOYMENT,
    Step,
    StepResult,
    conclusion,
    outcome_of,
    run,
    steps,
    vulnerable,
)
from tests.servers import PROJECT

PINNED = "jinja2==2.4.1 --hash=sha256:{}\n".format("0" * 64)


def named(name: str) -> Step:
    (step,) = (step for step in steps(tests=True, static_root="/nowhere") if step.name == name)
    return step


def typed(step: Step) -> str:
    """A step as the Makefile has it."""
    first, *rest = step.command
    if first == sys.executable:
        return " ".join(rest[1:] if rest[0] == "-m" else ["python", *rest])
    return " ".join([Path(first).name, *rest])


@pytest.fixture(params=[True, False], ids=["npm", "no npm"])
def has_npm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> bool:
    """A machine that has npm, and one that has not."""
    if request.param:
        (tmp_path / "npm").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return bool(request.param)


def test_the_steps_are_those_of_make_check_and_make_test(has_npm: bool) -> None:
    makefile = (PROJECT / "Makefile").read_text()
    targets = "lint|types|test|modules" if has_npm else "lint|types|test"
    recipes = re.findall(rf"^(?:{targets}):.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    commands = [
        re.sub(r"\$\(BIN\)/|node_modules/\.bin/|python -m | \$\(ARGS\)|\t@", "", line)
        for line in "".join(recipes).splitlines()
    ]
    assert len(commands) == (10 if has_npm else 9)
    ours = [typed(step) for step in steps(tests=True, static_root="/nowhere")]
    for command in commands:
        assert [each for each in ours if each.startswith(command)], command
    exported = dict(re.findall(r"^check: export (\w+) = (.*)$", makefile, re.MULTILINE))
    assert exported == DEPLOYMENT


def test_tests_are_left_out_on_request() -> None:
    kept = [step.name for step in steps(tests=False, static_root="x")]
    assert [*kept, "tests"] == [step.name for step in steps(tests=True, static_root="x")]


def python(code: str, name: str = "a step") -> Step:
    return Step(name, (sys.executable, "-c", code))


def test_a_step_that_fails_says_what_the_tool_said() -> None:
    done = run(python("print('line 7: no'); raise SystemExit(3)"), PROJECT)
    assert (done.outcome, done.output) == (Outcome.UNHEALTHY, "line 7: no")


def test_a_tool_that_is_not_there_is_a_failure() -> None:
    done = run(Step("types", ("node_modules/.bin/absent",)), PROJECT)
    assert (done.outcome, "make check" in done.output) == (Outcome.UNHEALTHY, True)


def test_steps_never_get_the_services_of_whoever_validates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://production")
    done = run(
        python("import os; print(sorted({'DATABASE_URL', 'REDIS_URL', 'PATH'} & set(os.environ)))"), PROJECT
    )
    assert done.output == "['PATH']"


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([Outcome.HEALTHY, Outcome.HEALTHY], Outcome.HEALTHY),
        ([Outcome.UNKNOWN, Outcome.HEALTHY], Outcome.UNKNOWN),
        ([Outcome.UNKNOWN, Outcome.UNHEALTHY], Outcome.UNHEALTHY),
    ],
)
def test_a_failure_is_worse_than_not_knowing(outcomes: list[Outcome], expected: Outcome) -> None:
    result = conclusion([StepResult(str(number), each, 1.0, "no") for number, each in enumerate(outcomes)])
    assert result.outcome is expected


def test_the_static_files_are_built_and_thrown_away(tmp_path: Path) -> None:
    step = next(step for step in steps(tests=False, static_root=str(tmp_path)) if step.name == "static files")
    assert run(step, PROJECT).outcome is Outcome.HEALTHY
    assert (tmp_path / "rollout" / "rollout.js").is_file()


def test_the_command_fails_fast_and_says_what_failed(tmp_path: Path) -> None:
    """The real command, in a project whose first step fails."""
    (tmp_path / "bad.py").write_text("import os\n")
    (tmp_path / "pyproject.toml").write_text('[tool.ruff.lint]\nselect = ["F"]\n')
    ended = subprocess.run(
        [sys.executable, "manage.py", "validate_local", "--skip-tests", "--json"],
        cwd=PROJECT,
        env=os.environ
        | {
            "DJANGO_SETTINGS_MODULE": "tests.rollout.release.checkout_settings",
            "TEST_CHECKOUT": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    document = json.loads(ended.stdout)
    assert (ended.returncode, document["outcome"]) == (1, "unhealthy")
    assert [step["name"] for step in document["steps"]] == ["lint"]
    assert "F401" in document["output"]
    assert "✗ lint" in ended.stderr


# --- The audit ----------------------------------------------------------------------------------------------------


@contextmanager
def vulnerability_database(answer: Mapping[str, object]) -> Iterator[str]:
    """Answer every question of pip-audit to an OSV service."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            payload = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_arguments: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def audit(directory: Path, url: str) -> StepResult:
    (directory / "requirements").mkdir()
    (directory / "requirements" / "image.txt").write_text(PINNED)
    step = named(AUDIT)
    asking = (*step.command, "-s", "osv", "--osv-url", url, "--cache-dir", str(directory / "cache"))
    return run(Step(AUDIT, asking), directory)


def test_a_vulnerable_package_is_a_failure(tmp_path: Path) -> None:
    answer = {
        "vulns": [
            {
                "id": "PYSEC-0",
                "summary": "bad",
                "affected": [{"package": {"name": "jinja2", "ecosystem": "PyPI"}, "versions": ["2.4.1"]}],
            }
        ]
    }
    with vulnerability_database(answer) as url:
        done = audit(tmp_path, url)
    assert done.outcome is Outcome.UNHEALTHY, done.output
    assert "PYSEC-0" in done.output


def test_sound_packages_pass(tmp_path: Path) -> None:
    with vulnerability_database({}) as url:
        done = audit(tmp_path, url)
    assert done.outcome is Outcome.HEALTHY, done.output


def test_an_audit_that_cannot_ask_could_not_tell(tmp_path: Path) -> None:
    done = audit(tmp_path, f"http://127.0.0.1:{free_port()}")
    assert done.outcome is Outcome.UNKNOWN, done.output
    assert conclusion([done]).says.startswith("Nothing failed in")


def test_an_audit_that_nobody_answers_could_not_tell() -> None:
    """As with an index that has packages and no advisories: pip-audit exits 0."""
    skipped = {"name": "a", "skip_reason": "Dependency not found"}
    known = {"name": "b", "version": "1", "vulns": []}
    for dependencies, outcome in (([skipped], Outcome.UNKNOWN), ([skipped, known], Outcome.HEALTHY)):
        said = subprocess.CompletedProcess(
            (), 0, stdout=json.dumps({"dependencies": dependencies}), stderr=""
        )
        assert outcome_of(named(AUDIT), said) is outcome


def test_what_is_vulnerable_is_read_from_the_report() -> None:
    report = {"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "X"}, {"id": "Y"}]}]}
    assert vulnerable(json.dumps(report)) == ["a 1: X, Y"]
    assert vulnerable("ERROR: no network") == vulnerable("[]") == []


def test_npm_decides_about_the_browser_modules(has_npm: bool) -> None:
    names = [step.name for step in steps(tests=False, static_root="x")]
    assert ("types of the browser modules" in names) == has_npm
