#!/usr/bin/env python3
"""Django's command line, on the embedded services where DATABASE_URL or REDIS_URL is unset.

A command finds the services of FUNDAPI_HOME when they run, and runs them for itself when they do not.
Everything said here goes to stderr: a command's stdout is its own.
"""

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management import execute_from_command_line

from fundapi.embedded import EmbeddedError, Home, services

# They use neither database nor broker, so the settings get names of services that nobody answers.
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
    "validate_local",  # its steps find theirs
}
NOWHERE = {
    "DATABASE_URL": "postgres://nobody@/nothing?host=/nonexistent",
    "REDIS_URL": "redis://127.0.0.1:9/0",
    "SECRET_KEY": secrets.token_urlsafe(48),
}


def needs_services(arguments: list[str]) -> bool:
    """Whether a command line needs a database or a broker."""
    command = next((argument for argument in arguments if not argument.startswith("-")), "")
    if {"-h", "--help", "--version"} & set(arguments):
        return False
    return command not in NEED_NO_SERVICES or "--database" in arguments


@contextmanager
def environment(arguments: list[str]) -> Iterator[None]:
    """Complete the environment that the settings read."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fundapi.settings")
    if not needs_services(arguments):
        for name, value in NOWHERE.items():
            os.environ[name] = os.environ.get(name) or value
        yield
        return
    home = Home.from_environment()
    with services(home) as found:
        if not os.environ.get("SECRET_KEY"):
            # The key of the home's own server; one is made only for a home in use, never beside a
            # deployment's.
            key = home.secret("secret-key") if found.lock_fd is not None else home.read("secret-key")
            os.environ.update({"SECRET_KEY": key} if key else {})
        yield


def main() -> None:
    try:
        with environment(sys.argv[1:]):
            execute_from_command_line(sys.argv)
    except EmbeddedError as error:
        sys.exit(f"manage.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
