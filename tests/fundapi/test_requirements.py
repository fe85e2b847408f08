"""Requirements are pinned and hashed, and no file names an index."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
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


PIP = """
import os, sys, time
print("Ignoring tzdata: markers 'sys_platform == win32' do not match your environment")
print("Collecting amqp==5.4.2 (from -r pins.txt (line 1))")
print("Processing /opt/files/attrs-26.1.0-py3-none-any.whl (from -r pins.txt (line 3))")
with open(os.path.join(os.environ["TMPDIR"], "scipy-1.17.1.whl"), "wb") as wheel:
    wheel.write(bytes(3_000_000))
print("Collecting scipy==1.17.1 (from -r pins.txt (line 5))")
print("WARNING: Retrying", file=sys.stderr)
time.sleep(0.5)
sys.exit(int(sys.argv[1]))
"""


def install(directory: Path, *, terminal: bool, status: int = 0) -> tuple[int, str]:
    """Run requirements/progress.py with a stand-in for pip; return its exit status and what is seen."""
    (directory / "pip.py").write_text(PIP)
    pins = directory / "pins.txt"
    pins.write_text("amqp==5.4.2\nattrs==26.1.0\nscipy==1.17.1\ntzdata==2026.2 ; sys_platform == 'win32'\n")
    reading, writing = pty.openpty() if terminal else os.pipe()
    pip = [sys.executable, str(directory / "pip.py"), str(status), str(pins)]
    command = [sys.executable, str(PROJECT / "requirements" / "progress.py"), "40", *pip]
    try:
        done = subprocess.run(command, check=False, stderr=writing, stdout=writing)
        return done.returncode, os.read(reading, 65536).decode()
    finally:
        os.close(reading)
        os.close(writing)


def test_an_installation_shows_how_far_it_is(tmp_path: Path) -> None:
    status, seen = install(tmp_path, terminal=True)
    assert status == 0
    assert f"Installing {tmp_path}/pins.txt: about 40 MB to download" in seen
    line = r"\r\x1b\[K  3 of 3 packages, 3 of about 40 MB, 0:00, about \d:\d\d left: scipy==1\.17\.1"
    assert re.search(line, seen)
    assert seen.endswith("\r\x1b[K3 packages are installed, after 0:00.\r\n")


def test_an_installation_without_a_terminal_writes_plain_lines(tmp_path: Path) -> None:
    _, seen = install(tmp_path, terminal=False)
    assert seen.splitlines() == [
        f"Installing {tmp_path}/pins.txt: about 40 MB to download",
        "WARNING: Retrying",
        "3 packages are installed, after 0:00.",
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_failed_installation_fails_with_the_words_of_pip(tmp_path: Path, *, terminal: bool) -> None:
    status, seen = install(tmp_path, terminal=terminal, status=3)
    assert status == 3
    assert "WARNING: Retrying" in seen
    assert "are installed" not in seen
    assert seen.splitlines()[-1].endswith("Run the same command again: pip keeps what it has downloaded.")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_installation_that_is_interrupted_leaves_nothing(tmp_path: Path, sent: signal.Signals) -> None:
    """Ctrl-C, at whatever moment: a terminal sends it to pip, too, which would show where it was."""
    (tmp_path / "pip.py").write_text("import time; print('Collecting amqp', flush=True); time.sleep(60)")
    (tmp_path / "pins.txt").write_text("amqp==5.4.2\n")
    pip = [sys.executable, str(tmp_path / "pip.py"), str(tmp_path / "pins.txt")]
    running = subprocess.Popen(
        [sys.executable, str(PROJECT / "requirements" / "progress.py"), "40", *pip],
        stderr=subprocess.PIPE, text=True, start_new_session=True, env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert running.stderr
    assert running.stderr.readline().startswith("Installing ")
    time.sleep(0.5)
    os.killpg(running.pid, sent)
    said = running.communicate(timeout=20)[1].splitlines()
    assert running.returncode == 130
    assert list(tmp_path.glob("pip-*")) == []
    assert said == [
        "Not installed, after 0:00. Run the same command again: pip keeps what it has downloaded."
    ]
