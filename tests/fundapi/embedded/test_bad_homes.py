"""A home that cannot be used, or whose disk is full: one sentence, and nothing is lost."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from fundapi.embedded import EmbeddedError, Home, services
from fundapi.embedded.processes import fatal_line
from fundapi.embedded.reach import temporary_directory
from fundapi.embedded.run import MEMORY, metrics_directory
from tests.eventually import eventually

PROJECT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.deployment
MAKE_RUN = ("-m", "fundapi.embedded.run")


@pytest.fixture
def directory() -> Iterator[Path]:
    with temporary_directory("bad-home-") as path:
        yield path


@pytest.fixture
def disk(directory: Path) -> Iterator[Callable[[str], Path]]:
    """A file system of its own, which is given a size with each call."""
    place = directory / "disk"
    place.mkdir()

    def mount(size: str) -> Path:
        options = f"size={size},mode=755{',remount' if place.is_mount() else ''}"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=False, capture_output=True
        )
        if mounted.returncode:
            pytest.skip("only root can mount a file system")
        return place

    yield mount
    subprocess.run(["umount", place], check=False, capture_output=True)


def start(home: str | Path, *command: str, **environment: str) -> str:
    """Run a command in a home, assert that it fails with one line on stderr, and return that line."""
    ended = subprocess.run(
        [sys.executable, *(command or MAKE_RUN)],
        check=False,
        cwd=PROJECT,
        env={"PATH": os.defpath, "FUNDAPI_HOME": str(home), "PORT": "18999"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    # 2 for a wrong value of the variable itself, as for every setting.
    code = 2 if ended.stderr.startswith("FUNDAPI_HOME is ") else 1
    assert (ended.returncode, ended.stdout) == (code, ""), ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    return ended.stderr


def a_file(path: Path) -> Path:
    path.touch()
    return path


def a_file_for_a_directory(path: Path) -> Path:
    path.mkdir()
    (path / "run").touch()
    return path


def a_circle(path: Path) -> Path:
    path.symlink_to(path)
    return path


HOMES: dict[str, tuple[Callable[[Path], Path | str], str]] = {
    "a file": (a_file, "should be the path of a directory"),
    "in a file": (lambda path: a_file(path) / "home", "cannot use "),
    "with a file for a directory": (a_file_for_a_directory, "home/run: File exists; mend that"),
    "a long name": (lambda path: path / ("x" * 300), "home"),
    "a circle of links": (a_circle, "home"),
    "where nobody can make one": (lambda _: "/proc/home", "cannot use /proc/home: No such file or directory"),
    "an unknown user": (lambda _: "~nobody-of-this-name/home", "should be the path of a directory"),
    "two lines": (lambda path: f"{path}\ntwo", "should be the path of a directory"),
    "not UTF-8": (lambda path: f"{path}\udcff", "should be the path of a directory"),
}


@pytest.mark.parametrize("name", HOMES)
def test_a_home_that_cannot_be_is_one_sentence(directory: Path, name: str) -> None:
    make, words = HOMES[name]
    assert words in start(make(directory / "home"))


def test_a_database_that_is_away_is_one_sentence(directory: Path) -> None:
    away = {
        "DATABASE_URL": "postgres://fundapi@127.0.0.1:1/fundapi",
        "STATIC_ROOT": str(directory / "static"),
    }
    said = start(directory / "home", **away)
    assert said.startswith("make run: The database could not be asked (")


def test_a_home_that_is_read_only_is_one_sentence(disk: Callable[[str], Path]) -> None:
    place = disk("1m")
    for name in ("run", "logs"):
        (place / "home" / name).mkdir(parents=True)
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    for command in (MAKE_RUN, ("manage.py", "rollout", "status")):
        assert "Read-only file system; mend that, or set FUNDAPI_HOME elsewhere" in start(
            place / "home", *command
        )


def test_a_full_disk_is_one_sentence_and_a_start_with_space_works(disk: Callable[[str], Path]) -> None:
    home = disk("10m") / "home"
    assert "PostgreSQL could not make its data in " in start(home)
    fill(home.parent)
    assert "No space left on device; free space there, and start again" in start(home.parent / "other")
    (home.parent / "fill").unlink()
    disk("200m")
    with services(home, durable=False, environ={}) as found:
        assert works(found.database_url, 1)


def test_a_disk_that_fills_up_while_they_run_loses_nothing(disk: Callable[[str], Path]) -> None:
    home = disk("120m") / "home"
    with services(home, durable=False, environ={}) as found:
        with psycopg.connect(found.database_url) as connection:
            connection.execute("CREATE TABLE numbers (number integer, text text)")
        assert works(found.database_url, 1)
        fill(home.parent)
        with pytest.raises(psycopg.Error), psycopg.connect(found.database_url) as connection:
            connection.execute(
                "INSERT INTO numbers SELECT n, repeat('x', 1000) FROM generate_series(1, 100000) n"
            )
        (home.parent / "fill").unlink()
        eventually(lambda: works(found.database_url, 2))


@pytest.mark.skipif(not MEMORY.is_dir(), reason="this machine has no file system in memory")
def test_metrics_are_in_memory_where_a_full_disk_kills_nobody(directory: Path) -> None:
    home = Home.at(directory)
    metrics = metrics_directory(home)
    try:
        assert metrics.parent == MEMORY
        (metrics / "counter_1.db").touch()
        assert list(metrics_directory(home).iterdir()) == []  # new at each start
    finally:
        metrics.rmdir()


def fill(place: Path) -> None:
    with (place / "fill").open("wb", buffering=0) as file, suppress(OSError):
        for size in (1_000_000, 1000):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))


def works(url: str, count: int) -> bool:
    """Add a row, and return whether there are as many rows as there should be."""
    with suppress(psycopg.Error), psycopg.connect(url, connect_timeout=2) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS numbers (number integer, text text)")
        connection.execute("INSERT INTO numbers VALUES (%s)", [count])
        return connection.execute("SELECT count(*) FROM numbers").fetchone() == (count,)
    return False


# --- Files in the home --------------------------------------------------------------------------------------------


def test_an_empty_secret_is_made_anew(directory: Path) -> None:
    home = Home.at(directory / "home")
    home.make()
    (home.path / "secret-key").touch()
    made = home.secret("secret-key")
    assert len(made) >= 50
    assert home.secret("secret-key") == made


def test_a_secret_that_is_no_text_is_named(directory: Path) -> None:
    (directory / "secret-key").write_bytes(b"\xff")
    with pytest.raises(EmbeddedError, match="secret-key is damaged: remove it"):
        Home.at(directory).secret("secret-key")


def test_damaged_addresses_of_running_services_are_named(directory: Path) -> None:
    home = Home.at(directory / "home")
    with services(home, durable=False, environ={}):
        for damaged in ("{", "[]", "{}", "1"):
            home.services_file.write_text(damaged)
            with (
                pytest.raises(EmbeddedError, match=r"services\.json is damaged: stop what uses"),
                services(home, environ={}),
            ):
                pass


SERVER_LOG = """\
2026-11-28 22:41:40 UTC [1] postgres@postgres FATAL:  the database system is starting up
2026-11-28 22:41:40 UTC [2] FATAL:  could not write: No space left on device
2026-11-28 22:41:41 UTC [1] LOG:  database system is shut down
"""


@pytest.mark.parametrize(
    ("printed", "cause"),
    [
        ("", "it printed nothing"),
        ("one\n\n two \n", "two"),
        (SERVER_LOG, "could not write: No space left on device"),
        (
            "making ... initdb: error: could not create directory\ninitdb: removing\n",
            "could not create directory",
        ),
    ],
)
def test_a_log_is_told_by_its_fatal_line(printed: str, cause: str) -> None:
    assert fatal_line(printed) == cause
