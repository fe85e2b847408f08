"""The home: the directory with the data, logs, locks and secrets of the embedded services."""

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fundapi.variables import Variables, wrong

PROJECT = Path(__file__).resolve().parents[2]
# Browsers of one machine have one address. Each counts, so that one person can try a whole rollout.
PATH_SHOWN = 200  # characters of a path in a sentence
ALONE = {"ROLLOUT_UNSIGNED_TELEMETRY": "full"}


def alone(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables whose defaults differ on a machine of one's own, as set or by these defaults."""
    env = Variables(environ)
    return {name: env.given(name) or value for name, value in ALONE.items()}


TOLD = 3  # exit status of a step of `make run` that has printed its one sentence
# What a machine may do to a file. Every other OSError may be a bug.
FULL = {errno.ENOSPC, errno.EDQUOT}
UNUSABLE = FULL | {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    *(errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP),
}


class EmbeddedError(Exception):
    """An error of the embedded services; the message says why, and what to do."""


@contextmanager
def in_words(directory: Path) -> Iterator[None]:
    """Raise what the file system refuses as an EmbeddedError; `directory` is where, if the error does not say."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNUSABLE:
            raise
        path = str(error.filename or directory)
        where = path if len(path) <= PATH_SHOWN else f"{path[:PATH_SHOWN]}…"
        advice = (
            "free space there, and start again"
            if error.errno in FULL
            else "mend that, or set FUNDAPI_HOME elsewhere"
        )
        raise EmbeddedError(f"cannot use {where}: {error.strerror}; {advice}") from error


@dataclass(frozen=True)
class Home:
    """The paths in a home directory.

    A home belongs to the user who made it: PostgreSQL insists on that for its data, and a second user would
    leave lock files that the first one cannot open.
    """

    path: Path

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> "Home":
        """Return the home at `path`, which need not exist. Links are resolved, so a home has one name."""
        return cls(Path(path).resolve())

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Home":
        """Return the home that `FUNDAPI_HOME` names: `.fundapi` in the project when it is unset or empty.

        Raises ImproperlyConfigured.
        """
        path = Variables(environ).path("FUNDAPI_HOME") or PROJECT / ".fundapi"
        try:
            return cls.at(path)
        except (OSError, RuntimeError):  # links in a circle
            raise wrong("FUNDAPI_HOME", str(path), "the path of a directory") from None

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def static(self) -> Path:
        """The directory of the collected static files (`assets`)."""
        return self.path / "static"

    @property
    def outside(self) -> Path:
        """The link to the services' directory, where root's stand-in account cannot enter the home (`reach`)."""
        return self.path / "outside"

    @property
    def services(self) -> Path:
        """The directory with the services' data and sockets: the home itself, or the target of `outside`."""
        return self.outside.readlink() if self.outside.is_symlink() else self.path

    @property
    def postgres(self) -> Path:
        return self.services / "postgres"

    @property
    def valkey(self) -> Path:
        return self.services / "valkey"

    @property
    def users_lock(self) -> Path:
        """The lock that each user of the services shares; the keeper takes it alone when there is no user."""
        return self.run / "users.lock"

    @property
    def start_lock(self) -> Path:
        """The lock that a process takes to look for a keeper and start one."""
        return self.run / "start.lock"

    @property
    def keeper_lock(self) -> Path:
        """The lock that the keeper holds as long as it lives."""
        return self.run / "keeper.lock"

    @property
    def services_file(self) -> Path:
        """The URLs of the running services. The file exists while a keeper is ready, or after one was killed."""
        return self.run / "services.json"

    @property
    def socket_note(self) -> Path:
        """The file that names the socket directory when the home's path is too long to hold it."""
        return self.run / "socket-directory"

    def make(self) -> None:
        """Make the directories.

        Raises EmbeddedError when the home cannot be made or belongs to somebody else.
        """
        # Root's PostgreSQL runs as another account, which must be able to enter.
        mode = 0o711 if os.geteuid() == 0 else 0o700
        with in_words(self.path):
            if not self.path.exists():
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.mkdir(mode=mode, exist_ok=True)
                self.path.chmod(mode)  # whatever the umask
            owner = self.path.stat().st_uid
            if owner != os.geteuid():
                raise EmbeddedError(
                    f"{self.path} belongs to user id {owner} and this is user id {os.geteuid()}: "
                    "run as its owner, or set FUNDAPI_HOME to a directory of your own"
                )
            for directory in (self.run, self.logs):
                directory.mkdir(mode=0o700, exist_ok=True)

    def log(self, name: str) -> Path:
        """Return the log file `name`, after moving a long one to `name.1`, so that logs stay bounded."""
        path = self.logs / f"{name}.log"
        with suppress(FileNotFoundError):
            if path.stat().st_size > 10_000_000:  # bytes
                path.replace(path.with_suffix(".log.1"))
        return path

    def secret(self, name: str, *, size: int = 48) -> str:
        """Return the secret of `size` random bytes kept under `name`; the first call makes it."""
        if not self.read(name):
            with self._draft(name, secrets.token_urlsafe(size)) as draft:
                try:
                    (self.path / name).hardlink_to(draft)
                except FileExistsError:  # another process was faster, or the file is empty
                    if not self.read(name):
                        draft.replace(self.path / name)
        return self.read(name) or ""

    def read(self, name: str) -> str | None:
        """Return the text kept under `name`, or None. Raises EmbeddedError when it is no text."""
        try:
            return (self.path / name).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            raise EmbeddedError(f"{self.path / name} is damaged: remove it, and start again") from None

    def keep(self, name: str, value: str) -> None:
        """Keep `value` under `name` instead of an earlier one, readable for the owner alone."""
        with self._draft(name, value) as draft:
            draft.replace(self.path / name)

    @contextmanager
    def _draft(self, name: str, value: str) -> Iterator[Path]:
        """Write a complete file beside `name`, so that a reader never sees half a value."""
        draft = self.path / f"{name}.{os.getpid()}.draft"
        draft.unlink(missing_ok=True)
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(value + "\n")
                file.flush()
                os.fsync(file.fileno())
            yield draft
        finally:
            draft.unlink(missing_ok=True)


class Lock:
    """An flock on a file: the kernel releases it when its process dies, so no lock is ever stale."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def shared(self, *, wait: bool = True) -> bool:
        return self._lock(fcntl.LOCK_SH, wait=wait)

    def exclusive(self, *, wait: bool = True) -> bool:
        return self._lock(fcntl.LOCK_EX, wait=wait)

    def _lock(self, kind: int, *, wait: bool) -> bool:
        try:
            fcntl.flock(self.fd, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Release the lock. The file stays: removing it would separate the processes that share it."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self.fd)


@contextmanager
def lock(path: Path) -> Iterator[Lock]:
    """Open a `Lock` on `path`, and close it (which releases it) at the end."""
    held = Lock(path)
    try:
        yield held
    finally:
        held.close()
