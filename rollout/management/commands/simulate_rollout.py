import json as jsonlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from rollout.extras import imported

with imported("judge"):
    from rollout import faults
    from rollout.conf import conf
    from rollout.judge.decision import AlertKind
    from rollout.judge.scoring import Signal
    from rollout.judge.state import Action
    from rollout.options import ID_MAX, WIDTH, number, whole
    from rollout.presentation.charts import chart_svg
    from rollout.rehearsal import scenario as scenarios
    from rollout.rehearsal.scenario import Expected, Outcome, Scenario, ScenarioError
    from rollout.rehearsal.simulation import RehearsedCheck, Run, notable, points, rehearse, unmet
    from rollout.units import brief_ratio, percent

Rehearsal = tuple[str, Scenario, Run]  # with its name

HEALTHY, UNHEALTHY, UNKNOWN = 0, 1, 2  # exit codes, like those of the release commands
LINES = 40  # of a table; --json has every check
STYLES = {
    Signal.GREEN: "green",
    Signal.YELLOW: "yellow",
    Signal.NO_DATA: "bright_black",
    Signal.RED: "bold red",
}
WORDS = {
    Outcome.COMPLETED: "complete",
    Outcome.ROLLED_BACK: "rolled back",
    Outcome.TRIPPED: "breaker tripped, auto-rollback is off",
    Outcome.HELD: "no data",
    Outcome.UNDER_WAY: "under way",
}


class Command(BaseCommand):
    help = (
        "Rehearse a rollout on generated traffic, with the real judge: hours in seconds. It leaves no data and sends "
        "no alerts. Exit codes: 0 as the scenario expects, or healthy without expectations; 1 not as expected, or "
        "rolled back; 2 no data, or the scenario cannot be used."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group()
        which.add_argument(
            "--scenario",
            metavar="NAME|FILE",
            default="healthy",
            help="a name of --list, or a .toml file; healthy by default",
        )
        which.add_argument(
            "--all",
            action="store_true",
            help="run every scenario of --list, and compare with its expectations",
        )
        which.add_argument("--list", action="store_true", help="list the scenarios")
        parser.add_argument(
            "--seed", type=whole(0, ID_MAX), help="the same scenario with other random clients"
        )
        parser.add_argument("--json", action="store_true", help="print JSON, with every check")
        parser.add_argument(
            "--plot", metavar="FILE.svg", type=Path, help="write a chart of the checks over time"
        )
        over = parser.add_argument_group(
            "override the scenario",
            "These hold from end to end, over all segments. Expectations are then ignored.",
        )
        over.add_argument("--timeline", choices=["accelerated", "conservative", "manual"])
        over.add_argument("--percentage", type=number(0.01, 100), help="to begin with")
        over.add_argument(
            "--hours", type=number(1 / 60, scenarios.HOURS_MAX), help="of the rehearsal, at most"
        )
        over.add_argument(
            "--sessions-per-minute", type=number(0, scenarios.PER_MINUTE_MAX), help="new sessions"
        )
        share = number(0, 1)
        over.add_argument("--error-rate", type=share, help="0-1, of the sessions with the feature")
        over.add_argument("--migration-failure-rate", type=share, help="0-1, of the clients that migrate")
        over.add_argument("--kill-switch-rate", type=share, help="0-1, of the sessions with the feature")
        over.add_argument("--control-error-rate", type=share, help="0-1, of the sessions without the feature")
        over.add_argument(
            "--control-kill-switch-rate", type=share, help="0-1, of the sessions without the feature"
        )

    @faults.in_words(UNKNOWN)
    def handle(self, *_args: Any, **options: Any) -> None:
        if options["list"]:
            self.stdout.write(as_list(json=options["json"]))
            return
        runs = list(rehearsals(options))
        if plot := options["plot"]:
            draw(plot, runs[0][0], runs[0][2])
        if options["json"]:
            documents = [as_dict(*each) for each in runs]
            self.stdout.write(jsonlib.dumps(documents if options["all"] else documents[0], indent=2))
        else:
            self.stdout.write(as_overview(runs) if options["all"] else as_report(*runs[0]))
        if code := max(exit_code(scenario, run) for _, scenario, run in runs):
            sys.exit(code)


def rehearsals(options: dict[str, Any]) -> Iterator[Rehearsal]:
    """Run the scenarios of the options."""
    overrides = {name: value for name in scenarios.OVERRIDES if (value := options[name]) is not None}
    if options["all"] and (overrides or options["plot"]):
        raise CommandError(
            "--all runs the scenarios as they are: leave out --plot and the overrides.", returncode=UNKNOWN
        )
    for name in scenarios.names() if options["all"] else [options["scenario"]]:
        try:
            scenario = scenarios.override(scenarios.load(name), **overrides)
        except ScenarioError as error:
            raise CommandError(str(error), returncode=UNKNOWN) from None
        with Console(stderr=True).status(f"Rehearsing {name} ..."):
            yield name, scenario, rehearse(scenario, seed=options["seed"])


def exit_code(scenario: Scenario, run: Run) -> int:
    if scenario.expected:
        return UNHEALTHY if unmet(run, scenario.expected) else HEALTHY
    if run.outcome in {Outcome.ROLLED_BACK, Outcome.TRIPPED}:
        return UNHEALTHY
    return UNKNOWN if run.outcome is Outcome.HELD else HEALTHY


def draw(path: Path, name: str, run: Run) -> None:
    """Write the chart of a rehearsal."""
    title = f"{Path(name).stem}: {WORDS[run.outcome]}, {clock(run.ended)}"
    try:
        path.write_text(chart_svg(points(run), threshold=conf.policy.error_threshold, title=title))
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}.", returncode=UNKNOWN) from None


