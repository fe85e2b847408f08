"""Each app is a wheel of its own, with all of its files and no dependency that it does not need."""

import subprocess
import tarfile
import tomllib
from email.message import Message
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest
from hatchling.builders.sdist import SdistBuilder
from packaging.requirements import Requirement

import fundapi
from rollout.extras import PACKAGES
from tests.servers import PROJECT
from tests.wheels import build

PACKAGING = {"LICENSE", "README.md", "pyproject.toml"}  # of an app, beside its package
# What an app imports at start, installed by itself.
NEEDED = {
    "idempotency": {"django", "psycopg"},
    "rollout": {"django", "django-simple-history", "djangorestframework", "msgspec", "psycopg", "rich"},
}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of each app."""
    return {app: build(PROJECT / app, tmp_path_factory.mktemp(app)) for app in NEEDED}


@pytest.fixture(params=NEEDED)
def app(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def tree(app: str) -> set[str]:
    """Return the files of an app that git has, or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", app]
    listed = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True).stdout
    paths = {path for path in listed.splitlines() if (PROJECT / path).exists()}
    return paths - {f"{app}/{name}" for name in PACKAGING}


def members(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def metadata(wheel: Path) -> Message:
    with ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


def test_a_wheel_has_every_file_of_its_app_and_nothing_else(wheels: dict[str, Path], app: str) -> None:
    assert members(wheels[app]) == tree(app)
    for kind in (
        "py.typed",
        ".html",
        ".css",
        "client.js" if app == "idempotency" else "rollout.js",
        "0001_initial.py",
    ):
        assert any(name.endswith(kind) for name in members(wheels[app])), kind


def test_a_wheel_says_what_it_is(wheels: dict[str, Path], app: str) -> None:
    said = metadata(wheels[app])
    assert said["Name"] == f"fundapi-{app}"
    assert said["License-Expression"] == "MIT"
    assert said["License-File"] == "LICENSE"
    assert said["Requires-Python"] == ">=3.11"
    assert said["Description-Content-Type"] == "text/markdown"
    assert said.get_payload() == (PROJECT / app / "README.md").read_text()
    classifiers = said.get_all("Classifier", [])
    assert {"Framework :: Django :: 5.2", "Framework :: Django :: 6.0", "Typing :: Typed"} <= set(classifiers)


def test_a_wheel_needs_what_its_app_imports_at_start(wheels: dict[str, Path], app: str) -> None:
    needs = [Requirement(line) for line in metadata(wheels[app]).get_all("Requires-Dist", [])]
    assert {need.name for need in needs if need.marker is None} == NEEDED[app]


def test_the_extras_are_those_that_the_sentences_name(wheels: dict[str, Path]) -> None:
    assert set(PACKAGES) <= set(metadata(wheels["rollout"]).get_all("Provides-Extra", []))


def test_all_have_one_version() -> None:
    manifests = [PROJECT / "pyproject.toml", *PROJECT.glob("*/pyproject.toml")]
    assert len(manifests) == 3
    versions = {tomllib.loads(path.read_text())["project"]["version"] for path in manifests}
    assert versions == {fundapi.__version__}


def test_the_project_is_a_wheel_with_both_apps(tmp_path: Path) -> None:
    wheel = build(PROJECT, tmp_path)
    assert members(wheel) == tree("fundapi") | tree("idempotency") | tree("rollout")


@pytest.mark.parametrize("folder", [".", "idempotency", "rollout"])
def test_a_source_archive_builds_the_same_wheel(folder: str, tmp_path: Path) -> None:
    [archive] = SdistBuilder(str(PROJECT / folder)).build(directory=str(tmp_path))
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    [source] = [path for path in tmp_path.iterdir() if path.is_dir()]
    again = build(source, tmp_path / "wheel")
    apps = [folder] if folder != "." else ["fundapi", "idempotency", "rollout"]
    assert members(again) == set().union(*map(tree, apps))
