"""Peers are what their pins say, wherever packages come from."""

import re
from pathlib import Path

import pytest

from benchmarks.peers.catalog import PEERS, REQUIREMENTS
from tests.servers import PROJECT

PINNED = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>\d[A-Za-z0-9.]*)(?: --hash=sha256:[0-9a-f]{64})+"
)
PLACES = re.compile(r"https?://|--(extra-)?index-url|--find-links|\bpypi\b", re.IGNORECASE)
# Python writes its caches while the tests are collected, under names of the moment.
FILES = sorted(
    path for path in (PROJECT / "benchmarks").rglob("*") if path.is_file() and "__pycache__" not in path.parts
)


@pytest.mark.parametrize("path", sorted(REQUIREMENTS.iterdir()), ids=lambda path: path.name)
def test_every_package_of_a_peer_is_pinned_by_its_exact_version_and_its_hashes(path: Path) -> None:
    lines = re.sub(r"\s*\\\n\s*", " ", path.read_text()).splitlines()
    pins = [PINNED.fullmatch(line) for line in lines]
    assert pins
    assert all(pins)
    assert path.stem in {pin["name"] for pin in pins if pin}


def test_every_peer_has_its_pins_and_every_pin_its_peer() -> None:
    packages = {peer.package for peer in PEERS.values() if peer.package != "none"}
    assert {path.stem for path in REQUIREMENTS.iterdir()} == packages


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_no_file_says_where_packages_come_from(path: Path) -> None:
    assert not PLACES.search(path.read_text())
