"""Vital signs of a web process: one that cannot work any more says so in the log and ends, and gets replaced.

Nothing is lost by that: what was not committed is rolled back, and clients repeat it with the same key.
"""

import errno
import faulthandler
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from fundapi import metrics
from fundapi.web.affinity import Affinity
from fundapi.web.answers import limit_reading_time

INTERVAL = 1.0  # s
DESCRIPTORS = Path("/dev/fd")
# s without a turn for this thread, as when a library never gives back the interpreter's lock
FROZEN = 30
EXHAUSTED_MAX = 3  # looks in a row that find no descriptor free
CROWDED = 0.9  # share of the connections, from which on the log says so

logger = structlog.get_logger(__name__)


class Vitals:
    """A look at this process each second.

    Args:
        held: returns for how many s all slots have been held by the same requests; 0 when one is free.
        hung: the limit of that.
        connections_max: how many connections the server accepts.
        affinity: what keeps the process on a core; None: the kernel chooses.
    """

    def __init__(
        self,
        held: Callable[[], float],
        *,
        hung: float,
        connections_max: int,
        affinity: Affinity | None,
    ) -> None:
        self._held, self._hung, self._limit = held, hung, connections_max
        self._affinity = affinity
        self._own = len(list(DESCRIPTORS.iterdir()))  # before the first connection
        self._exhausted = 0
        self._crowded = False
        self._reading_limited = False
        metrics.connections_max.set(connections_max)

    def start(self) -> None:
        threading.Thread(target=self._run, name="vitals", daemon=True).start()

    def _run(self) -> None:
        while True:
            # A thread of the C library prints every thread's traceback and ends the process, unless called off in time.
            faulthandler.dump_traceback_later(FROZEN, exit=True)
            try:
                self.look()
            except Exception:  # without the next look, the process would be ended for nothing
                logger.exception("vitals_failed")
            # Connections that come before the first success have no limit.
            time.sleep(INTERVAL if self._reading_limited else INTERVAL / 20)

    def look(self) -> None:
        """Set the metrics; end this process when it cannot work; let it move to a quieter core."""
        self._count_connections()
        if not (self._reading_limited or self._exhausted):
            self._reading_limited = limit_reading_time(DESCRIPTORS)
        if self._exhausted >= EXHAUSTED_MAX:
            end("descriptors_exhausted")
        if self._held() > self._hung:
            faulthandler.dump_traceback()
            end("slots_hung", seconds=self._hung)
        if self._affinity:
            self._affinity.look()

    def _count_connections(self) -> None:
        try:
            count = max(0, len(list(DESCRIPTORS.iterdir())) - self._own)
        except OSError as error:
            self._exhausted += error.errno == errno.EMFILE
            return
        self._exhausted = 0
        metrics.connections.set(count)
        crowded = count >= CROWDED * self._limit
        if crowded and not self._crowded:
            logger.warning("connections_exhausted", connections=count, limit=self._limit)
        self._crowded = crowded


def end(event: str, **details: float) -> None:
    """Log why, and end this process without waiting for anything."""
    logger.critical(event, **details)
    os._exit(1)
