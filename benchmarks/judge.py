"""The judge at a million events a day: the cost of a check, an intake and a purge for the database.

Fills a private PostgreSQL with a day of telemetry, then judges its latest hour minute by minute, and takes batches of
events with and without a purge beside them.
"""

import argparse
import os
import statistics
from collections.abc import Mapping

import django
from django.db import connection

from benchmarks import report
from benchmarks.bodies import EVENTS
from benchmarks.figures import quantile
from benchmarks.report import described, table
from benchmarks.rounds import Say
from benchmarks.stack import machine, stack


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=int, default=1_000_000, help="of a day (%(default)s)")
    parser.add_argument("--checks", type=int, default=60)


def run(options: argparse.Namespace, say: Say) -> None:
    """Measure, print, and write judge.md and judge.json."""
    settings = {"command": report.command(), **machine(), "events": options.events, "checks": options.checks}
    figures, plans = _measured(options, say)
    report.on_terminal(("figure", "value"), _rows(figures))
    report.write("judge", rendered(figures, plans, settings), {"settings": settings, "figures": figures})


def _measured(options: argparse.Namespace, say: Say) -> tuple[dict[str, float], dict[str, str]]:
    """Return the figures, and how PostgreSQL runs the two statements that touch telemetry."""
    with stack("fundapi.settings") as running:
        os.environ.update({**running.environ, "LOG_LEVEL": "ERROR"})
        django.setup()
        from benchmarks import telemetry  # noqa: PLC0415 - has models, which exist only after django.setup()

        say(f"filling the database with {options.events:,} events")
        rollout = telemetry.fill(options.events)
        say("judging")
        in_sql, in_all = telemetry.judge(rollout, options.events, options.checks)
        plans = telemetry.plans(rollout, options.events)
        say("taking events")
        telemetry.intake(20)  # warms up
        rate, alone = telemetry.intake(300)
        with telemetry.purging(0.5) as deleted:
            _, beside = telemetry.intake(300)
        connection.close()
    figures = {
        "check, ms in SQL, median": statistics.median(in_sql),
        "check, ms in SQL, p95": quantile(in_sql, 95),
        "check, ms in all, median": statistics.median(in_all),
        "intake, events per second of CPU (PostgreSQL and ours)": rate,
        f"intake of {EVENTS} events, ms, median": statistics.median(alone),
        f"intake of {EVENTS} events, ms, p99": quantile(alone, 99),
        "the same while half a day is purged, ms, median": statistics.median(beside),
        "the same while half a day is purged, ms, p99": quantile(beside, 99),
        "rows purged meanwhile": deleted[0],
    }
    return figures, plans


def _rows(figures: Mapping[str, float]) -> list[list[str]]:
    return [[name, f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"] for name, value in figures.items()]


def rendered(
    figures: Mapping[str, float], plans: Mapping[str, str], settings: Mapping[str, object]
) -> list[str]:
    """Return the lines of judge.md."""
    lines = ["# The judge at a million events a day", "", *described(settings)]
    lines += table(("figure", "value"), _rows(figures))
    for name, plan in plans.items():
        lines += [f"Plan of `{name}` in rollout/store.py:", "", "```", plan, "```", ""]
    return lines
