"""The directory of the services' sockets. Every account that may enter it may connect."""

import os
import re
import shutil
import tempfile
from pathlib import Path

from fundapi.embedded.home import EmbeddedError, Home
from fundapi.embedded.processes import Account
from fundapi.embedded.reach import temporary_directories

LONGEST_NAME = ".s.PGSQL.5432"
PATH_MAX = 100  # bytes; macOS allows 103, Linux 107
PLAIN = re.compile(r"[A-Za-z0-9_./-]+")  # read alike by libpq, in URLs and in Valkey's configuration


def make_socket_directory(home: Home, account: Account) -> Path:
    """Make a directory that only we may enter: in the home, or a temporary one when that path will not do.

    Raises EmbeddedError.
    """
    directory = home.services / "sockets"
    if not _usable(directory):
        return _recorded(home, account) or _temporary(home, account)
    account.make_directory(directory)
    return directory


def remove_socket_directory(home: Home, directory: Path) -> None:
    """Remove a temporary directory; a directory in the home stays."""
    if directory.parent != home.services:
        shutil.rmtree(directory, ignore_errors=True)
        home.socket_note.unlink(missing_ok=True)


def _usable(directory: Path) -> bool:
    return len(os.fsencode(directory / LONGEST_NAME)) <= PATH_MAX and bool(PLAIN.fullmatch(str(directory)))


def _recorded(home: Home, account: Account) -> Path | None:
    """Return the directory of a killed keeper, if it is still ours: there, running clients find the new services."""
    directory = Path(home.read("run/socket-directory") or "/nonexistent")
    if directory.is_dir() and not directory.is_symlink() and directory.stat().st_uid == account.uid:
        return directory
    return None


def _temporary(home: Home, account: Account) -> Path:
    for parent in temporary_directories(account):
        directory = Path(tempfile.mkdtemp(prefix="fundapi-", dir=parent))
        if _usable(directory):
            account.make_directory(directory)
            home.keep("run/socket-directory", str(directory))
            return directory
        directory.rmdir()
    raise EmbeddedError(
        "no path is short and plain enough for a socket: set TMPDIR or FUNDAPI_HOME to one that is"
    )
