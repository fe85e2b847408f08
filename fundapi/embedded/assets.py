"""The static files of `make run`: collected once, and again when a package or a file of ours has changed."""

import hashlib
import shutil
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command

from fundapi.embedded.home import Home, lock
from fundapi.web import assets, modules


def collect(home: Home) -> None:
    """Collect into STATIC_ROOT if that is the home's: a directory of the user's own is the user's to fill."""
    if home.static != settings.STATIC_ROOT:
        return
    with lock(home.run / "static.lock") as collecting:
        collecting.exclusive()
        version = fingerprint()
        if home.read("run/static-version") != version:
            shutil.rmtree(home.static, ignore_errors=True)  # or it would grow with each change
            call_command("collectstatic", interactive=False, verbosity=0)
            home.keep("run/static-version", version)


def fingerprint() -> str:
    """Return a text that differs when a static file does: by size and time, for reading all takes a second."""
    files = (Path(store.path(name)) for finder in get_finders() for name, store in finder.list([]))
    makers = map(Path, (assets.__file__, modules.__file__))
    facts = (f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in (*files, *makers))
    return hashlib.blake2b("\n".join(facts).encode(), digest_size=16).hexdigest()
