"""Count replays in the process and write the counts in batches: a replay itself stays one read.

A killed process loses the counts of its last seconds. With a table in each tenant's schema nothing is counted, because
the thread that writes has no tenant.
"""

import logging
import threading
from collections import Counter
from contextlib import suppress
from uuid import UUID

from django.db import connections

from idempotency import store
from idempotency.conf import conf

logger = logging.getLogger(__name__)

# s between two writes of a process: a statement every five seconds costs nothing, and nobody watches a key closer.
INTERVAL = 5.0
# Keys between two writes, some 3 MB; further ones are not counted.
KEYS_MAX = 20_000


class Replays:
    """The replays of this process that are not written yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = Counter[UUID]()
        self._writer: threading.Timer | None = None

    def count(self, digest: UUID) -> None:
        """Count a replay of a key; the first one begins the next batch.

        Not inside a transaction of somebody else: a ``TestCase`` shows its rows to no other connection.
        """
        if connections[conf.database].in_atomic_block:
            return
        with self._lock:
            if len(self._counts) < KEYS_MAX or digest in self._counts:
                self._counts[digest] += 1
            # A fork takes the object along, and not its thread.
            if self._writer is None or not self._writer.is_alive():
                self._writer = threading.Timer(INTERVAL, self.write)
                self._writer.daemon = True
                # A process that is ending starts no thread any more.
                with suppress(RuntimeError):
                    self._writer.start()

    def write(self) -> None:
        """Add what is counted to the rows of the keys; a failure loses it."""
        with self._lock:
            counts, self._counts, self._writer = self._counts, Counter(), None
        if not counts:
            return
        try:
            store.record_replays(counts)
        except Exception as error:  # noqa: BLE001 - in a thread nobody waits for; a count is worth no traceback
            logger.info("Replays of %s keys were not counted: %s", len(counts), type(error).__name__)
        finally:
            # Of this thread, whatever the settings name by now.
            connections.close_all()


replays = Replays()
