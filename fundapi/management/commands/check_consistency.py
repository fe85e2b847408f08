import sys
from typing import Any

from django.core.management.base import BaseCommand
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from fundapi.maintenance.consistency import KINDS, Report, check
from rollout import faults


class Command(BaseCommand):
    help = (
        "Compare every stored answer with its fund, and young funds with their answers, in one snapshot. "
        "Exits with 1 when anything is inconsistent, with 2 when the comparison failed. Only reads; safe at any time."
    )

    def handle(self, *_args: Any, **_options: Any) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.completed:,} answers compared"), TimeElapsedColumn())
        console = Console(stderr=True)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("check", total=None)
            with faults.in_words(2):
                report = check(lambda answers: bar.advance(task, answers))
        self.stdout.write(as_text(report))
        if not report:
            sys.exit(1)


def as_text(report: Report) -> str:
    """Return the report as text: a line for each kind of problem, with the first few examples."""
    lines = [f"{report.answers:>9,} stored answers"]
    for kind, meaning in KINDS.items():
        lines.append(f"{report.problems[kind]:>9,} {meaning}")
        if examples := report.examples[kind]:
            lines.append(f"{'':>9} such as {', '.join(examples)}")
    lines.append("Consistent." if report else "NOT consistent.")
    return "\n".join(lines)
