#!/usr/bin/env python3
"""Django's command line, with the embedded services where DATABASE_URL or REDIS_URL is unset.

A command uses the services of FUNDAPI_HOME when they run, and starts them for itself when they do not.
Messages of this file go to stderr: a command's stdout is its own.
"""

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management import execute_from_command_line

from fundapi.embedded import EmbeddedError, Home, alone, services
from fundapi.variables import exit_in_one_sentence, name_settings

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
    if not needs_services(arguments):
        for name, value in NOWHERE.items():
            os.environ[name] = os.environ.get(name) or value
        yield
        return
    home = Home.from_environment()
    with services(home) as joined:
        if joined.lock_fd is not None:
            os.environ.update(alone())
        if not os.environ.get("SECRET_KEY"):
            # Use the key of the home's server. Make one only for embedded services, never for a deployment's.
            key = home.secret("secret-key") if joined.lock_fd is not None else home.read("secret-key")
            os.environ.update({"SECRET_KEY": key} if key else {})
        yield


def main() -> None:
    for argument in sys.argv[1:]:
        if argument.encode(errors="ignore").decode() != argument:
            sys.stderr.write(f"manage.py: {argument!r} is not UTF-8, as every name here is.\n")
            sys.exit(2)
    try:
        with exit_in_one_sentence(), environment(sys.argv[1:]):
            execute_from_command_line(sys.argv)
    except EmbeddedError as error:
        sys.exit(f"manage.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
