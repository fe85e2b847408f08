"""Write the result of a measurement: Markdown for people, JSON for programs, a table for the terminal."""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Sample, Summary, summary
from benchmarks.stack import RESULTS


def command() -> str:
    """Return the command line of this run."""
    return " ".join(["python -m benchmarks", *sys.argv[1:]])


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table, with an empty line after it."""
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    escaped = ([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)
    return [*lines, *(f"| {' | '.join(row)} |" for row in escaped), ""]


def described(settings: Mapping[str, object]) -> list[str]:
    return [*(f"- {name}: {value}" for name, value in settings.items()), ""]


def spread(found: Summary, digits: int = 0) -> str:
    return f"{found.lowest:.{digits}f}-{found.highest:.{digits}f}"


def speed_row(name: str, what: str, samples: Sequence[Sample]) -> list[str]:
    cpu = summary([sample.cpu for sample in samples])
    rate = summary([sample.rate for sample in samples])
    p50 = summary([sample.p50 for sample in samples]).median
    p99 = summary([sample.p99 for sample in samples]).median
    measured = ["-", "-"] if math.isnan(cpu.median) else [f"{cpu.median:.2f}", spread(cpu, 2)]
    return [name, what, *measured, f"{rate.median:.0f}", spread(rate), f"{p50:.2f}", f"{p99:.2f}"]


SPEED_COLUMNS = ("variant", "what", "CPU ms", "spread", "requests/s", "spread", "p50 ms", "p99 ms")


def write(name: str, lines: Sequence[str], document: Mapping[str, Any]) -> None:
    """Write ``benchmarks/<name>.md`` and ``.json``."""
    RESULTS.joinpath(f"{name}.md").write_text("\n".join(lines).rstrip() + "\n")
    text = json.dumps(_without_nan(document), indent=1, allow_nan=False)
    RESULTS.joinpath(f"{name}.json").write_text(text + "\n")


def _without_nan(value: Any) -> Any:
    """Return null for a figure that was not measured: JSON knows no NaN."""
    if isinstance(value, Mapping):
        return {name: _without_nan(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def on_terminal(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    shown = Table(*columns)
    for row in rows:
        shown.add_row(*row)
    Console().print(shown)
