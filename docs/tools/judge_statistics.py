"""Simulate rollouts, and write what the statistical judge made of them into docs/explanation/judge-statistics.md.

``.venv/bin/python -m docs.tools.judge_statistics``; a test compares the page with a run of its own. Thousands of
rollouts are simulated side by side, so the tests are here once more, on arrays: :class:`Bets` is
``rollout.judge.statistics`` for many at once, and ``tests/rollout/judge/test_statistics.py`` proves the two equal.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincc, betaln

from rollout.judge.statistics import NOTHING, RATE_PRIOR, RATIO_PRIOR, RED_TESTS, Limits

PAGE = Path(__file__).parents[1] / "explanation" / "judge-statistics.md"
BEGIN, END = "<!-- simulated: python -m docs.tools.judge_statistics -->\n", "<!-- end -->"
SEED = 20250811
LIMITS = Limits()

STAGES = ((0.1, 30), (0.5, 2 * 60), (1.0, 24 * 60))  # share, minutes: the accelerated timeline
ARRIVALS = 30  # new clients in a minute, on average
STAY = 10  # minutes that a client is there
ERRORS = 0.01  # share of clients that have an error all the same
# Share of migrations that fail all the same: as high as healthy may be, the hardest case for the tests.
HEALTHY = 0.005

ROLLOUTS = 2000
CERTIFIED = 400  # of them are also tested for the certificate, which is slow on arrays
HOLDS = 10_000  # rollouts for the ratio check, whose errors are rare
BROKEN = 400  # runs of each broken stage
HEALTHY_HOURS = 4  # before a late break
HORIZON = 6 * 60  # minutes after the break within which it has to be found

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Minute:
    """``rollout.judge.statistics.Window`` for many rollouts."""

    succeeded: Counts
    failed: Counts
    treatment: Counts
    control: Counts
    treatment_errors: Counts
    control_errors: Counts
    treatment_sessions: Counts
    control_new: Counts


@dataclass(frozen=True, slots=True)
class Break:
    """Break of a rollout: which rates are wrong, and from which minute on."""

    at: int = 0
    failures: float = HEALTHY
    ratio: float = 1  # how much more often clients with the feature have errors
    errors: float = 0  # share of new clients with the feature that have one at once, besides


def traffic(
    rng: np.random.Generator,
    runs: int,
    share: float,
    minutes: int,
    *,
    broken: Break = Break(),
    daily: bool = False,
) -> Iterator[Minute]:
    """Simulate a stage, minute by minute. It begins with nobody, so that each minute adds few clients."""
    there: deque[tuple[Counts, Counts]] = deque(maxlen=STAY)
    for minute in range(minutes):
        wave = 1 + 0.8 * np.sin(2 * np.pi * minute / (24 * 60)) if daily else 1
        arrived = rng.poisson(ARRIVALS * wave, runs)
        ours = rng.binomial(arrived, share)
        there.append((ours, arrived - ours))
        treatment, control = (np.sum(group, axis=0) for group in zip(*there, strict=True))
        now = broken if minute >= broken.at else Break()
        failed = rng.binomial(ours, now.failures)
        erring = rng.binomial(ours, now.errors) if now.errors else 0
        yield Minute(
            succeeded=ours - failed,
            failed=failed,
            treatment=treatment,
            control=control,
            treatment_errors=rng.binomial(treatment, ERRORS / STAY * now.ratio) + erring,
            control_errors=rng.binomial(control, ERRORS / STAY),
            treatment_sessions=ours,
            control_new=arrived - ours,
        )


class Bets:
    """``rollout.judge.statistics.advance`` for many rollouts at once."""

    def __init__(self, runs: int) -> None:
        self.migration_rounds = np.zeros(runs)
        self.failures = np.full(runs, log(1 / 2))
        self.error_rounds = np.zeros(runs)
        self.comparison = np.full((len(LIMITS.rate_ratios), runs), log(1 / 2))
        self.client_rounds = np.zeros(runs)
        self.clients = np.full(runs, NOTHING)

    def advance(self, new: Minute) -> None:
        played = new.succeeded + new.failed > 0
        self.migration_rounds += played
        log_ratio = new.failed * log(LIMITS.p1 / LIMITS.p0) + new.succeeded * log(
            (1 - LIMITS.p1) / (1 - LIMITS.p0)
        )
        self.failures = _bet(self.failures, log_ratio, self.migration_rounds, played)

        errors = new.treatment_errors + new.control_errors
        played = (new.control > 0) & (errors > 0)
        self.error_rounds += played
        share = new.treatment / np.maximum(new.treatment + new.control, 1)
        ratio = np.array(LIMITS.rate_ratios)[:, np.newaxis]
        log_ratios = new.treatment_errors * np.log(ratio) - errors * np.log1p((ratio - 1) * share)
        self.comparison = _bet(self.comparison, log_ratios, self.error_rounds, played)
        self._advance_clients(new)

    def _advance_clients(self, new: Minute) -> None:
        errors, begun = new.treatment_errors, new.treatment_sessions
        played = errors + begun > 0
        number = self.client_rounds + 1
        without = log((1 - LIMITS.e1) / (1 - LIMITS.e0))
        known = np.maximum(np.maximum(new.treatment, errors) - begun, 0)
        bets = np.logaddexp(self.clients, known * without - np.log(number * (number + 1)))
        bets += errors * log(LIMITS.e1 / LIMITS.e0) + np.maximum(begun - errors, 0) * without
        self.clients = np.where(played, bets, self.clients)
        self.client_rounds += played

    def failures_e(self) -> Floats:
        e_values: Floats = np.exp(self.failures) + 1 / (self.migration_rounds + 2)
        return e_values

    def comparison_e(self) -> Floats:
        e_values: Floats = np.exp(self.comparison).mean(axis=0) + 1 / (self.error_rounds + 2)
        return e_values

    def clients_e(self) -> Floats:
        e_values: Floats = np.exp(self.clients) + 1 / (self.client_rounds + 1)
        return e_values


def _bet(stake: Floats, log_ratio: Floats, rounds: Floats, played: NDArray[np.bool_]) -> Floats:
    after: Floats = np.logaddexp(stake + log_ratio, -np.log((rounds + 1) * (rounds + 2)))
    return np.where(played, after, stake)


def log_ratio_e(treatment: Counts, control: Counts, share: float) -> Floats:
    a, b = RATIO_PRIOR * share, RATIO_PRIOR * (1 - share)
    log_mixture = betaln(a + treatment, b + control) - betaln(a, b)
    evidence: Floats = log_mixture - treatment * log(share) - control * log(1 - share)
    return evidence


def log_rate_e(succeeded: Counts, failed: Counts, rate: float) -> Floats:
    """Return the evidence against ``rate``; at 1 / alpha the interval no longer has it."""
    a, b = RATE_PRIOR
    log_mixture = betaln(a + succeeded, b + failed) - betaln(a, b)
    evidence: Floats = log_mixture - succeeded * log(rate) - failed * log(1 - rate)
    return evidence


def log_certificate_e(succeeded: Counts, failed: Counts, goal: float) -> Floats:
    a, b = RATE_PRIOR
    above = betaincc(a + succeeded, b + failed, goal) / betaincc(a, b, goal)
    evidence: Floats = log_rate_e(succeeded, failed, goal) + np.log(np.maximum(above, 1e-300))
    return evidence


# --- What is simulated --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Alarms:
    """Count of healthy rollouts in which something happened at any minute."""

    red: int  # of ROLLOUTS, as are the next four
    red_failures: int
    red_clients: int
    red_comparison: int
    uncovered: int  # the interval missed the true rate in the last stage
    certified: int  # of CERTIFIED, in the last stage; wrongly, for the true rate is the goal and not above


def false_alarms() -> Alarms:
    """Simulate whole healthy rollouts, at the limit of healthy, and check every minute."""
    rng = np.random.default_rng(SEED)
    red_failures, red_clients, red_comparison, uncovered, certified = np.zeros((5, ROLLOUTS), bool)
    for share, minutes in STAGES:
        bets = Bets(ROLLOUTS)
        succeeded, failed = np.zeros((2, ROLLOUTS), np.int64)
        for minute in traffic(rng, ROLLOUTS, share, minutes, daily=minutes > 12 * 60):
            bets.advance(minute)
            red_failures |= bets.failures_e() >= LIMITS.red_at
            red_clients |= bets.clients_e() >= LIMITS.red_at
            if share < 1:
                red_comparison |= bets.comparison_e() >= LIMITS.red_at
                continue
            succeeded += minute.succeeded
            failed += minute.failed
            uncovered |= log_rate_e(succeeded, failed, 1 - HEALTHY) >= -log(LIMITS.alpha)
            some = slice(CERTIFIED)
            certificate = log_certificate_e(succeeded[some], failed[some], LIMITS.goal)
            certified[some] |= certificate >= -log(LIMITS.alpha)
    return Alarms(
        red=int((red_failures | red_clients | red_comparison).sum()),
        red_failures=int(red_failures.sum()),
        red_clients=int(red_clients.sum()),
        red_comparison=int(red_comparison.sum()),
        uncovered=int(uncovered.sum()),
        certified=int(certified.sum()),
    )


def false_holds() -> int:
    """Count healthy rollouts in which the ratio check fails in any minute of the stages at 10 % and 50 %."""
    rng = np.random.default_rng(SEED + 4)
    held = np.zeros(HOLDS, bool)
    for share, minutes in STAGES[:2]:
        arrived = rng.poisson(ARRIVALS, (minutes, HOLDS))
        treatment = rng.binomial(arrived, share).cumsum(axis=0)
        evidence = log_ratio_e(treatment, arrived.cumsum(axis=0) - treatment, share)
        held |= (evidence >= -log(LIMITS.ratio_alpha)).any(axis=0)
    return int(held.sum())


def cohort_alarms(runs: int = ROLLOUTS, *, clients: int = 500, erring: float = 0.4) -> int:
    """Count false reds with no new clients, where many of the same few clients have an error sooner or later."""
    rng = np.random.default_rng(SEED + 1)
    bets = Bets(runs)
    half = np.full(runs, clients // 2)
    none = np.zeros(runs, np.int64)
    left = np.stack([half, half])
    red = np.zeros(runs, bool)
    for _ in range(checks := 200):
        ours, theirs = rng.binomial(left, 1 - (1 - erring) ** (1 / checks))
        left = left - np.stack([ours, theirs])
        bets.advance(Minute(none, none, half, half, ours, theirs, none, none))
        red |= bets.comparison_e() >= LIMITS.red_at
    return int(red.sum())


def late_alarms(runs: int = ROLLOUTS, *, clients: int = 2000, visits: float | None = None) -> int:
    """Count false reds where everybody comes in the first of eight hours, and errors come at any time after.

    Args:
        visits: minutes between two visits of a client, of ``STAY`` minutes each; ``None``: everybody stays.
    """
    rng = np.random.default_rng(SEED + 5)
    bets = Bets(runs)
    none, known, fated = np.zeros((3, runs), np.int64)
    red = np.zeros(runs, bool)
    for minute in range(minutes := 8 * 60):
        came = rng.poisson(clients / 60, runs) if minute < 60 else none
        begun = came + (rng.binomial(known, 1 / visits) if visits else 0)
        known = known + came
        active = np.maximum(rng.binomial(known, STAY / visits) if visits else known, begun)
        fated = fated + rng.binomial(came, LIMITS.e0)
        errors = rng.binomial(fated, 1 / (minutes - minute))
        fated = fated - errors
        bets.advance(Minute(none, none, active, none, errors, none, begun, none))
        red |= bets.clients_e() >= LIMITS.red_at
    return int(red.sum())


@dataclass(frozen=True, slots=True)
class Found:
    """Detection of a break: share of the runs within the horizon; medians over all runs, ``None`` beyond it."""

    power: float
    clients: int | None  # with the feature, arrived since the break
    minutes: int | None
    yellow_clients: int | None  # until the interval of the success rate lay below the goal


def find(broken: Break, *, runs: int = BROKEN) -> Found:
    """Simulate a stage at 50 % that breaks, and check every minute until it is red."""
    rng = np.random.default_rng(SEED + 2)
    bets = Bets(runs)
    failing = broken.failures > HEALTHY
    since, succeeded, failed = np.zeros((3, runs), np.int64)
    clients, minutes, yellow = np.full((3, runs), np.inf)
    for number, minute in enumerate(traffic(rng, runs, 0.5, broken.at + HORIZON, broken=broken)):
        bets.advance(minute)
        succeeded += minute.succeeded
        failed += minute.failed
        if number < broken.at:
            continue
        since += minute.succeeded + minute.failed
        red = _evidence(bets, broken) >= LIMITS.red_at
        clients = np.where(red & np.isinf(clients), since, clients)
        minutes = np.where(red & np.isinf(minutes), number + 1 - broken.at, minutes)
        if failing:
            below = succeeded < LIMITS.goal * (succeeded + failed)
            seen = below & (log_rate_e(succeeded, failed, LIMITS.goal) >= -log(LIMITS.alpha))
            yellow = np.where(seen & np.isinf(yellow), since, yellow)
        if np.isfinite(clients).all() and (not failing or np.isfinite(yellow).all()):
            break
    return Found(float(np.isfinite(clients).mean()), _median(clients), _median(minutes), _median(yellow))


def _evidence(bets: Bets, broken: Break) -> Floats:
    """Return the evidence of the test that a break is for."""
    if broken.errors:
        return bets.clients_e()
    return bets.failures_e() if broken.failures > HEALTHY else bets.comparison_e()


def skewed(share: float, seen: float, *, runs: int = BROKEN) -> int | None:
    """Return the median of clients until the ratio check fails: ``seen`` of them have the feature, not ``share``."""
    rng = np.random.default_rng(SEED + 3)
    steps = np.unique(np.geomspace(10, 50_000, 300).astype(np.int64))
    treatment = rng.binomial(np.diff(steps, prepend=0)[:, np.newaxis], seen, (len(steps), runs)).cumsum(
        axis=0
    )
    hold = log_ratio_e(treatment, steps[:, np.newaxis] - treatment, share) >= -log(LIMITS.ratio_alpha)
    return _median(np.where(hold.any(axis=0), steps[hold.argmax(axis=0)], np.inf))


def _median(values: Floats) -> int | None:
    middle = float(np.quantile(values, 0.5, method="higher"))
    return int(middle) if np.isfinite(middle) else None


# --- What is written ----------------------------------------------------------------------------------------------

FAILURES = (0.02, 0.05, 0.1, 0.2)
ERRING = (0.05, 0.1, 0.2, 1.0)
RATIOS = (2, 3, 5)
SKEWS = ((0.1, 0.0), (0.1, 0.05), (0.1, 0.12), (0.5, 0.4), (0.5, 0.45))
LATE = HEALTHY_HOURS * 60


@dataclass(frozen=True, slots=True)
class Results:
    alarms: Alarms
    holds: int  # of HOLDS
    cohort: int  # of ROLLOUTS
    late: tuple[int, int]  # of ROLLOUTS: who stay, who come back
    failures: dict[tuple[float, int], Found]  # (failure rate, minute of the break)
    erring: dict[tuple[float, int], Found]
    ratios: dict[tuple[int, int], Found]
    skews: dict[tuple[float, float], int | None]


def simulate() -> Results:
    return Results(
        alarms=false_alarms(),
        holds=false_holds(),
        cohort=cohort_alarms(),
        late=(late_alarms(), late_alarms(visits=60)),
        failures={(rate, at): find(Break(at=at, failures=rate)) for rate in FAILURES for at in (0, LATE)},
        erring={(rate, at): find(Break(at=at, errors=rate)) for rate in ERRING for at in (0, LATE)},
        ratios={(ratio, at): find(Break(at=at, ratio=ratio)) for ratio in RATIOS for at in (0, LATE)},
        skews={skew: skewed(*skew) for skew in SKEWS},
    )


def tables(results: Results) -> str:
    """Return the results as the page has them."""
    return "\n".join([*_false_alarms(results), "", *_power(results), "", *_skews(results)])


def _false_alarms(results: Results) -> Iterator[str]:
    alarms = results.alarms
    yield _row("healthy rollouts", "how many", "with it", "promised at most")
    yield _row(*["---"] * 4)
    for what, runs, count, promised in [
        ("red, ever", ROLLOUTS, alarms.red, LIMITS.alpha),
        ("red for migration failures", ROLLOUTS, alarms.red_failures, LIMITS.alpha / RED_TESTS),
        ("red for clients with errors", ROLLOUTS, alarms.red_clients, LIMITS.alpha / RED_TESTS),
        (
            "the same, one stage, late errors of clients who stay",
            ROLLOUTS,
            results.late[0],
            1 / LIMITS.red_at,
        ),
        (
            "the same, one stage, late errors of clients who come back",
            ROLLOUTS,
            results.late[1],
            1 / LIMITS.red_at,
        ),
        ("red for treatment against control", ROLLOUTS, alarms.red_comparison, LIMITS.alpha / RED_TESTS),
        (
            "the same, one stage, 40 % of the same 500 clients err",
            ROLLOUTS,
            results.cohort,
            1 / LIMITS.red_at,
        ),
        ("no data by the ratio check, two stages", HOLDS, results.holds, 2 * LIMITS.ratio_alpha),
        ("interval misses the true rate, ever in 24 h", ROLLOUTS, alarms.uncovered, LIMITS.alpha),
        ("certified at exactly 99.5 %, ever in 24 h", CERTIFIED, alarms.certified, LIMITS.alpha),
    ]:
        yield _row(what, f"{runs:,}", f"{count / runs * 100:.2f} %", f"{promised * 100:.2f} %")


def _power(results: Results) -> Iterator[str]:
    yield _row("what breaks", "when", "red within 6 h", "minutes", "clients until red", "until yellow")
    yield _row(*["---"] * 6)
    for rate, at in results.failures:
        found = results.failures[rate, at]
        yield _row(f"{rate * 100:.0f} % of migrations fail", *_found(found, at), _count(found.yellow_clients))
    for rate, at in results.erring:
        found = results.erring[rate, at]
        yield _row(f"{rate * 100:.0f} % of clients have an error", *_found(found, at), "")
    for ratio, at in results.ratios:
        yield _row(f"errors {ratio} times as often", *_found(results.ratios[ratio, at], at), "")


def _found(found: Found, at: int) -> Iterator[str]:
    yield f"after {HEALTHY_HOURS} healthy hours" if at else "at the start"
    yield f"{found.power * 100:.0f} %"
    yield _count(found.minutes)
    yield _count(found.clients)


def _skews(results: Results) -> Iterator[str]:
    yield _row("should have the feature", "have it", "clients until no data")
    yield _row(*["---"] * 3)
    for (share, seen), count in results.skews.items():
        yield _row(f"{share * 100:.0f} %", f"{seen * 100:.0f} %", _count(count))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _count(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def main() -> None:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{tables(simulate())}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
