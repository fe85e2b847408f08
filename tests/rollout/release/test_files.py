"""The files under .github speak of what exists."""

import re
import subprocess

import yaml

from rollout.release.decisions import labels_for, matches, rules_of
from tests.servers import PROJECT

LABELS = dict(rules_of(yaml.safe_load((PROJECT / ".github" / "labeler.yml").read_text())))
WORKFLOWS = sorted((PROJECT / ".github" / "workflows").glob("*.yml"))


def tracked() -> list[str]:
    """The project's files; those that are only there for a while do not count."""
    ignored = {".git", ".venv", "node_modules", "__pycache__"}
    return [
        str(path.relative_to(PROJECT))
        for path in PROJECT.rglob("*")
        if path.is_file() and not ignored & set(path.relative_to(PROJECT).parts)
    ]


def test_every_glob_of_the_labeler_matches_a_file() -> None:
    paths = tracked()
    for label, globs in LABELS.items():
        assert globs, label
        for glob in globs:
            assert any(matches(path, glob) for path in paths), (label, glob)


def test_risky_paths_are_labelled() -> None:
    for path, label in {
        "idempotency/store.py": "exactly-once",
        "idempotency/migrations/0001_initial.py": "migration",
        "rollout/judge/decision.py": "judge",
        "fundapi/settings.py": "settings",
        "Dockerfile": "deployment",
        "requirements/base.txt": "dependencies",
        "rollout/static/rollout/emergency.js": "browser",
        "idempotency/static/idempotency/client.js": "browser",
    }.items():
        assert (PROJECT / path).is_file()
        assert label in labels_for([path], LABELS), path
    assert labels_for(["README.md", "tests/rollout/judge/test_decision.py"], LABELS) == []


def test_the_workflow_can_change_nothing_and_knows_no_secret() -> None:
    """It runs what strangers propose."""
    text = WORKFLOWS[0].read_text()
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in text
    assert "secrets." not in text
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step["uses"])
                assert step["with"]["persist-credentials"] is False


def test_the_workflow_runs_what_has_to_pass_and_can_be_started_by_hand() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml"]
    workflow = yaml.safe_load(WORKFLOWS[0].read_text())
    triggers = workflow[True]  # YAML 1.1 reads `on` so
    assert {"pull_request", "push", "workflow_dispatch"} == set(triggers)
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert commands == [".ci/run"]
    for command in commands:
        script = PROJECT / command
        assert script.is_file()
        assert script.stat().st_mode & 0o100
        subprocess.run(["bash", "-n", str(script)], check=True)
    (job,) = workflow["jobs"].values()
    oldest = (PROJECT / "pyproject.toml").read_text().partition('requires-python = ">=')[2][:4]
    assert job["strategy"]["matrix"]["python"] == [oldest, "3.12", "3.13", "3.14"]
    assert job["container"].startswith("python:${{ matrix.python }}-")
