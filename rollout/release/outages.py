"""Outlive an outage of the database: ask again until it answers, and say so once."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from django.db import DatabaseError, InterfaceError, connection

from rollout.faults import first_line, sentence
from rollout.release.errors import Unavailable
from rollout.release.terminal import Terminal
from rollout.units import duration

T = TypeVar("T")

PAUSE = 1.0  # s between two attempts
LEAST = 30.0  # s; a restart of PostgreSQL takes less


def is_outage(error: Exception) -> bool:
    """Return whether the database is away, busy or read-only, as in a failover; a bug is no outage."""
    return sentence(error) is not None


def outlive(do: Callable[[], T], *, terminal: Terminal, seconds: float = 0) -> T:
    """Call ``do``, again and again while the database is away, and return its result.

    Args:
        do: safe to call twice; the first call may have ended anywhere.
        seconds: how long an outage may last; at least half a minute.

    Raises:
        Unavailable: the outage lasted longer.
    """
    most = max(seconds, LEAST)
    began: float | None = None
    while True:
        try:
            result = do()
        except (DatabaseError, InterfaceError) as error:
            if not is_outage(error):
                raise
            connection.close()  # the next attempt opens a new one
            now = time.monotonic()
            left = most - (now - (began or now))
            why = first_line(error)
            if left <= 0:
                away = duration(timedelta(seconds=most))
                raise Unavailable(f"The database has not answered for {away}: {why}.") from None
            if began is None:
                began = now
                terminal.warn(f"The database does not answer: {why}. Waiting until it does.")
            time.sleep(min(PAUSE, left))
        else:
            if began is not None:
                terminal.say("The database answers again.")
            return result
