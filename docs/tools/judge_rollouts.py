"""Simulate whole rollouts through the real judge, and write the figures into docs/explanation/judge-statistics.md.

``.venv/bin/python -m docs.tools.judge_rollouts`` takes about 20 minutes of one core, and keeps its results in
judge_rollouts.json beside it. Each minute's evidence is drawn at random, as numbers of clients and without a database,
and goes through :func:`rollout.judge.decision.decide`; promotions are followed as :mod:`rollout.tick` does.
"""

import sys
import zlib
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from multiprocessing import Pool
from pathlib import Path

import msgspec
import numpy as np
from scipy.stats import binomtest

from docs.tools.judge_statistics import PAGE
from docs.tools.judge_traffic import Fault, Health, Traffic
from rollout.judge.decision import Decision, decide
from rollout.judge.policy import Policy
from rollout.judge.scoring import Signal
from rollout.judge.state import Action, Carry, State

RESULTS = Path(__file__).with_suffix(".json")
BEGIN, END = "<!-- simulated: python -m docs.tools.judge_rollouts -->\n", "<!-- end of the rollouts -->"
PROCESSES = 2
SEED = 20250811
START = datetime(2025, 8, 11, tzinfo=UTC)  # of every rollout; only differences of times matter
MINUTE = timedelta(minutes=1)


# --- One rollout ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of rollout."""

    sessions_per_hour: int
    health: str = "usual"
    literal: bool = False  # the runbook's thresholds for any number of clients
    percentage: int = 10
    fault: Fault | None = None  # None: a whole rollout, on the conservative timeline
    watch: int = 24  # hours at 100 % after which it ends
    hours: int = 96  # at most


@dataclass(frozen=True, slots=True)
class Run:
    """The end of one rollout. Minutes and clients count from the fault, or from the start; ``None``: never."""

    full_at: int | None = None  # minute of the promotion to 100 %
    red_minutes: int | None = None
    red_clients: int | None = None
    back_minutes: int | None = None
    back_clients: int | None = None
    causes: tuple[str, ...] = ()  # cells and tests that were ever red


def run(case: Case, seed: tuple[int, ...]) -> Run:
    """Simulate one rollout: until the rollback, the end of its watch at 100 %, or the last hour."""
    rng = np.random.default_rng(seed)
    traffic = Traffic(rng, case.sessions_per_hour, HEALTH[case.health], case.percentage / 100)
    policy = Policy(score_clients=0) if case.literal else Policy()
    state = _begin(case)
    fault = case.fault or Fault()
    clients, end, result = 0, case.hours * 60, Run()
    for number in range(case.hours * 60):
        now = START + (number + 1) * MINUTE
        evidence, met = traffic.minute(number, fault)
        clients += met
        decision = decide(state, evidence, now, policy)
        state = replace(state, carry=decision.carry)
        passed = number + 1 - fault.at
        if decision.signal is Signal.RED and passed > 0:
            result = replace(result, causes=tuple(sorted({*result.causes, *_causes(decision)})))
            if result.red_minutes is None:
                result = replace(result, red_minutes=passed, red_clients=clients)
        if decision.action is Action.ROLL_BACK:
            return replace(result, back_minutes=passed, back_clients=clients)
        if decision.action is Action.PROMOTE and decision.target is not None:
            traffic.enter(float(decision.target) / 100)
            state = replace(state, percentage=decision.target, stage_started_at=now, carry=Carry())
            if decision.target == 100:
                end = number + 1 + case.watch * 60
                result = replace(result, full_at=number + 1)
        if number + 1 >= end:
            break
    return result


def _begin(case: Case) -> State:
    return State(
        feature="STUDY",
        percentage=Decimal(case.percentage),
        stage_started_at=START,
        timeline="manual" if case.fault else "conservative",
        on_hold=False,
        auto_rollback=True,
        carry=Carry(),
        track_migrations=True,
    )


def _causes(decision: Decision) -> Iterator[str]:
    """Yield what was red: cells, and tests."""
    yield from (cell.name for cell in decision.cells if cell.signal is Signal.RED)
    seen = decision.assessment
    tests = {"failures": seen.failures_e, "clients": seen.clients_e, "comparison": seen.comparison_e}
    if seen.signal is Signal.RED:
        yield from (f"test of {name}" for name, e_value in tests.items() if e_value >= seen.red_at)


# --- The study ------------------------------------------------------------------------------------------------------

