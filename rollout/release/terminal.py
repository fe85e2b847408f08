"""The output of the release commands, for people and for scripts, and their outside effects."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TextIO, TypeVar, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from rollout.release.decisions import Outcome

T = TypeVar("T")

COLOURS = {Outcome.HEALTHY: "green", Outcome.UNHEALTHY: "red", Outcome.UNKNOWN: "yellow"}
MARKS = {Outcome.HEALTHY: "✓", Outcome.UNHEALTHY: "✗", Outcome.UNKNOWN: "?"}


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a command, its reason, and details for scripts."""

    outcome: Outcome
    says: str
    details: dict[str, Any] = field(default_factory=dict)


class Lasting:
    """A stream whose failures are no errors: a closed pipe or a full disk must not end what watches a deployment."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Terminal:
    """Progress for people on ``stream``. Every outside effect goes through :meth:`outside`.

    Args:
        stream: stdout, or stderr when stdout is for JSON.
        dry_run: print the outside effects, and make none.
    """

    def __init__(self, stream: TextIO, *, dry_run: bool = False) -> None:
        self.dry_run = dry_run
        self.effects: list[str] = []
        self.warnings: list[str] = []
        self._console = Console(file=cast("TextIO", Lasting(stream)), highlight=False, soft_wrap=True)

    def say(self, text: str, style: str = "") -> None:
        self._console.print(text, style=style, markup=False)

    def warn(self, text: str) -> None:
        self.warnings.append(text)
        self.say(f"! {text}", "yellow")

    def warn_once(self, text: str) -> None:
        """Warn, unless this has been said already."""
        if text not in self.warnings:
            self.warn(text)

    def outside(self, what: str, do: Callable[[], T]) -> T | None:
        """Make an outside effect and print it; in a dry run only print it, and return ``None``.

        Args:
            what: in the imperative, such as ``merge #48``.
        """
        self.effects.append(what)
        if self.dry_run:
            self.say(f"would {what}", "cyan")
            return None
        self.say(f"→ {what}", "cyan")
        return do()

    @contextmanager
    def step(self, what: str) -> Iterator[Callable[[Outcome], None]]:
        """Show that a step is under way. The yielded function takes its outcome, and prints it with the time taken."""
        began = time.monotonic()
        with self._console.status(what):

            def ended(outcome: Outcome) -> None:
                took = f"{what} ({time.monotonic() - began:.1f} s)"
                self.say(f"{MARKS[outcome]} {took}", COLOURS[outcome])

            yield ended

    @contextmanager
    def progress(self, what: str, total: float) -> Iterator[Callable[[float, str], None]]:
        """Show a bar of ``total`` seconds. The yielded function takes the seconds passed, and the latest news.

        Without a terminal (in a log), each piece of news is a line.
        """
        columns = (
            TextColumn(what),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[news]}", markup=False),
        )
        with Progress(*columns, console=self._console, disable=not self._console.is_terminal) as bar:
            task = bar.add_task("", total=total, news="")
            latest = ""

            def show(passed: float, news: str) -> None:
                nonlocal latest
                bar.update(task, completed=passed, news=news)
                if news != latest and not self._console.is_terminal:
                    self.say(news)
                latest = news

            yield show

    def result(self, result: Result) -> None:
        self.say(result.says, COLOURS[result.outcome])

    def as_json(self, result: Result) -> str:
        """Return the result, the effects and the warnings as JSON."""
        document = {
            "outcome": result.outcome.name.lower(),
            "exit_code": int(result.outcome),
            "says": result.says,
            "dry_run": self.dry_run,
            "effects": self.effects,
            "warnings": self.warnings,
            **result.details,
        }
        return json.dumps(document, indent=2, default=str)
