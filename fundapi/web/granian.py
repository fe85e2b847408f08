"""Granian, with a watch over its workers: ``python -m fundapi.web.granian`` takes Granian's own arguments.

A worker that is stopped (SIGSTOP, a debugger that went away) keeps its socket: the kernel goes on giving it its share
of the connections, and nobody answers those. So it is killed after a while, and Granian starts another. A worker that
is not stopped, and cannot work, ends by itself (``fundapi.web.vitals``).
"""

import multiprocessing
import threading
import time
from collections import Counter

from granian.cli import entrypoint
from granian.log import logger

from fundapi.watchdog import is_stopped

INTERVAL = 1.0  # s
# Looks that find a worker stopped before it is killed. Not seconds: a container that is paused pauses this, too.
STOPPED_MAX = 10


def watch() -> None:
    """Kill each worker that has been stopped for a while; for ever."""
    stopped = Counter[int]()
    while True:
        time.sleep(INTERVAL)
        workers = {worker.pid: worker for worker in multiprocessing.active_children() if worker.pid}
        stopped = Counter({pid: stopped[pid] + 1 for pid in workers if is_stopped(pid)})
        for pid, looks in stopped.items():
            if looks >= STOPPED_MAX:
                logger.error(
                    f"Killing the worker with PID {pid}: it was stopped for {looks} s and answered nobody"
                )
                workers[pid].kill()


def main() -> None:
    threading.Thread(target=watch, daemon=True).start()
    entrypoint()  # type: ignore[no-untyped-call]  # has no types


if __name__ == "__main__":
    main()
