"""The cells of the runbook's table of signals, evaluated for a check. Pure.

Each cell asks three times: clients with the feature, networks that speak without a ticket, clients without the
feature. The first decide; the others may hold a rollout, and only many networks together may roll one back.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from rollout.judge import scoring, statistics, wording
from rollout.judge.evidence import Counts, Evidence, Side
from rollout.judge.policy import Policy
from rollout.judge.scoring import Signal, Thresholds, thresholds, worst
from rollout.judge.state import Carry


class Condition(StrEnum):
    """A condition that keeps a cell from being red. It is alerted at once."""

    WEATHER = "weather"  # clients without the feature fail as often
    BASELINE = "baseline"  # only clients without the feature fail
    UNSIGNED = "unsigned"  # too few networks say so


@dataclass(frozen=True, slots=True)
class Cell:
    """A line of the table: a number, its signal and its text."""

    name: str
    signal: Signal
    says: str
    fresh: bool = False  # this check brought new evidence for it
    condition: Condition | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """All that the cells are made of."""

    evidence: Evidence
    carry: Carry  # with this check's evidence
    windows: int
    percentage: float
    difference: float  # e-value of treatment against control
    policy: Policy

    def limits(self, side: Side, totals: Counts) -> Thresholds:
        stage_clients = max(totals.treatment, side.active)
        return thresholds(side.active, self.windows, stage_clients, self.policy)

    @property
    def trusted(self) -> Thresholds:
        return self.limits(self.evidence.feature, self.carry.totals)

    @property
    def networks(self) -> Thresholds:
        return self.limits(self.evidence.unsigned, self.carry.totals_unsigned)


def cells(table: Table) -> list[Cell]:
    """Return the cells of a check; those of the server and of others only where they have something to say."""
    found = [_score(table), _migrations(table), _kill_switch(table), _console(table), *_unsigned(table)]
    if table.evidence.server.active:
        found.insert(0, _server(table))
    # At 100 % clients without the feature have opted out, or are old tabs.
    if table.percentage < 100 and worst(cell.signal for cell in found) in {Signal.GREEN, Signal.YELLOW}:
        found += _baseline(table)
    return found


def _weather(
    table: Table,
    ours: Side,
    theirs: Side,
    limit: float,
    count: Callable[[Side], int] = lambda side: side.score,
    *,
    difference: float,
    clients: int = 0,
) -> bool:
    """Return whether clients without the feature pass the same limit per client, and no difference has been seen.

    Of few clients, one broken or hostile browser would pass it alone, and shield the feature: so it takes two.

    Args:
        count: number that the limit is for.
        difference: e-value of ours against theirs.
        clients: without the feature, where ``theirs`` are only some of them.
    """
    policy = table.policy
    # At 100 % clients without the feature have opted out, or are old tabs: no comparison.
    return (
        table.percentage < 100
        and max(theirs.active, clients) >= policy.baseline_min
        and min(theirs.failing, count(theirs)) >= policy.red_clients_min
        and count(theirs) * max(ours.active, 1) >= limit * theirs.active
        and difference < policy.weather_evidence
    )


def _difference(ours: Side, theirs: Side) -> float:
    """Return the e-value of more failing voices with the feature than without it, in this check.

    For the server's reports and for networks: the comparison that remembers earlier checks does not know them.
    """
    window = statistics.Window(
        treatment=ours.active,
        control=theirs.active,
        treatment_errors=ours.failing,
        control_errors=theirs.failing,
    )
    limits = statistics.Limits()
    return statistics.comparison_e(statistics.advance(statistics.Memory(), window, limits), limits)


def _with_weather(cell: Cell, *, weather: bool) -> Cell:
    if cell.signal is not Signal.RED or not weather:
        return cell
    return Cell(cell.name, Signal.NO_DATA, f"{wording.WEATHER} ({cell.says})", cell.fresh, Condition.WEATHER)


def _server(table: Table) -> Cell:
    """Return the cell of the server's own reports.

    Few users create anything in a window. So heartbeats say whether there are enough clients without the feature:
    otherwise an outage of everything would roll back a quiet rollout.
    """
    evidence = table.evidence
    ours, theirs = evidence.server, evidence.server_baseline
    limits = thresholds(ours.active, table.windows, ours.active, table.policy)
    cell = Cell(
        "server", scoring.score_signal(ours.score, limits), wording.server(ours, theirs, limits), fresh=True
    )
    clients = max(evidence.baseline.active, evidence.unsigned_baseline.active)
    weather = _weather(
        table, ours, theirs, limits.score_red, difference=_difference(ours, theirs), clients=clients
    )
    return _with_weather(cell, weather=weather)


def _score(table: Table) -> Cell:
    ours, unknown, limits = table.evidence.feature, table.evidence.unknown, table.trusted
    signal = scoring.score_signal(ours.score, limits)
    if signal is Signal.GREEN and ours.score + unknown.score > limits.score_green:
        signal = Signal.YELLOW  # at most: nobody knows whose failures those are
    cell = Cell("score", signal, wording.score(ours, unknown, limits), fresh=True)
    weather = _weather(table, ours, table.evidence.baseline, limits.score_red, difference=table.difference)
    return _with_weather(cell, weather=weather)


def _migrations(table: Table) -> Cell:
    totals = table.carry.totals
    signal = scoring.migration_signal(totals.succeeded, totals.failed, table.policy)
    return Cell("migrations", signal, wording.migrations(totals), fresh=table.evidence.new.failed > 0)


def _kill_switch(table: Table) -> Cell:
    totals, limits = table.carry.totals, table.trusted
    signal = scoring.kill_switch_signal(totals.kill_switch, limits)
    return Cell(
        "kill switch", signal, wording.kill_switch(totals, limits), table.evidence.new.kill_switch > 0
    )


def _console(table: Table) -> Cell:
    ours, unknown, limits = table.evidence.feature, table.evidence.unknown, table.trusted
    signal = scoring.console_signal(ours.console_warnings, ours.console_errors, limits)
    if signal is Signal.GREEN and unknown.console_errors >= limits.console_yellow:
        signal = Signal.YELLOW
    cell = Cell("console", signal, wording.console(ours, unknown, limits), fresh=True)
    weather = _weather(
        table,
        ours,
        table.evidence.baseline,
        limits.console_red,
        lambda side: side.console_errors,
        difference=table.difference,
    )
    return _with_weather(cell, weather=weather)


class _Finding(NamedTuple):
    """One of the four numbers, as networks without a ticket report it."""

    signal: Signal
    networks: int  # that say so
    fresh: bool  # this check brought new evidence for it
    comparable: bool  # clients without the feature can have it too


def _unsigned(table: Table) -> Iterator[Cell]:
    """Yield the cell of networks: the worst of the same four numbers, red only if many networks say so."""
    ours, theirs = table.evidence.unsigned, table.evidence.unsigned_baseline
    totals, new = table.carry.totals_unsigned, table.evidence.new_unsigned
    if not (ours.active or ours.errors or totals.failed or totals.kill_switch):
        return
    limits = table.networks
    points = scoring.score_signal(ours.score, limits)
    console = scoring.console_signal(ours.console_warnings, ours.console_errors, limits)
    migrations = scoring.migration_signal(totals.succeeded, totals.failed, table.policy)
    kill_switch = scoring.kill_switch_signal(totals.kill_switch, limits)
    findings = [
        _Finding(points, ours.failing, fresh=True, comparable=True),
        _Finding(console, ours.console_errors, fresh=True, comparable=True),
        _Finding(migrations, totals.failed, fresh=new.failed > 0, comparable=False),
        _Finding(kill_switch, totals.kill_switch, fresh=new.kill_switch > 0, comparable=False),
    ]
    enough = table.policy.unsigned_networks_min
    signal = worst(found.signal for found in findings)
    agreed = [found for found in findings if found.signal is Signal.RED and found.networks >= enough]
    says = wording.unsigned(ours, totals, limits, enough)
    if signal is not Signal.RED:
        yield Cell("unsigned", signal, says)
    elif agreed:
        fresh = any(found.fresh for found in agreed)
        weather = all(found.comparable for found in agreed) and any(
            _weather(table, ours, side, limits.score_red, difference=_difference(ours, side))
            for side in (theirs, table.evidence.baseline)
        )
        yield _with_weather(Cell("unsigned", signal, says, fresh=fresh), weather=weather)
    else:
        yield Cell("unsigned", Signal.YELLOW, says, condition=Condition.UNSIGNED)


def _baseline(table: Table) -> Iterator[Cell]:
    """Yield a cell if clients without the feature fail: yellow, because it is not the feature."""
    for side, voices, least in (
        (table.evidence.baseline, "clients", 1),
        (table.evidence.unsigned_baseline, "networks", table.policy.unsigned_networks_min),
    ):
        limits = thresholds(side.active, table.windows, side.active, table.policy)
        # The limit of the fewer clients; with many, not what is green of them.
        loud = side.score > limits.score_green and side.score >= min(
            limits.score_red, table.trusted.score_red
        )
        console = scoring.console_signal(0, side.console_errors, limits) is Signal.RED
        if (loud or console) and side.failing >= least:
            says = wording.baseline(side, voices=voices)
            yield Cell("without the feature", Signal.YELLOW, says, condition=Condition.BASELINE)
            return
