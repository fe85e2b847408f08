"""An environment for each peer, made once under ``.bench/`` and kept until its pins change.

It sees the project's own packages and adds the peer's to them, so that all run on the same Django, DRF, Granian
and psycopg, down to the file.
"""

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from benchmarks.peers.catalog import Peer
from benchmarks.stack import PROJECT

ENVIRONMENTS = PROJECT / ".bench" / "peers"


class NotInstalled(Exception):
    """The peer's packages cannot be installed here; the message says why."""


def python_for(peer: Peer) -> str:
    """Return the Python that has the peer's packages, installing them where they are not.

    Raises NotInstalled.
    """
    if not peer.requirements.exists():
        return sys.executable
    directory = ENVIRONMENTS / peer.package
    wanted = f"{sys.version}\n{sys.prefix}\n{peer.requirements.read_text()}"
    stamp = directory / "installed.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(directory, ignore_errors=True)
        venv.create(directory, with_pip=False, symlinks=True)
        site_packages = next(directory.glob("lib/python3.*/site-packages"))
        site_packages.joinpath("project.pth").write_text(sysconfig.get_path("purelib") + "\n")
        _install(directory, peer)
        stamp.write_text(wanted)
    return str(directory / "bin" / "python")


def _install(directory: Path, peer: Peer) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(directory / "bin" / "python")]
    options = ["--quiet", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run(
        [*pip, "install", *options, "--no-deps", "--require-hashes", "--requirement", str(peer.requirements)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        shutil.rmtree(directory, ignore_errors=True)
        raise NotInstalled(done.stderr.strip().splitlines()[-1])
