"""The files under .github speak of what exists."""

import json
import os
import re
import subprocess
import tomllib

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
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "release.yml"]
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


def test_a_release_is_tested_first_and_built_by_what_cannot_be_moved() -> None:
    workflow = yaml.safe_load(WORKFLOWS[1].read_text())
    assert workflow[True] == {"push": {"tags": ["v[0-9]+.[0-9]+.[0-9]+"]}}  # nothing that strangers propose
    assert workflow["permissions"] == {"contents": "read"}
    test, release = workflow["jobs"]["test"], workflow["jobs"]["release"]
    assert "permissions" not in test
    assert release["needs"] == "test"
    assert release["permissions"] == {"contents": "write", "id-token": "write", "attestations": "write"}
    assert test["steps"][-1] == {"run": ".ci/run"}
    image = re.search(r"^ARG PYTHON=(.*)$", (PROJECT / "Dockerfile").read_text(), re.MULTILINE)
    assert image
    assert test["container"].startswith(f"python:{image[1]}-")
    for step in [*test["steps"], *release["steps"]]:
        if "uses" in step:
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step["uses"])
            assert step["with"].get("persist-credentials", False) is False
        else:
            subprocess.run(["bash", "-nc", step["run"]], check=True)
            # What somebody else chose gets into a script by its environment alone.
            assert "${{" not in step["run"]


def test_a_release_has_an_image_with_its_parts_and_an_attestation_of_everything() -> None:
    steps = yaml.safe_load(WORKFLOWS[1].read_text())["jobs"]["release"]["steps"]
    script = "\n".join(step.get("run", "") for step in steps)
    for word in ("--sbom=true", "--provenance=mode=max", "image.spdx.json", "SHA256SUMS", "--verify-tag"):
        assert word in script
    attested = [step["with"] for step in steps if "attest" in step.get("uses", "")]
    assert [set(subject) for subject in attested] == [
        {"subject-name", "subject-digest", "push-to-registry"},
        {"subject-path"},
    ]


def test_a_release_has_the_npm_package_that_is_published_with_its_provenance() -> None:
    steps = yaml.safe_load(WORKFLOWS[1].read_text())["jobs"]["release"]["steps"]
    names = [step.get("name", step.get("uses", "")) for step in steps]
    pack, sums = names.index("Pack the browser modules"), names.index("Pack the source")
    assert pack < sums < names.index("Publish") < len(steps) - 1  # SHA256SUMS and the attestation have it
    assert steps[pack]["run"].splitlines()[-1] == "make npm"
    assert "repository.url=" in steps[pack]["run"]
    assert "repository" not in json.loads((PROJECT / "package.json").read_text())
    publish = steps[names.index("Publish the browser modules")]
    assert publish["if"] == "vars.NPM_PUBLISH == 'true'"
    assert publish["run"] == "npm publish ./dist/fundapi-*.tgz --provenance --access public"
    assert "secrets" not in str(publish)


def test_a_tag_that_is_not_the_version_is_no_release() -> None:
    [check] = [
        step["run"]
        for step in yaml.safe_load(WORKFLOWS[1].read_text())["jobs"]["test"]["steps"]
        if step.get("name") == "The tag is the version"
    ]
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    for tag, status in ((f"v{version}", 0), ("v99.0.0", 1)):
        run = subprocess.run(
            ["sh", "-c", check], cwd=PROJECT, env=os.environ | {"GITHUB_REF_NAME": tag}, check=False
        )
        assert run.returncode == status
