"""Delete expired keys in small batches. Correctness does not depend on it: reads judge a key by the clock."""

import time
from collections.abc import Callable

from idempotency import metrics, store
from idempotency.conf import conf


def purge_expired(progress: Callable[[int], None] = lambda _deleted: None) -> int:
    """Delete all expired keys and return how many. Two at once share the work; run a killed one again.

    ``progress`` is called after each batch with the number of rows it deleted.
    """
    total, since = 0, store.BEGINNING
    with metrics.purge_duration.time(), metrics.purge_failures.count_exceptions():
        while True:
            began = time.perf_counter()
            deleted, since = store.purge_batch(conf.purge_batch_size, since=since)
            if not deleted:
                break
            took = time.perf_counter() - began
            total += deleted
            metrics.purged_keys.inc(deleted)
            progress(deleted)
            if deleted < conf.purge_batch_size:
                break
            time.sleep(took * (1 / conf.purge_share - 1))
        metrics.purge_succeeded.labels("idempotency_store").set(store.clock().timestamp())
    return total
