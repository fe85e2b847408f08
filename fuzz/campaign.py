"""A campaign against one server: case after case, good requests in between, and a count of funds at the end."""

import random
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from fuzz.cases import Case, Maker, Screen, case
from fuzz.reading import read
from fuzz.verdict import Acknowledged, Effect, account, acknowledged_by, faults, is_excused, unwanted
from fuzz.wire import Exchange, NotHTTP, exchange

EVERY = 25  # cases between two good requests
TRIES, TRYING = 300, 60  # of a smaller reproducer, and s for them
BEGINNING = re.compile(rb"(?=(?:GET|POST) /)")  # of a request, where several are on one connection
FINDINGS_MAX = 20  # of a run; more say nothing new


@dataclass(frozen=True, slots=True)
class Target:
    """A server on 127.0.0.1, with its funds and processes.

    ``funds`` returns the id and the name of every fund of the token's user, who has no others; ``workers`` the ids of
    the processes that serve. ``screen`` returns an operator's form as it is now, and ``effects`` what forms have done:
    moves of that rollout, and failed sign-ins.
    """

    port: int
    token: str
    funds: Callable[[], list[tuple[int, str]]]
    workers: Callable[[], set[int]]
    screen: Callable[[], Screen] = Screen
    effects: Callable[[], list[Effect]] = list


@dataclass(frozen=True, slots=True)
class Finding:
    """A wrong answer: the number of its case, and the smallest bytes found that cause it."""

    number: int
    trick: str
    what: str
    sent: bytes = b""


@dataclass(slots=True)
class Tally:
    """Tries of one trick, and the number of answers of each class; ``silent`` counts the tries without one."""

    tried: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    silent: int = 0
    findings: int = 0


class Campaign:
    """The cases of a seed, tried on a target, with their findings."""

    def __init__(self, target: Target, seed: int) -> None:
        self.target, self.seed = target, seed
        self.tallies: dict[str, Tally] = {}
        self.findings: list[Finding] = []
        self.acknowledged: list[Acknowledged] = []
        self.once: list[str] = []
        self.never: list[str] = []
        self.effects: list[Effect] = []  # of forms
        self.served = 0  # good requests in between
        self.workers = target.workers()

    def run(self, *, seconds: float = float("inf"), cases: int | None = None, first: int = 0) -> None:
        """Try the cases ``first``, ``first + 1``, … for ``seconds``, or as many as ``cases``."""
        end, number = time.monotonic() + seconds, first
        while time.monotonic() < end and number - first != cases and len(self.findings) < FINDINGS_MAX:
            self._try(number)
            number += 1
            if number % EVERY == 0:
                self._look(number)
        self._look(number)
        funds, self.effects = self.target.funds(), self.target.effects()
        effects = [*self.effects, *(Effect(name) for _, name in funds)]
        for what in (
            *account(self.acknowledged, self.once, funds),
            *unwanted(self.once, self.never, effects),
        ):
            self._note(number, "database", what)

    def _try(self, number: int) -> None:
        tried = case(self.seed, number, self.target.token, self.target.screen())
        tally = self.tallies.setdefault(tried.trick, Tally())
        tally.tried += 1
        seen, wrong = self._ask(tried)
        tally.silent += not seen.answers
        tally.answers.update(f"{answer.status // 100}xx" for answer in seen.answers if answer.status >= 200)
        self.once += tried.once
        self.never += tried.never
        if wrong:
            self._note(number, tried.trick, wrong[0], self._smallest(tried, wrong[0]))

    def _ask(self, tried: Case) -> tuple[Exchange, list[str]]:
        """Send a case, and return its faults; a 503 is one only if the same bytes get it again."""
        reading = read(tried.sent)
        try:
            seen = exchange(self.target.port, tried.parts, promised=reading.complete, pause=tried.pause)
        except (OSError, NotHTTP) as error:
            return Exchange(), [f"{type(error).__name__}: {error}"]
        self.acknowledged += acknowledged_by(seen)
        wrong = list(faults(tried.sent, reading, seen))
        if not wrong and any(map(is_excused, seen.answers)):
            seen = exchange(self.target.port, tried.parts, promised=reading.complete)
            self.acknowledged += acknowledged_by(seen)
            wrong = ["status 503, again and again"] if any(map(is_excused, seen.answers)) else []
        return seen, wrong

    def _smallest(self, found: Case, what: str) -> bytes:
        """Reduce a case to the bytes that the finding needs: whole requests first, then bytes (Zeller's ddmin)."""

        end = time.monotonic() + TRYING

        def shows(sent: bytes) -> bool:
            return time.monotonic() < end and what in self._ask(Case(found.trick, (sent,)))[1]

        sent, tries = next(filter(shows, BEGINNING.split(found.sent)), found.sent), 0
        size = len(sent) // 2
        while size and tries < TRIES:
            start = 0
            while start < len(sent) and tries < TRIES:
                shorter, tries = sent[:start] + sent[start + size :], tries + 1
                if shows(shorter):
                    sent = shorter
                else:
                    start += size
            size //= 2
        return sent

    def _look(self, number: int) -> None:
        """Send a good request twice: it must create and then replay, and the server's processes must be the same."""
        maker = Maker(random.Random(number), self.target.token, f"good-{self.seed}-{number}-{self.served}")
        sent = maker.create()
        self.once += maker.once
        self.served += 1
        try:
            answers = [
                answer for _ in range(2) for answer in exchange(self.target.port, (sent,), promised=1).answers
            ]
        except (OSError, NotHTTP) as error:
            self._note(number, "good request", f"{type(error).__name__}: {error}")
            return
        self.acknowledged += acknowledged_by(Exchange(answers))
        statuses = [answer.status for answer in answers]
        if statuses != [201, 200] or answers[0].body != answers[1].body:
            self._note(number, "good request", f"answered with {statuses} instead of 201 and 200", sent)
        if (there := self.target.workers()) != self.workers:
            self._note(number, "good request", f"the processes were {self.workers}, and are {there}")
            self.workers = there

    def _note(self, number: int, trick: str, what: str, sent: bytes = b"") -> None:
        self.findings.append(
            Finding(number, trick, what, sent.replace(self.target.token.encode(), b"<token>"))
        )
        self.tallies.setdefault(trick, Tally()).findings += 1
