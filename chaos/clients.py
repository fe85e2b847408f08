"""Clients on a bad connection: each sends a request under its key until the server answers 200 or 201.

This is a process of its own, `python -m chaos.clients`, which no storm kills. It creates funds until its stdin ends,
waits for an answer to every key, and writes the :class:`~chaos.verdict.Journal` to a file.
"""

import argparse
import json
import random
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from benchmarks.bodies import fund
from benchmarks.load import Answer, Connection, request
from chaos.verdict import Acknowledgement, Journal

TIMEOUT = 15.0  # s for one answer; longer than the server's own time-outs
LAST_TIMEOUT = 90.0  # s for a key's answer after the end of the storm
PAUSE = (0.02, 0.5)  # s between two tries, growing, with jitter
ABANDONED = 0.05  # share of requests whose connection is closed before the answer
TWICE = 0.05  # share that two tabs send at once
REPLAYED = 0.2  # share that are sent again after their answer
RETRIED = {409, 429, 502, 503, 504}  # 409 while the first is running; any other is unexpected
STRICT = {409}  # when nothing is broken
MOVES = 0.1  # share of requests before which a client connects anew, perhaps to another port


class Client:
    """A client that sends one request at a time."""

    def __init__(
        self, ports: list[int], token: str, run: str, seed: int, over: threading.Event, *, strict: bool
    ) -> None:
        self.ports, self.token, self.over = ports, token, over
        self.retried = STRICT if strict else RETRIED
        self.run, self.random = f"{run}-{seed}", random.Random(seed)
        self.journal = Journal()
        self.connection: Connection | None = None

    def work(self) -> None:
        while not self.over.is_set():
            self._create()
        self._hang_up()

    def _create(self) -> None:
        key = f"{self.run}-{len(self.journal.keys)}"
        self.journal.keys.append(key)
        sent = request("POST", "/api/funds", token=self.token, body=fund(name=key), key=key)
        if self.random.random() < ABANDONED:
            self._send_and_leave(sent)
        if self.random.random() < TWICE:
            self._send_and_leave(sent, wait=0.05)
        answer = self._insist(sent)
        if answer is None:
            self.journal.pending += 1
            return
        self.journal.acknowledgements.append(Acknowledgement(key, answer.body.decode(), time.monotonic()))
        if self.random.random() < REPLAYED:
            again = self._insist(sent)
            if again is not None and again.body != answer.body:
                self.journal.differing.append(key)

    def _insist(self, sent: bytes) -> Answer | None:
        """Send until the answer is 200 or 201; return None when ``LAST_TIMEOUT`` is over."""
        tries, deadline = 0, None
        while True:
            answer = self._try(sent)
            if answer is not None and answer.status in {200, 201}:
                return answer
            if answer is not None and self._may_be_retried(answer):
                self.journal.turned_away += 1
            elif answer is not None:
                self._note(answer)
            if self.over.is_set():
                deadline = deadline or time.monotonic() + LAST_TIMEOUT
                if time.monotonic() > deadline:
                    return None
            tries += 1
            low, high = PAUSE
            time.sleep(self.random.uniform(low, min(high, low * 2**tries)))

    def _try(self, sent: bytes) -> Answer | None:
        self.journal.requests += 1
        if len(self.ports) > 1 and self.random.random() < MOVES:
            self._hang_up()
        try:
            self.connection = self.connection or self._connect()
            answer = self.connection.send(sent)
        except (OSError, ValueError):  # ValueError: an answer that ends within its head
            self._hang_up()
            return None
        if b"connection: close" in answer.head.lower():
            self._hang_up()
        return answer

    def _send_and_leave(self, sent: bytes, wait: float = 0.0) -> None:
        """Send, and close the connection before the answer."""
        self.journal.requests += 1
        with suppress(OSError):
            connection = self._connect()
            connection.socket.sendall(sent)
            time.sleep(self.random.uniform(0, wait))
            connection.close()

    def _connect(self) -> Connection:
        return Connection(self.random.choice(self.ports), timeout=TIMEOUT)

    def _hang_up(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _may_be_retried(self, answer: Answer) -> bool:
        return answer.status in self.retried and b"idempotency_key_reused" not in answer.body

    def _note(self, answer: Answer) -> None:
        code = ""
        with suppress(ValueError, AttributeError):
            code = json.loads(answer.body).get("code", "")
        what = f"{answer.status} {code}".strip()
        self.journal.unexpected[what] = self.journal.unexpected.get(what, 0) + 1


def together(journals: list[Journal]) -> Journal:
    """Return the sum of all journals."""
    whole = Journal()
    for each in journals:
        whole.requests += each.requests
        whole.turned_away += each.turned_away
        whole.keys += each.keys
        whole.acknowledgements += each.acknowledgements
        whole.differing += each.differing
        whole.pending += each.pending
        for what, count in each.unexpected.items():
            whole.unexpected[what] = whole.unexpected.get(what, 0) + count
    return whole


def read(path: Path) -> Journal:
    """Return the journal that the process wrote."""
    plain = json.loads(path.read_text())
    acknowledgements = [Acknowledgement(**each) for each in plain.pop("acknowledgements")]
    return Journal(**plain, acknowledgements=acknowledgements)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True, nargs="+", help="of the server, or of several")
    parser.add_argument("--strict", action="store_true", help="count 429, 502, 503 and 504 as unexpected")
    parser.add_argument("--token", required=True)
    parser.add_argument("--run", required=True, help="beginning of every key and of every fund's name")
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    options = parser.parse_args()
    over = threading.Event()
    clients = [
        Client(
            options.port,
            options.token,
            options.run,
            options.seed * 1000 + number,
            over,
            strict=options.strict,
        )
        for number in range(options.clients)
    ]
    threads = [threading.Thread(target=client.work) for client in clients]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()
    options.journal.write_text(json.dumps(asdict(together([client.journal for client in clients]))))


if __name__ == "__main__":
    main()
