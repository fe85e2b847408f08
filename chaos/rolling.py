"""A rolling deployment: the next version replaces this one under load, after its migrations.

The next version is a copy of the project whose funds have one more column, and an index of it. While both serve, each
client goes from one to the other, retries included.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from chaos.deployment import TICK
from chaos.stack import Stack
from fundapi.embedded import run as make_run
from fundapi.embedded.home import PROJECT
from fundapi.embedded.manager import Manager, Program

APPS = ("fundapi", "idempotency", "rollout")
BEFORE = "    created_at = models.DateTimeField("
SAFE = "    note = models.TextField(null=True)\n"
CARELESS = '    note = models.TextField(default="")\n'  # the old version's INSERT knows no such column
INDEX = """
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("fundapi", "{after}")]
    operations = [AddIndexConcurrently("fund", models.Index(fields=["note"], name="fundapi_fund_note"))]
"""
ALONE = 2.0  # s that the old version serves before, and with what the next one has migrated
TOGETHER = 8.0  # s that both serve


def roll(stack: Stack, port: int, *, careless: bool) -> None:
    """Migrate, start the next version on ``port`` beside this one, and stop this one."""
    project = stack.home.path / "next"
    _write(project, CARELESS if careless else SAFE)
    env = stack.manager.env | {"PORT": str(port), "PROMETHEUS_MULTIPROC_DIR": str(project / "metrics")}
    manage = _Manage(project, env)
    manage("makemigrations", "fundapi", "--name", "note")
    if not careless:
        (made,) = (project / "fundapi" / "migrations").glob("*_note.py")
        (made.parent / f"{int(made.name[:4]) + 1:04}_index.py").write_text(INDEX.format(after=made.stem))
        manage("check", "--deploy")  # refuses what the old version would feel
    stack.look_after(ALONE)
    manage("migrate")
    stack.look_after(ALONE)
    old = stack.manager
    stack.managers.insert(0, Manager(stack.home.path, _programs(stack, project), env=env, pass_fds=()))
    while not make_run.answers(port):
        stack.look_after(TICK)
    stack.look_after(TOGETHER)
    stack.managers.remove(old)
    stack.port = port
    old.stop(lambda: False)
    stack.look_after(ALONE)


def _write(project: Path, column: str) -> None:
    for app in APPS:
        shutil.copytree(PROJECT / app, project / app, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "manage.py", project)
    (project / "metrics").mkdir()
    models = project / "fundapi" / "models.py"
    before, found, after = models.read_text().partition(BEFORE)
    assert found, "chaos/rolling.py puts a column before Fund.created_at"
    models.write_text(before + column + found + after)


def _programs(stack: Stack, project: Path) -> list[Program]:
    return [
        Program(each.name, ["env", f"--chdir={project}", *each.command], each.remind)
        for each in make_run.programs(stack.home)
    ]


class _Manage:
    """The next version's ``manage.py``."""

    def __init__(self, project: Path, env: dict[str, str]) -> None:
        self.project, self.env = project, env

    def __call__(self, *arguments: str) -> None:
        command: Sequence[str] = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(
            command, cwd=self.project, env=os.environ | self.env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"manage.py {' '.join(arguments)}: {done.stderr[-2000:]}")
