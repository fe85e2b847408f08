"""Creates at a fixed rate, whether or not the server keeps up: a process of its own, `python -m chaos.load`."""

import argparse
import json
import math
import threading
import time
import uuid
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

from benchmarks.bodies import fund
from benchmarks.load import Connection, request

TIMEOUT = 20.0  # s for one answer; longer than any of the server's own
NO_ANSWER = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """One request."""

    at: float  # s after the begin, when it was sent
    status: int  # of its answer, or NO_ANSWER
    seconds: float  # that its answer took
    retry_after: bool  # the answer has Retry-After


class Load:
    """``rate`` creates a second by ``clients`` in turn; without ``rate``, each as fast as it is answered."""

    def __init__(self, port: int, token: str, *, rate: float, clients: int, seconds: float) -> None:
        self.port, self.token, self.rate, self.clients, self.seconds = port, token, rate, clients, seconds
        self.samples: list[Sample] = []
        self.turns = count()  # next() is atomic

    def run(self) -> list[Sample]:
        self.began = time.monotonic()
        threads = [threading.Thread(target=self._client) for _ in range(self.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self.samples

    def _client(self) -> None:
        connection: Connection | None = None
        while self._wait():
            sent = time.monotonic()
            key = uuid.uuid4().hex
            status, retry_after = NO_ANSWER, False
            try:
                connection = connection or Connection(self.port, timeout=TIMEOUT)
                answer = connection.send(
                    request("POST", "/api/funds", token=self.token, body=fund(name=key), key=key)
                )
                status, retry_after = answer.status, bool(answer.header("Retry-After"))
            except (OSError, ValueError):
                connection = None
            self.samples.append(Sample(sent - self.began, status, time.monotonic() - sent, retry_after))

    def _wait(self) -> bool:
        """Wait until the next request is due; return False when the load is over."""
        due = next(self.turns) / self.rate if self.rate else 0.0
        left = self.began + due - time.monotonic()
        if due >= self.seconds or (not self.rate and -left >= self.seconds):
            return False
        time.sleep(max(0.0, left))
        return True


def quantile(samples: list[Sample], share: float) -> float:
    """Return the seconds that ``share`` of the samples do not exceed; NaN without samples."""
    times = sorted(sample.seconds for sample in samples)
    return times[min(len(times) - 1, int(len(times) * share))] if times else math.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument(
        "--rate", type=float, required=True, help="requests/s; 0: as fast as they are answered"
    )
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--samples", type=Path, required=True, help="the file to write the samples to")
    options = vars(parser.parse_args())
    path = options.pop("samples")
    path.write_text(json.dumps([asdict(sample) for sample in Load(**options).run()]))


if __name__ == "__main__":
    main()