HEALTH = {
    # A fifth of the failures that the runbook calls green, half of the errors that it allows a complete rollout.
    "usual": Health(0.001, 0.0002, 0.0001, 0.0002, 0.015, 0.0005),
    "poor": Health(0.003, 0.0008, 0.0004, 0.0008, 0.03, 0.0005),
    # The null hypotheses of the tests: as many failures as healthy may have. Its console errors are many.
    "limit": Health(0.005, 0.004, 0.002, 0.004, 0.03, 0.001),
}
SIZES = (100, 10_000, 1_000_000)  # sessions an hour
MIDDLE = 3000  # 75 active clients at 50 %: just too few for limits that grow
SHARES = (1.0, 0.2, 0.05)  # broken
KINDS = ("migrations", "errors")
LATE = 4 * 60  # minutes


@dataclass(frozen=True, slots=True)
class Healthy:
    """Results of healthy rollouts."""

    runs: int
    rolled_back: int
    red: int  # in any check
    full: int  # promoted to 100 % by the judge
    full_minutes: int | None  # median
    causes: dict[str, int]
    first: Run


@dataclass(frozen=True, slots=True)
class Broken:
    """Results of broken rollouts; medians over all runs."""

    runs: int
    red: int
    red_minutes: int | None
    red_clients: int | None
    rolled_back: int
    back_minutes: int | None
    back_clients: int | None
    red_prompt: int  # within 10 clients or 3 checks
    back_prompt: int
    first: Run


class Results(msgspec.Struct):
    healthy: dict[str, Healthy] = {}
    broken: dict[str, Broken] = {}


def healthy_cases() -> dict[str, tuple[Case, int]]:
    """Return the healthy rollouts of the study, and how many of each."""
    cases = [(Case(size, watch=1), 1000) for size in SIZES] + [(Case(MIDDLE, watch=1), 200)]
    cases += [(Case(size), 40) for size in SIZES]
    cases += [(Case(size, health=health, watch=1), 40) for health in ("poor", "limit") for size in SIZES]
    cases += [(Case(size, literal=True), 40) for size in SIZES]
    return {healthy_name(case): (case, runs) for case, runs in cases}


def healthy_name(case: Case) -> str:
    return f"{case.health}, {case.sessions_per_hour}, {case.watch} h, {_rule(case)}"


def broken_cases() -> dict[str, tuple[Case, int]]:
    """Return the broken rollouts of the study, and how many of each."""
    cases = {}
    for kind in KINDS:
        for size in SIZES:
            for percentage in (10, 100):
                for share in SHARES:
                    for at, literal in ((0, False), (0, True), (LATE, False)):
                        fault = Fault(at, **{kind: share})
                        case = Case(
                            size, literal=literal, percentage=percentage, fault=fault, hours=HOURS[size]
                        )
                        name = f"{kind}, {size}, {percentage} %, {share}, {at}, {_rule(case)}"
                        cases[name] = case, 40 if at or size == SIZES[0] else 100
    return cases


HOURS = {100: 72, 10_000: 12, 1_000_000: 8}  # at most, of a broken rollout


def _rule(case: Case) -> str:
    return "literal" if case.literal else "ours"


def seed_of(name: str, number: int) -> tuple[int, ...]:
    return SEED, zlib.crc32(name.encode()), number


def _run(job: tuple[Case, tuple[int, ...]]) -> Run:
    return run(*job)


def summed(case: Case, runs: list[Run]) -> Healthy | Broken:
    """Return the results of the runs of one case."""
    backs = sum(each.back_minutes is not None for each in runs)
    reds = sum(each.red_minutes is not None for each in runs)
    if case.fault is None:
        full = [each.full_at for each in runs]
        return Healthy(
            runs=len(runs),
            rolled_back=backs,
            red=reds,
            full=sum(minute is not None for minute in full),
            full_minutes=_median(full),
            causes=dict(sorted(Counter(cause for each in runs for cause in each.causes).items())),
            first=runs[0],
        )
    return Broken(
        runs=len(runs),
        red=reds,
        red_minutes=_median([each.red_minutes for each in runs]),
        red_clients=_median([each.red_clients for each in runs]),
        rolled_back=backs,
        back_minutes=_median([each.back_minutes for each in runs]),
        back_clients=_median([each.back_clients for each in runs]),
        red_prompt=sum(_is_prompt(each.red_minutes, each.red_clients) for each in runs),
        back_prompt=sum(_is_prompt(each.back_minutes, each.back_clients) for each in runs),
        first=runs[0],
    )


