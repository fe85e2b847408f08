"""A Django project as `startproject` makes it, in processes of its own."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.servers import PROJECT

SETTINGS = """
SECRET_KEY = "of a new project"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""
# Stands where an import would find a package, and says that there is none.
ABSENT = """
import sys
sys.modules.update(dict.fromkeys({packages!r}))
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
for name in {packages!r}:
    del sys.modules[name]
sys.meta_path.insert(0, Finder())
"""


def run_python(
    folder: Path, program: str, settings: str, *, absent: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a program in a new project, with lines added to its settings, where some packages are absent."""
    (folder / "sitecustomize.py").write_text(ABSENT.format(packages=sorted(absent)))
    return run_in(folder, "-c", program, settings=settings)


def run_in(folder: Path, *arguments: str, settings: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a new project, with lines added to its settings."""
    (folder / "new_project.py").write_text(SETTINGS + settings)
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={
            "PYTHONPATH": f"{folder}:{PROJECT}",
            "DJANGO_SETTINGS_MODULE": "new_project",
            "PATH": "/usr/bin",
        },
        capture_output=True,
        text=True,
        check=False,
    )
