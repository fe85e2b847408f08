#!/usr/bin/env python3
"""Django's command line, with the embedded services where DATABASE_URL or REDIS_URL is unset.

A command uses the services of FUNDAPI_HOME when they run, and starts them for itself when they do not. A wrong
setting and a database that is away, not migrated or read-only are one sentence; --traceback shows the rest.
Messages of this file go to stderr: a command's stdout is its own.
"""

import errno
import os
import secrets
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

from django.core.management import CommandError, execute_from_command_line
from django.db import connections

from fundapi import embedded
from fundapi.embedded import EmbeddedError, Home, alone, services
from fundapi.variables import WRONG, Variables, name_settings, wrong_setting
from rollout import faults
from rollout.options import NOT_STOPPED, discard

# These use neither database nor broker, so their settings name services that do not exist.
NEED_NO_SERVICES = {
    "",
    "help",
    "version",
    "check",
    "collectstatic",
    "compilemessages",
    "diffsettings",
    "findstatic",
    "makemessages",
    "spectacular",
    "startapp",
    "validate_local",  # each of its steps finds its own
}
NOWHERE = {
    "DATABASE_URL": "postgres://nobody@/nothing?host=/nonexistent",
    "REDIS_URL": "redis://127.0.0.1:9/0",
    "SECRET_KEY": secrets.token_urlsafe(48),
}

# These outlive an outage of the database, one without an end to their connection too.
MONITORING = {"monitor_deployment", "deploy_with_confidence"}
# A full disk, a full quota, a read-only file system, a reader of the output that has gone.
UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EPIPE}


def needs_services(arguments: list[str]) -> bool:
    """Return whether a command line needs a database or a broker."""
    command = next((argument for argument in arguments if not argument.startswith("-")), "")
    if {"-h", "--help", "--version"} & set(arguments):
        return False
    return command not in NEED_NO_SERVICES or "--database" in arguments


@contextmanager
def environment(arguments: list[str]) -> Iterator[None]:
    """Complete the environment that the settings read."""
    name_settings()
    env = Variables()
    if not needs_services(arguments):
        os.environ.update({name: env.given(name) or value for name, value in NOWHERE.items()})
        yield
        return
    home = Home.from_environment()
    with ExitStack() as stack:
        with embedded.in_words(home.path):
            # Of a server that somebody else runs in this checkout, not even the lock can be opened.
            is_alone = not env.given("DATABASE_URL") and not embedded.is_used(home)
            joined = stack.enter_context(services(home))
            if joined.lock_fd is not None:
                os.environ.update(alone())
                if arguments[:1] == ["dbshell"]:
                    find_psql()
                if is_alone and joined.superuser_url:
                    name_database(home)
            if not env.given("SECRET_KEY"):
                # Use the key of the home's server. Make one only for embedded services, never for a deployment's.
                key = home.secret("secret-key") if joined.lock_fd is not None else home.read("secret-key")
                os.environ.update({"SECRET_KEY": key} if key else {})
        yield


def watch_connections() -> None:
    """Cut off connections on which PostgreSQL does not answer."""
    from fundapi.web import cutoff  # noqa: PLC0415 - most commands need no metrics

    cutoff.watch(connections.all())


def find_psql() -> None:
    """Let `dbshell` run the embedded PostgreSQL's psql, instead of an older one or none."""
    from fundapi.embedded.programs import postgres_directory  # noqa: PLC0415 - psutil, which the image has not

    os.environ["PATH"] = os.pathsep.join([str(postgres_directory()), os.environ.get("PATH", os.defpath)])


def name_database(home: Home) -> None:
    """Say which database a command works on that no server of `make run` uses."""
    from fundapi.embedded.manager import served_homes  # noqa: PLC0415 - needs psutil, which the image has not

    served = sorted(served_homes() - {str(home.path)})
    others = f"; `make run` serves {' and '.join(served)} (set FUNDAPI_HOME)" if served else ""
    sys.stderr.write(
        f"manage.py: works on the private database in {home.path}, which nothing else uses{others}.\n"
    )


def sentence(error: Exception) -> str | None:
    """Return an error that is no bug as a sentence."""
    if text := wrong_setting(error):
        return text
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        return f"manage.py: cannot write {error.filename or 'the output or a file'}: {error.strerror}"
    text = str(error) if isinstance(error, EmbeddedError) else faults.sentence(error)
    return text and f"manage.py: {text}"


def fail(text: str, code: int = 1, *, is_stop: bool = False) -> NoReturn:
    """Print why the command failed, and exit. Whoever wanted to stop a rollout has to know that it goes on."""
    if is_stop:
        text, code = NOT_STOPPED.format(f"{text.removeprefix('manage.py: ').rstrip('.')}."), 2
    sys.stderr.write(f"{text}\n")
    sys.exit(code)


def open_streams() -> None:
    """Open the standard streams that are closed; else a socket gets their number, and every print fails."""
    for name, mode in {"stdin": "r", "stdout": "w", "stderr": "w"}.items():
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - for the whole process


def discard_unwritable() -> None:
    """Discard what the streams cannot write."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            discard(stream.fileno())


def is_emergency_stop(arguments: list[str]) -> bool:
    return arguments[:1] == ["rollout"] and "stop" in arguments


def interrupt_at_every_end() -> None:
    """Take SIGTERM and a closed terminal for Ctrl-C, after which a stop says whether it has stopped."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores the second
            signal.signal(number, signal.default_int_handler)


def main() -> None:
    open_streams()
    arguments = sys.argv[1:]
    is_stop = is_emergency_stop(arguments)
    for argument in arguments:
        if argument.encode(errors="ignore").decode() != argument:
            fail(f"manage.py: {argument!r} is not UTF-8, as every name here is.", 2, is_stop=is_stop)
    try:
        with environment(arguments):
            if MONITORING & set(arguments):
                watch_connections()
            execute_from_command_line(sys.argv)
            is_stop = False  # it has stopped, whatever goes wrong from here on
            sys.stdout.flush()
    except KeyboardInterrupt:
        if is_stop:
            fail("it was interrupted.", is_stop=True)
        sys.exit(130)
    except Exception as error:
        if isinstance(error, CommandError):  # under --traceback, where Python's own exit code would be 1
            traceback.print_exc()
            sys.exit(error.returncode)
        text = sentence(error)
        if text is None or "--traceback" in arguments:
            if not is_stop:
                raise
            traceback.print_exc()
        code = WRONG if wrong_setting(error) else 1
        fail(text or "the command itself is at fault, see above.", code, is_stop=is_stop)
    finally:
        discard_unwritable()


if __name__ == "__main__":
    if is_emergency_stop(sys.argv[1:]):
        interrupt_at_every_end()
    main()
