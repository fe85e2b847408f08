"""Sequential tests: is a difference more than chance? Pure; explained in docs/explanation/judge-statistics.md.

Each test keeps an *e-value*: the fortune of a gambler who started with 1 and bets on a fault, in a game that is fair
while there is none. By chance alone it reaches 1/alpha at most once in 1/alpha stages (Ville 1939), however often it is
read and whenever the reader stops. So a check every minute needs no correction.

:func:`advance` adds one check to the memory of the tests; :func:`assess` evaluates it. A stage begins with a new
:class:`Memory`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from math import exp, fsum, log, log1p
from sys import float_info
from typing import Any, Self

from scipy.special import betaincc, betaln

from rollout.judge.scoring import Signal, worst
from rollout.units import ratio, ratio_range

RED_TESTS = 3  # migration failures, clients with errors, treatment against control: they share alpha
NOTHING = -1e9  # logarithm of no money, because JSON has no infinity
NEWTON_STEPS = 100  # at most; ten are many
E_MAX = 1e12  # largest e-value that is kept, because JSON has no infinity; far above any threshold
# Beta(1/2, 1/2) for the success rate: Jeffreys' prior. It expects rates near 0 or 1, and ours is near 1.
RATE_PRIOR = (0.5, 0.5)
# Weight of the ratio test's prior, in clients. Fewer find coarse faults sooner (everybody in one variant), more find
# fine ones (11 % where 10 % should be); with about 30 neither takes much longer than it could.
RATIO_PRIOR = 30


@dataclass(frozen=True, slots=True)
class Limits:
    """Parameters of the tests.

    Raises:
        ValueError: they contradict each other.
    """

    p0: float = 0.005  # share of migrations that may fail
    p1: float = 0.05  # share of failures that the test finds soonest
    e0: float = 0.01  # share of clients that may have errors
    e1: float = 0.1  # share of clients with errors that the test finds soonest
    goal: float = 0.995  # migration success to certify
    # Chance of a false red in one whole rollout; also of a false certificate, and of a wrong interval.
    alpha: float = 0.05
    stages: int = 3  # of a rollout: 10 %, 50 %, 100 %
    ratio_alpha: float = 0.001  # chance of a false sample ratio mismatch in one stage
    difference: float = 20  # e-value of the comparison, from which errors of everybody are the feature's too
    baseline_min: int = 20  # clients without the feature, before their errors say anything
    rate_ratios: tuple[float, ...] = (1.5, 2, 3, 5, 10)  # how much more often treatment may have errors

    def __post_init__(self) -> None:
        if not 0 < self.p0 < self.p1 < 1:
            raise ValueError(f"Migration failures need 0 < p0 < p1 < 1, not {self.p0} and {self.p1}.")
        if not 0 < self.e0 < self.e1 < 1:
            raise ValueError(f"Clients with errors need 0 < e0 < e1 < 1, not {self.e0} and {self.e1}.")
        if not 0 < self.goal < 1:
            raise ValueError(f"The goal of migration success must be between 0 and 1, not {self.goal}.")
        if not (1e-6 <= self.alpha < 1 and 1e-6 <= self.ratio_alpha < 1):
            raise ValueError(
                f"alpha and ratio_alpha must be from 1e-6 to less than 1, not {self.alpha} and {self.ratio_alpha}."
            )
        if not 1 <= self.stages <= 1000:
            raise ValueError(f"A rollout has 1 to 1000 stages, not {self.stages}.")
        if not self.rate_ratios or min(self.rate_ratios) <= 1:
            raise ValueError(f"Rate ratios must be greater than 1, not {self.rate_ratios}.")

    @property
    def red_at(self) -> float:
        """Return the e-value from which on a test is red: each test of each stage gets an equal part of ``alpha``."""
        return self.stages * RED_TESTS / self.alpha


@dataclass(frozen=True, slots=True)
class Window:
    """Clients of a check, by what is new of them. A client counts once for each stage and class.

    A number of new clients is negative when it corrects an earlier check.
    """

    succeeded: int = 0  # clients whose migration succeeded for the first time in the stage
    failed: int = 0
    treatment: int = 0  # clients with the feature that sent a heartbeat in this window
    control: int = 0  # clients without it
    # Clients with the feature and a first error in the stage: no migration, no warning.
    treatment_errors: int = 0
    control_errors: int = 0
    treatment_sessions: int = 0  # sessions with the feature and a first heartbeat in the stage
    control_new: int = 0  # clients without it and a first heartbeat in the stage


@dataclass(frozen=True, slots=True)
class Totals:
    """Clients of the stage so far."""

    succeeded: int = 0
    failed: int = 0
    treatment: int = 0  # with the feature
    treatment_errors: int = 0  # of them, with errors
    control: int = 0  # without it
    control_errors: int = 0
    assigned: int = 0  # whose first browser had the feature
    unassigned: int = 0  # whose first browser did not


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of the tests between the checks of a stage.

    A *stake* is the logarithm of the bet on the next window. A window without news is no round of the game and changes
    nothing here.
    """

    migration_rounds: int = 0  # windows with migrations
    failures: float = log(1 / 2)  # stake
    error_rounds: int = 0  # windows with errors, while both variants were active
    comparison: tuple[float, ...] = ()  # a stake for each rate ratio; empty before the first round
    client_rounds: int = 0  # windows with new sessions with the feature, or new errors of their clients
    clients: float = NOTHING  # the bets so far, without that on the next window
    baseline_rounds: int = 0  # the same test on clients without the feature
    baseline: float = NOTHING

    def as_dict(self) -> dict[str, Any]:
        """Return the memory as JSON has it; :meth:`from_dict` restores it exactly."""
        return asdict(self) | {"comparison": list(self.comparison)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Return the memory that :meth:`as_dict` made this of; a new one of an empty mapping."""
        return cls(**{**stored, "comparison": tuple(stored.get("comparison", ()))})


@dataclass(frozen=True, slots=True)
class Assessment:
    """Result of the tests for a stage. E-values are at most ``E_MAX``. Stored: fields keep their names."""

    signal: Signal
    reasons: tuple[str, ...]  # for the operator; empty when green
    failures_e: float  # red at `red_at`
    comparison_e: float  # red at `red_at`
    ratio_e: float  # no data at 1 / `ratio_alpha`
    red_at: float
    rate: float | None  # of migrations that succeeded
    # Around `rate`. With probability 1 - alpha it holds the true rate at every check of the stage.
    interval: tuple[float, float] | None
    certified: bool  # that the rate is above the goal
    certificate_e: float  # certified at 1 / `alpha`
    compared: bool  # there is a control group
    # Not in checks of earlier versions:
    clients_e: float = 1.0  # red at `red_at`, but where clients without the feature fail alike
    baseline_e: float = 1.0  # of the same test on clients without the feature
    # Clients without the feature have as many errors, and no difference has been seen.
    everybody: bool = False
    # Of the share of clients with errors, as `interval`; None without clients.
    error_interval: tuple[float, float] | None = None
    baseline_error_interval: tuple[float, float] | None = None


def advance(memory: Memory, window: Window, limits: Limits) -> Memory:
    """Return the memory after one more check."""
    migration_rounds, failures = _sequential(
        (memory.migration_rounds, memory.failures), window.failed, window.succeeded, limits.p0, limits.p1
    )
    # Sessions, so that a client that returns is bet on again.
    client_rounds, clients = _errors_of_clients(
        (memory.client_rounds, memory.clients),
        window.treatment_errors,
        window.treatment_sessions,
        window.treatment,
        limits,
    )
    baseline_rounds, baseline = _errors_of_clients(
        (memory.baseline_rounds, memory.baseline),
        window.control_errors,
        window.control_new,
        window.control,
        limits,
    )
    error_rounds, comparison = memory.error_rounds, memory.comparison
    # A negative number corrects an earlier check, and is no evidence.
    ours, theirs = max(window.treatment_errors, 0), max(window.control_errors, 0)
    if window.control > 0 and ours + theirs > 0:
        # A client with an error was there, so a window has at least as many clients as clients with errors.
        treatment = max(window.treatment, ours)
        share = treatment / (treatment + window.control)
        error_rounds += 1
        comparison = tuple(
            _bet(stake, ours * log(ratio) - (ours + theirs) * log1p((ratio - 1) * share), error_rounds)
            for stake, ratio in zip(_comparison(memory, limits), limits.rate_ratios, strict=True)
        )
    return Memory(
        migration_rounds=migration_rounds,
        failures=failures,
        error_rounds=error_rounds,
        comparison=comparison,
        client_rounds=client_rounds,
        clients=clients,
        baseline_rounds=baseline_rounds,
        baseline=baseline,
    )


def without_errors(window: Window) -> Window:
    """Return a window without clients and their errors, for a time when everybody had them."""
    return replace(window, treatment_errors=0, control_errors=0, treatment_sessions=0, control_new=0)


def _sequential(
    test: tuple[int, float], failed: int, succeeded: int, good: float, bad: float
) -> tuple[int, float]:
    """Return the rounds and the stake of a test of two rates after one more window, which may be empty."""
    rounds, stake = test
    failed, succeeded = max(failed, 0), max(succeeded, 0)
    if not failed and not succeeded:
        return test
    log_ratio = failed * log(bad / good) + succeeded * (log1p(-bad) - log1p(-good))
    return rounds + 1, _bet(stake, log_ratio, rounds + 1)


def _errors_of_clients(
    test: tuple[int, float], errors: int, begun: int, active: int, limits: Limits
) -> tuple[int, float]:
    """Return the rounds and the bets of the test on clients with errors after one more window, which may be empty.

    Everybody counts as without an error first, and an error corrects that, however late it comes. So a bet that begins
    now has to count those who are there already, too: else it would win from their errors and never lose.
    """
    rounds, bets = test
    errors, begun = max(errors, 0), max(begun, 0)
    if not errors and not begun:
        return test
    without = log1p(-limits.e1) - log1p(-limits.e0)
    number = rounds + 1
    begins = max(max(active, errors) - begun, 0) * without - log(number * (number + 1))
    log_ratio = errors * log(limits.e1 / limits.e0) + max(begun - errors, 0) * without
    return number, _log_add(bets, begins) + log_ratio


def assess(memory: Memory, totals: Totals, share: Decimal | float, limits: Limits) -> Assessment:
    """Evaluate the tests of a stage.

    Args:
        share: share of all clients that should have the feature, 0-1.
    """
    share = float(share)
    # At 100 % clients without the feature have opted out or are stale tabs: no control group.
    compared = 0 < share < 1 and (totals.control > 0 or totals.unassigned > 0)
    certificate_e = _exp(log_certificate_e(totals.succeeded, totals.failed, limits.goal))
    migrations = totals.succeeded + totals.failed
    plain = Assessment(
        signal=Signal.GREEN,
        reasons=(),
        failures_e=_e_value(memory.failures, memory.migration_rounds),
        comparison_e=comparison_e(memory, limits) if compared else 1.0,
        clients_e=min(_exp(memory.clients) + 1 / (memory.client_rounds + 1), E_MAX),
        baseline_e=min(_exp(memory.baseline) + 1 / (memory.baseline_rounds + 1), E_MAX),
        ratio_e=_exp(log_ratio_e(totals.assigned, totals.unassigned, share))
        if compared and totals.unassigned
        else 1.0,
        red_at=limits.red_at,
        rate=totals.succeeded / migrations if migrations else None,
        interval=success_interval(totals.succeeded, totals.failed, limits.alpha) if migrations else None,
        certified=certificate_e >= 1 / limits.alpha,
        certificate_e=certificate_e,
        compared=compared,
        error_interval=_error_interval(totals.treatment_errors, totals.treatment, limits),
        baseline_error_interval=_error_interval(totals.control_errors, totals.control, limits),
    )
    plain = replace(plain, everybody=_everybody_fails(plain, totals, limits))
    findings = tuple(_findings(plain, totals, share, limits))
    return replace(
        plain,
        signal=worst(signal for signal, _ in findings),
        reasons=tuple(reason for _, reason in findings),
    )


def comparison_e(memory: Memory, limits: Limits) -> float:
    """Return the evidence that errors are more frequent with the feature than without it."""
    stakes = _comparison(memory, limits)
    return fsum(_e_value(stake, memory.error_rounds) for stake in stakes) / len(stakes)


def _findings(seen: Assessment, totals: Totals, share: float, limits: Limits) -> Iterator[tuple[Signal, str]]:
    """Yield each signal that is not green, with its reason for the operator."""
    if seen.failures_e >= limits.red_at:
        clients = f"{totals.failed:,} of {totals.succeeded + totals.failed:,} clients"
        chance = _chance(seen.failures_e, f"at most {ratio(limits.p0)} of migrations fail")
        yield (
            Signal.RED,
            f"Migration failures, in the whole stage or recently: {clients} failed. {chance}",
        )
    if seen.clients_e >= limits.red_at:
        clients = f"{totals.treatment_errors:,} of {max(totals.treatment, totals.treatment_errors):,} clients"
        chance = _chance(seen.clients_e, f"at most {ratio(limits.e0)} of clients have errors")
        if seen.everybody:
            yield Signal.NO_DATA, f"Not the feature: everybody has errors; with the feature {clients}."
        else:
            yield Signal.RED, f"Clients with errors: {clients} with the feature. {chance}"
    if seen.comparison_e >= limits.red_at:
        chance = _chance(seen.comparison_e, "the feature makes no difference")
        yield Signal.RED, f"Error rate with vs. without the feature: higher with it. {chance}"
    if seen.ratio_e >= 1 / limits.ratio_alpha:
        clients = f"{totals.assigned:,} of {totals.assigned + totals.unassigned:,} clients have the feature"
        yield (
            Signal.NO_DATA,
            f"Sample ratio mismatch: {clients} ({ratio(share)} expected). Assignment or telemetry is broken.",
        )
    if seen.interval is not None and seen.interval[1] < limits.goal:
        interval = ratio_range(*seen.interval, limits=[limits.goal])
        yield (
            Signal.YELLOW,
            f"Migration success rate: {interval} (goal {ratio(limits.goal)}).",
        )


def _everybody_fails(seen: Assessment, totals: Totals, limits: Limits) -> bool:
    many = totals.control >= limits.baseline_min
    return many and seen.baseline_e >= limits.red_at and seen.comparison_e < limits.difference


def log_certificate_e(succeeded: int, failed: int, goal: float) -> float:
    """Return the logarithm of the evidence that the success rate is above ``goal``: a mixture over all rates above."""
    a, b = RATE_PRIOR
    above, above_before = betaincc(a + succeeded, b + failed, goal), betaincc(a, b, goal)
    # A float under 1e-308 has lost digits: 181 of 322 failed would look better than 180.
    if above < float_info.min:
        return -float("inf")
    log_mixture = betaln(a + succeeded, b + failed) + log(above) - betaln(a, b) - log(above_before)
    return float(log_mixture - succeeded * log(goal) - failed * log1p(-goal))


def log_ratio_e(treatment: int, control: int, share: float) -> float:
    """Return the logarithm of the evidence that clients with the feature are not ``share`` (0-1, exclusive) of all."""
    a, b = RATIO_PRIOR * share, RATIO_PRIOR * (1 - share)
    log_mixture = betaln(a + treatment, b + control) - betaln(a, b)
    return float(log_mixture - treatment * log(share) - control * log1p(-share))


def success_interval(succeeded: int, failed: int, alpha: float) -> tuple[float, float]:
    """Return the confidence sequence of the success rate. Needs at least one migration.

    With probability 1 - ``alpha`` no interval of a whole stage misses the true rate.
    """
    return _lowest_rate(succeeded, failed, alpha), 1 - _lowest_rate(failed, succeeded, alpha)


def _error_interval(errors: int, clients: int, limits: Limits) -> tuple[float, float] | None:
    """Return the confidence sequence of the share of clients with errors; a client with an error counts as one."""
    clients = max(clients, errors)
    return success_interval(errors, clients - errors, limits.alpha) if clients else None


def _lowest_rate(hits: int, misses: int, alpha: float) -> float:
    """Return the lowest share of hits that is not excluded: the lower root of mixture ratio = 1 / alpha.

    By Newton's method for the logarithm of the share: the excess is convex in it and falls until the observed share,
    so steps from the left never pass the root. It takes a tenth of the time of a general method, four times a check.
    """
    if not hits:
        return 0.0
    a, b = RATE_PRIOR  # symmetric, so hits and misses can be swapped
    log_mixture = float(betaln(a + hits, b + misses) - betaln(a, b)) + log(alpha)
    log_rate = log_mixture / hits  # the root without misses
    for _ in range(NEWTON_STEPS):
        rate = exp(log_rate)
        excess = log_mixture - hits * log_rate - misses * log1p(-rate)
        step = excess / (hits - misses * rate / (1 - rate))
        log_rate += step
        if step < 1e-12:
            break
    return exp(log_rate)


def _bet(stake: float, log_ratio: float, rounds: int) -> float:
    """Return the stake of the next round, after round number ``rounds`` has paid ``log_ratio``.

    A fault may begin at any time, so a part 1/(k(k+1)) of the starting money is kept back until round k; these parts
    sum to 1. Each stake is the fortune after the last round, plus the part that is due.
    """
    return _log_add(stake + log_ratio, -log((rounds + 1) * (rounds + 2)))


def _e_value(stake: float, rounds: int) -> float:
    """Return the fortune after ``rounds``: the stake of the next round, and the parts kept back beyond it."""
    return min(_exp(stake) + 1 / (rounds + 2), E_MAX)


def _comparison(memory: Memory, limits: Limits) -> tuple[float, ...]:
    """Return the stakes on the rate ratios. After a change of their number within a stage, the bets start again.

    The earlier bets are lost, which can only make the test more careful.
    """
    if len(memory.comparison) == len(limits.rate_ratios):
        return memory.comparison
    return (-log((memory.error_rounds + 1) * (memory.error_rounds + 2)),) * len(limits.rate_ratios)


def _log_add(one: float, other: float) -> float:
    """Return log(exp(one) + exp(other))."""
    return max(one, other) + log1p(exp(-abs(one - other)))


def _exp(logarithm: float) -> float:
    return E_MAX if logarithm >= log(E_MAX) else exp(logarithm)


def _chance(e_value: float, healthy: str) -> str:
    """Return how rare such evidence is by chance: 1 / e-value at most (Ville), and no rarer than one in a million."""
    return f"If {healthy}, chance alone does this in at most 1 of {min(e_value, 1e6):,.0f} stages."
