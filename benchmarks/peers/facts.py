"""Facts about each contestant's answers, to be read beside its speed. Found by asking, not by reading."""

import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from benchmarks.load import Answer, Connection, ask, request

STORM = 8  # requests with one key, sent before the first is answered
STORMS = 10
ONE_ROW = "1 row"
SEES = "sees the first user's"
STILL = "still"
TIMEOUT = 15  # s for an answer; one contestant waits for as long by itself

Body = Callable[[str], bytes]  # of a fund with this name
Count = Callable[[str], int]  # rows with this name


@dataclass(frozen=True)
class Facts:
    """Answers of one contestant, in words; ``replay_status`` is the status that its measured replays must have."""

    replay_status: int | None
    replay: str
    other_body: str
    storm: str
    other_user: str
    no_token: str
    killed: str = ""  # found by benchmarks.killing

    @property
    def refuses_without_token(self) -> bool:
        """True if an unauthenticated request with a stored key gets 401 or 403."""
        return self.no_token in {"401", "403"}

    @property
    def safe(self) -> bool:
        """True if it replays, refuses another body, makes one row of a storm, and shows no user another's answer."""
        return (
            self.replay_status is not None
            and self.other_body in {"409", "422"}
            and self.storm.startswith(f"{ONE_ROW} ")
            and not self.other_user.endswith(SEES)
            and self.refuses_without_token
        )

    @property
    def safe_when_killed(self) -> bool:
        """True if it is safe, and each retry after a kill was answered in the end, with one row made."""
        return self.safe and self.killed.startswith(f"{ONE_ROW} ") and STILL not in self.killed


@dataclass(frozen=True)
class Probe:
    """The requests that find the facts about one running server."""

    port: int
    path: str
    tokens: tuple[str, str]
    body: Body
    count: Count

    def facts(self) -> Facts:
        """Return the facts. Raises OSError, and AssertionError when not even a plain creation works."""
        key, name = uuid.uuid4().hex, _name()
        first = self._post(key, name)
        assert first.status == 201, f"a new key is answered {first.status}"
        assert self.count(name) == 1, f"a new key makes {self.count(name)} rows"
        again = self._post(key, name)
        rows = self.count(name)
        replays = rows == 1 and again.status < 300 and again.body == first.body
        return Facts(
            replay_status=again.status if replays else None,
            replay=self._replay(first, again, rows),
            other_body=self._other_body(key),
            storm=self._storm(),
            other_user=self._other_user(key, name, first),
            no_token=self._no_token(key, name, first),
        )

    @staticmethod
    def _replay(first: Answer, again: Answer, rows: int) -> str:
        if rows > 1:
            return f"no: {again.status}, a second row"
        if again.status >= 300:
            return f"no: {again.status}"
        return f"{again.status}, {'same bytes' if again.body == first.body else 'other bytes'}"

    def _other_body(self, key: str) -> str:
        name = _name()
        answer = self._post(key, name)
        return f"{answer.status}, a second row" if self.count(name) else str(answer.status)

    def _storm(self) -> str:
        rows, statuses = [], Counter[str]()
        for _ in range(STORMS):
            key, name = uuid.uuid4().hex, _name()
            connections = [Connection(self.port, timeout=TIMEOUT) for _ in range(STORM)]
            for connection in connections:
                connection.socket.sendall(self._request(key, name))
            for connection in connections:
                with closing(connection):
                    statuses[_status(connection)] += 1
            rows.append(self.count(name))
        answers = ", ".join(f"{number} x {status}" for status, number in sorted(statuses.items()))
        return f"{counted(min(rows), max(rows))} ({answers})"

    def _other_user(self, key: str, name: str, first: Answer) -> str:
        before = self.count(name)
        answer = ask(self.port, self._request(key, name, token=self.tokens[1]), timeout=TIMEOUT)
        if answer.body == first.body:
            return f"{answer.status}, {SEES}"
        made = self.count(name) - before
        return f"{answer.status}, a row of their own" if made == 1 else str(answer.status)

    def _no_token(self, key: str, name: str, first: Answer) -> str:
        answer = ask(self.port, request("POST", self.path, body=self.body(name), key=key), timeout=TIMEOUT)
        return f"{answer.status}, the stored answer" if answer.body == first.body else str(answer.status)

    def _post(self, key: str, name: str) -> Answer:
        return ask(self.port, self._request(key, name), timeout=TIMEOUT)

    def _request(self, key: str, name: str, token: str | None = None) -> bytes:
        return request("POST", self.path, token=token or self.tokens[0], body=self.body(name), key=key)


def counted(lowest: int, highest: int) -> str:
    """Return a number of rows in words."""
    if lowest == highest:
        return ONE_ROW if lowest == 1 else f"{lowest} rows"
    return f"{lowest} to {highest} rows"


def _name() -> str:
    return f"Fund {uuid.uuid4().hex}"


def _status(connection: Connection) -> str:
    try:
        return str(connection.read().status)
    except OSError as error:
        return type(error).__name__
