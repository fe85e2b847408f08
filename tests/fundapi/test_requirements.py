"""Requirements are pinned and hashed, and no file names an index."""

import json
import re
from pathlib import Path

import pytest

from tests.servers import PROJECT

PINNED = re.compile(r"[A-Za-z0-9][\w.\[\],-]*==\d[\w.]*( ; [^\\]+?)?( --hash=sha256:[0-9a-f]{64})+")
PLACES = re.compile(r"https?://|--(extra-)?index-url|--find-links|\bregistry *=", re.IGNORECASE)
PINS = sorted((PROJECT / "requirements").glob("*.txt"))


@pytest.mark.parametrize("path", PINS, ids=lambda path: path.name)
def test_every_package_is_pinned_by_its_exact_version_and_its_hashes(path: Path) -> None:
    text = re.sub(r"\s*\\\n\s*", " ", path.read_text())
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines
    assert [line for line in lines if not PINNED.fullmatch(line)] == []


def test_every_package_of_npm_is_pinned_by_its_hash() -> None:
    packages = json.loads((PROJECT / "package-lock.json").read_text())["packages"]
    named = {name: package for name, package in packages.items() if name}
    assert named
    assert [
        name for name, package in named.items() if not package.get("integrity", "").startswith("sha512-")
    ] == []


def test_no_file_says_where_packages_come_from() -> None:
    """From a second index, pip might take a stranger's package of the same name."""
    files = [*(PROJECT / "requirements").iterdir(), PROJECT / "package-lock.json", PROJECT / ".npmrc"]
    assert [path.name for path in files if PLACES.search(path.read_text())] == []


def test_whatever_installs_looks_at_the_hashes() -> None:
    for name in ("Makefile", "Dockerfile"):
        text = (PROJECT / name).read_text().replace("\\\n", " ")
        installing = [line for line in text.splitlines() if re.search(r"pip install ", line)]
        assert installing, name
        assert [line for line in installing if "--require-hashes" not in line] == []
        assert not re.search(r"npm (install|i) |npm ci(?! --ignore-scripts)", text)