# --- In words -----------------------------------------------------------------------------------------------------


def as_list(*, json: bool) -> str:
    descriptions = {name: scenarios.load(name).description for name in scenarios.names()}
    if json:
        return jsonlib.dumps(descriptions, indent=2)
    table = Table("scenario", "description", box=None)
    for name, description in descriptions.items():
        table.add_row(name, description)
    return printed(table)


def as_report(name: str, scenario: Scenario, run: Run) -> str:
    """Return the report of a rehearsal: the notable checks, the result and the expectations."""
    return "\n".join(
        [
            f"{name}: {scenario.description}",
            f"{scenario.timeline}, from {percent(scenario.percentage)}, seed {run.seed}",
            printed(as_table(run)),
            *summary(run),
            *expectation(scenario.expected, run),
        ]
    )


def as_table(run: Run) -> Table:
    table = Table("time", Column("percentage", justify="right"), "signal", Column("score", justify="right"))
    table.add_column("migrations")
    table.add_column("action and reason", ratio=1)
    shown = notable(run.looks)
    gap = len(shown) - LINES
    for index, made in enumerate(shown):
        if gap > 0 and LINES // 2 <= index < LINES // 2 + gap:
            if index == LINES // 2:
                table.add_row("…", "", "", "", "", f"{gap} more changes; --json has all")
            continue
        table.add_row(
            *(clock(made.minute), percent(made.percentage), Text(made.signal.label, STYLES[made.signal])),
            *(str(made.score), migrations(made), action_and_reason(made)),
        )
    return table


def action_and_reason(made: RehearsedCheck) -> Text:
    """Return the action and the reason of a check."""
    done = {
        Action.PROMOTE: f"Promoted to {percent(made.target)}: " if made.target is not None else "",
        Action.ROLL_BACK: "Rolled back: ",
        Action.COMPLETE: "Completed: ",
        Action.NONE: "",
    }[made.action]
    if made.advice is not made.action:
        done = f"Advised to {made.advice.replace('_', ' ')}: "
    return Text.assemble((done, "bold"), made.reason.removeprefix(f"{made.signal.label}: "))


def migrations(made: RehearsedCheck) -> str:
    success, policy = made.migration_success, conf.policy
    if success is None:
        return ""
    limits = [policy.migration_success_green, policy.migration_success_red]
    return f"{brief_ratio(success, limits)} of {made.succeeded + made.failed}"


def summary(run: Run) -> Iterator[str]:
    yield f"{clock(run.ended)}: {WORDS[run.outcome]}, at {percent(run.percentage)}."
    if run.full_at is not None:
        yield f"100 % at {clock(run.full_at)}."
    if run.broke is not None:
        took = "" if run.rolled_back_after is None else f"; rolled back {run.rolled_back_after} min later"
        yield f"Fault at {clock(run.broke)}{took}. Clients with the feature meanwhile: {run.exposed:,}."
    for trip in run.trips:
        yield f"Incident from {clock(trip.began)} to {clock(trip.tripped)}."
    if run.messages:
        yield f"Alerts (not sent): {run.messages}."
    yield (
        f"{run.events:,} events, {run.failures:,} of them failures, in {run.sessions:,} sessions of {run.clients:,} "
        f"clients; {len(run.looks):,} checks in {run.took:.1f} s."
    )


def expectation(expected: Expected | None, run: Run) -> Iterator[str]:
    if expected is None:
        return
    wrong = unmet(run, expected)
    yield f"Not as expected: {'; '.join(wrong)}." if wrong else "As expected."


def as_overview(runs: list[Rehearsal]) -> str:
    table = Table(
        "scenario", "outcome", "after", Column("highest", justify="right"), "signal", "alerts", "expected"
    )
    for name, scenario, run in runs:
        wrong = unmet(run, scenario.expected) if scenario.expected else []
        verdict = Text("; ".join(wrong), "bold red") if wrong else Text("yes", "green")
        signal = run.looks[-1].signal if run.looks else Signal.NO_DATA
        alerts = dict.fromkeys(alert for made in run.looks for alert in made.alerts)
        table.add_row(
            *(name, WORDS[run.outcome], clock(run.ended), percent(run.highest)),
            *(Text(signal.label, STYLES[signal]), ", ".join(map(alert_word, alerts)), verdict),
        )
    checks, took = sum(len(run.looks) for *_, run in runs), sum(run.took for *_, run in runs)
    return f"{printed(table)}\n{len(runs)} scenarios, {checks:,} checks in {took:.0f} s."


def alert_word(alert: str) -> str:
    """Return the kind of an alert as people read it: ``no data`` is stored as ``hold``."""
    return Signal.NO_DATA.label if alert == AlertKind.NO_DATA else alert.replace("_", " ")


def as_dict(name: str, scenario: Scenario, run: Run) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(run)
    return {
        "scenario": name,
        "description": scenario.description,
        "timeline": scenario.timeline,
        "expected": msgspec.to_builtins(scenario.expected),
        "unmet": unmet(run, scenario.expected) if scenario.expected else [],
        "highest": run.highest,
        "full_at": run.full_at,
        "rolled_back_after": run.rolled_back_after,
        **document,
    }


def clock(minute: int) -> str:
    """``+01:05``."""
    return f"+{minute // 60:02}:{minute % 60:02}"


def printed(table: Table) -> str:
    console = Console(width=None if sys.stdout.isatty() else WIDTH, markup=False, highlight=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip()