def _is_prompt(minutes: int | None, clients: int | None) -> bool:
    return minutes is not None and clients is not None and (minutes <= 3 or clients <= 10)


def _median(values: list[int | None]) -> int | None:
    """Return the upper median; ``None`` counts as later than any."""
    known = sorted(value for value in values if value is not None)
    return known[len(values) // 2] if len(known) > len(values) // 2 else None


def load() -> Results:
    return msgspec.json.decode(RESULTS.read_bytes(), type=Results) if RESULTS.exists() else Results()


def simulate(results: Results, *, only: str = "", at_most: int | None = None) -> None:
    """Run the cases whose names contain ``only``, and store the results of each as it is done."""
    with Pool(PROCESSES) as pool:
        for name, (case, runs) in (healthy_cases() | broken_cases()).items():
            if only not in name:
                continue
            jobs = [(case, seed_of(name, number)) for number in range(min(runs, at_most or runs))]
            found = summed(case, pool.map(_run, jobs, chunksize=2))
            if isinstance(found, Healthy):
                results.healthy[name] = found
            else:
                results.broken[name] = found
            sys.stdout.write(f"{name}: {found}\n")
            sys.stdout.flush()
            RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")


# --- What is written ------------------------------------------------------------------------------------------------


def tables(results: Results) -> str:
    """Return the results as the page has them."""
    return "\n".join(
        [*_healthy(results), *(line for kind in KINDS for line in ("", *_broken(results, kind)))]
    )


def _healthy(results: Results) -> Iterator[str]:
    yield _row(
        "health",
        "sessions an hour",
        "rule",
        "watched at 100 %",
        "rollouts",
        "rolled back",
        "at 100 %",
        "after",
        "ever red",
        "by",
    )
    yield _row(*["---"] * 10)
    for name, (case, _) in healthy_cases().items():
        found = results.healthy[name]
        low, high = binomtest(found.rolled_back, found.runs).proportion_ci()
        causes = sorted(found.causes, key=lambda cause: -found.causes[cause])
        yield _row(
            case.health,
            f"{case.sessions_per_hour:,}",
            _rule(case),
            f"{case.watch} h",
            f"{found.runs:,}",
            f"{_percent(found.rolled_back, found.runs)} ({low * 100:.1f}-{high * 100:.1f} %)",
            _percent(found.full, found.runs),
            "-" if found.full_minutes is None else f"{found.full_minutes / 60:.1f} h",
            _percent(found.red, found.runs),
            ", ".join(causes[:2]),
        )


def _broken(results: Results, kind: str) -> Iterator[str]:
    what = {"migrations": "migrations that fail", "errors": "sessions with an error"}[kind]
    yield _row(
        what,
        "sessions an hour",
        "feature for",
        "first red",
        "rolled back",
        "late: first red",
        "late: rolled back",
        "literal: first red",
        "literal: rolled back",
    )
    yield _row(*["---"] * 9)
    for share in SHARES:
        for size in SIZES:
            for percentage in (10, 100):
                found = [
                    results.broken[f"{kind}, {size}, {percentage} %, {share}, {at}, {rule}"]
                    for at, rule in ((0, "ours"), (LATE, "ours"), (0, "literal"))
                ]
                times = [
                    cell
                    for each in found
                    for cell in (
                        _when(each.red_clients, each.red_minutes),
                        _when(each.back_clients, each.back_minutes),
                    )
                ]
                yield _row(f"{share * 100:.0f} %", f"{size:,}", f"{percentage} %", *times)


def _when(clients: int | None, minutes: int | None) -> str:
    return "-" if clients is None or minutes is None else f"{clients:,} in {duration(minutes)}"


def duration(minutes: int) -> str:
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _percent(count: int, runs: int) -> str:
    return f"{count / runs * 100:.1f} %"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def write(results: Results) -> None:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{tables(results)}\n{END}{rest.partition(END)[2]}")


def main() -> None:
    """Run the cases of the study, and write the page from the stored results of all."""
    parser = ArgumentParser(description=main.__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose names contain it")
    parser.add_argument("--at-most", type=int, metavar="RUNS", help="of each case")
    parser.add_argument("--page", action="store_true", help="run nothing")
    options = parser.parse_args()
    results = load()
    if not options.page:
        simulate(results, only=options.only, at_most=options.at_most)
    write(results)


if __name__ == "__main__":
    main()
