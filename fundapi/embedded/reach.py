"""Files where root's stand-in account may go. Permissions of what is there already never change.

PostgreSQL refuses to run as root, so root's services run as another account (`processes.service_account`), to which
/root and a new temporary directory are closed. A home that the account cannot enter is a link to a directory under
/var/lib/fundapi, which holds the services' data and sockets: the link is `HOME/outside`.
Where even ``/`` is closed to the account, there is no such directory: then it runs with a capability instead
(`processes.Account.command`).
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fundapi.embedded.home import EmbeddedError, Home
from fundapi.embedded.processes import Account, service_account

SYSTEM = Path("/var/lib")  # kept over restarts of the machine, unlike the temporary directory


def make_reachable(home: Home, account: Account) -> str:
    """Give `home` a directory that `account` may enter, if it may not enter the home itself.

    Returns what the user should know, if anything. Raises EmbeddedError.
    """
    if home.outside.is_symlink():
        _check_outside(home)
    elif not account.may_enter(home.path):
        outside = Path(tempfile.mkdtemp(prefix="home-", dir=state_directory(account)))
        outside.chmod(0o711)
        _owner_record(outside).write_text(f"{home.path}\n")
        home.outside.symlink_to(outside)
        return (
            f"PostgreSQL refuses root, and its account may not enter {home.path}: the data is in {outside}, "
            f"and {home.outside} is a link to it"
        )
    return ""


def state_directory(account: Account) -> Path:
    """Return the directory of root for what `account` has to reach: /var/lib/fundapi, or a temporary one.

    Raises EmbeddedError.
    """
    for parent in (SYSTEM, *temporary_directories(account)):
        directory = parent / "fundapi"
        with suppress(OSError):  # a read-only system; or it is there
            directory.mkdir(mode=0o711)
            directory.chmod(0o711)
        # Anybody may have made it in a temporary directory: then it is not to be trusted.
        if directory.is_dir() and not directory.is_symlink():
            there = directory.stat()
            if there.st_uid == os.geteuid() and not there.st_mode & 0o022 and account.may_enter(directory):
                return directory
    raise EmbeddedError(
        "PostgreSQL refuses root, and there is no directory that its account may enter: make "
        f"{SYSTEM / 'fundapi'} with mode 711, run as a normal user, or set DATABASE_URL and REDIS_URL"
    )


def temporary_directories(account: Account) -> list[Path]:
    """Return the machine's temporary directories that `account` may enter."""
    named = dict.fromkeys((tempfile.gettempdir(), "/tmp"))  # noqa: S108 - what we make there is new and ours
    return [path for path in map(Path, named) if account.may_enter(path)]


@contextmanager
def temporary_directory(prefix: str) -> Iterator[Path]:
    """A new directory that the services' account may enter, for a home to be thrown away; removed at the end."""
    account = service_account()
    parent = next(iter(temporary_directories(account)), None)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True) as name:
        directory = Path(name)
        if account.borrowed:
            directory.chmod(0o711)
        yield directory


def _owner_record(outside: Path) -> Path:
    """The file that names the home of a directory outside it."""
    return outside / "home"


def _check_outside(home: Home) -> None:
    """Refuse the directory of another home: a copy of a home must not work on the data of its original."""
    outside = home.outside.readlink()
    if not outside.is_dir():
        raise EmbeddedError(
            f"the data of {home.path} was in {outside}, which is gone: bring it back, or remove "
            f"{home.outside} to begin anew"
        )
    record = _owner_record(outside)
    owner = Home(Path(record.read_text().strip()))
    if owner == home:
        return
    if owner.outside.is_symlink() and owner.outside.readlink() == outside:
        raise EmbeddedError(
            f"{home.path} is a copy of {owner.path}, whose data is in {outside}: remove {home.outside} to "
            "begin anew there"
        )
    record.write_text(f"{home.path}\n")  # the home was moved
