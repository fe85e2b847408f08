"""A part of the app that is not installed is named in one sentence, once."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from rollout import extras
from tests.new_project import run_python
from tests.servers import PROJECT

COMMANDS = sorted(
    path.stem
    for path in (PROJECT / "rollout/management/commands").glob("[a-z]*.py")
    if path.stem != "rollout"  # needs none
)
JUDGE = {"check_rollouts", "demo_rollout", "send_test_alert", "simulate_rollout"}
SETTINGS = """
INSTALLED_APPS += ["rest_framework", "rollout"]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql"}}
"""
ALL = sorted(set().union(*extras.PACKAGES.values()) | {"prometheus_client"})


def bare(tmp_path: Path, program: str, packages: Sequence[str] = ALL) -> subprocess.CompletedProcess[str]:
    """Run Python in a project that has rollout, where some packages are not installed."""
    return run_python(tmp_path, program, SETTINGS, absent=packages)


def test_a_command_without_its_extra_ends_with_one_sentence(tmp_path: Path) -> None:
    program = (
        "from django.core.management import execute_from_command_line as run\n"
        f"for name in {COMMANDS!r}:\n"
        "    try: run(['manage.py', name])\n"
        "    except SystemExit as ended: print(name, ended.code)\n"
    )
    ended = bare(tmp_path, program)
    assert ended.stdout.splitlines() == [f"{name} 2" for name in COMMANDS]
    for name, line in zip(COMMANDS, ended.stderr.splitlines(), strict=True):
        extra = "judge" if name in JUDGE else "release"
        assert line.endswith(f", which is not installed: pip install 'fundapi-rollout[{extra}]'")


def test_the_operators_command_needs_no_extra(tmp_path: Path) -> None:
    program = (
        "from django.core.management import execute_from_command_line as run; run(['', 'rollout', '--help'])"
    )
    ended = bare(tmp_path, program)
    assert ended.returncode == 0, ended.stderr
    assert "stop" in ended.stdout


def test_urls_admin_and_metrics_need_no_extra(tmp_path: Path) -> None:
    program = (
        "import django; django.setup()\n"
        "import rollout.urls, rollout.admin, rollout.outcomes, rollout.purge, rollout.metrics as metrics\n"
        "metrics.alerts.labels('email', 'sent').inc()\n"
        "with metrics.check_duration.time(), metrics.check_failures.labels('F').count_exceptions(): ...\n"
    )
    ended = bare(tmp_path, program)
    assert ended.returncode == 0, ended.stderr


def test_a_worker_without_the_judge_has_the_purge_and_says_so(tmp_path: Path) -> None:
    """It may belong to a project that only asks for flags, and must not die."""
    program = (
        "import django; django.setup()\n"
        "from celery import current_app; import rollout.tasks\n"
        "print(sorted(name for name in current_app.tasks if name.startswith('rollout.')))\n"
    )
    ended = bare(tmp_path, program, ["scipy"])
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "['rollout.purge']\n"
    assert ended.stderr == (
        "No rollout is judged by this worker. This needs scipy, which is not installed: "
        "pip install 'fundapi-rollout[judge]'\n"
    )


def test_another_missing_package_stays_a_traceback() -> None:
    """It is a fault of the installation, or of the code."""
    with pytest.raises(ModuleNotFoundError, match="unheard_of"), extras.imported("judge"):
        raise ModuleNotFoundError("No module named 'unheard_of'", name="unheard_of")
