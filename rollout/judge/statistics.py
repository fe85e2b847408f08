"""The statistical judge: is what we see more than chance? Pure, and explained in docs/explanation/judge-statistics.md.

Every test here keeps an *e-value*: what a gambler owns who started with 1 and bets, in a game that is fair while all is
well, that something is wrong. Chance alone brings it to 1/alpha at most once in 1/alpha stages (Ville 1939), however
often one looks and whenever one stops. So a check every minute needs no correction for being a check every minute.

:func:`advance` adds one check to what the tests remember; :func:`assess` says what that means. A stage begins with a
new :class:`Memory`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from math import exp, fsum, log, log1p
from typing import Any, Self

from scipy.optimize import brentq
from scipy.special import betaincc, betaln

from rollout.judge.scoring import Signal, worst
from rollout.units import ratio

RED_TESTS = 2  # migration failures, treatment against control: alpha is shared among them
E_MAX = 1e12  # where an e-value is cut off for JSON; far above any threshold
# Beta(1/2, 1/2) for the success rate: Jeffreys' prior. It expects rates near 0 or 1, and ours is near 1.
RATE_PRIOR = (0.5, 0.5)
# The ratio check's prior is worth so many clients. Fewer find coarse faults sooner (everybody in one variant),
# more find fine ones (11 % where 10 % should be); around 30 neither takes much longer than it could.
RATIO_PRIOR = 30


@dataclass(frozen=True, slots=True)
class Limits:
    """The parameters of the tests.

    Raises:
        ValueError: when they make no sense together.
    """

    p0: float = 0.005  # share of migrations that may fail
    p1: float = 0.05  # share that the test is quickest to find
    goal: float = 0.995  # migration success to certify
    alpha: float = (
        0.05  # chance of a false red in one whole rollout; also of a false certificate, a wrong interval
    )
    stages: int = 3  # of a rollout: 10 %, 50 %, 100 %
    ratio_alpha: float = 0.001  # chance of a false hold in one stage
    rate_ratios: tuple[float, ...] = (1.5, 2, 3, 5, 10)  # how much more often treatment may have errors

    def __post_init__(self) -> None:
        if not 0 < self.p0 < self.p1 < 1:
            raise ValueError(f"Migration failures need 0 < p0 < p1 < 1, not {self.p0} and {self.p1}.")
        if not 0 < self.goal < 1:
            raise ValueError(f"The goal of migration success lies between 0 and 1, and {self.goal} does not.")
        if not (1e-6 <= self.alpha < 1 and 1e-6 <= self.ratio_alpha < 1):
            raise ValueError(
                f"alpha and ratio_alpha lie between 1e-6 and 1, not {self.alpha} and {self.ratio_alpha}."
            )
        if not 1 <= self.stages <= 1000:
            raise ValueError(f"A rollout has between 1 and 1000 stages, not {self.stages}.")
        if not self.rate_ratios or min(self.rate_ratios) <= 1:
            raise ValueError(f"Rate ratios are greater than 1; {self.rate_ratios} are not.")

    @property
    def red_at(self) -> float:
        """The e-value that is red: every test of every stage gets an equal part of ``alpha``."""
        return self.stages * RED_TESTS / self.alpha


@dataclass(frozen=True, slots=True)
class Window:
    """What is new in a check. A client counts once per stage and class."""

    succeeded: int = 0  # clients whose migration succeeded for the first time in the stage
    failed: int = 0
    treatment: int = 0  # clients with the feature that sent a heartbeat in this window
    control: int = 0  # clients without it
    treatment_errors: int = (
        0  # clients with the feature and a first error in the stage, other than of a migration
    )
    control_errors: int = 0


@dataclass(frozen=True, slots=True)
class Totals:
    """Clients of the stage so far. Who was seen in both variants counts as treatment."""

    succeeded: int = 0
    failed: int = 0
    treatment: int = 0
    control: int = 0


@dataclass(frozen=True, slots=True)
class Memory:
    """What the tests remember between the checks of a stage; new in each.

    A *stake* is the logarithm of what is bet on the next window. A window without news is no round of the game: it
    changes nothing here.
    """

    migration_rounds: int = 0  # windows with migrations
    failures: float = log(1 / 2)  # stake
    error_rounds: int = 0  # windows with errors, while both variants were active
    comparison: tuple[float, ...] = ()  # a stake for each rate ratio; empty before the first round

    def as_dict(self) -> dict[str, Any]:
        """Return what :meth:`from_dict` makes the same memory of, exactly, also after JSON."""
        return asdict(self) | {"comparison": list(self.comparison)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Make a memory of what :meth:`as_dict` returned. Nothing makes a new one."""
        return cls(**{**stored, "comparison": tuple(stored.get("comparison", ()))})


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the tests say of a stage. E-values are cut off at ``E_MAX``."""

    signal: Signal
    reasons: tuple[str, ...]  # for the operator: why it is not green
    failures_e: float  # red at `red_at`
    comparison_e: float  # red at `red_at`
    ratio_e: float  # hold at 1 / `ratio_alpha`
    red_at: float
    rate: float | None  # of migrations that succeeded
    interval: (
        tuple[float, float] | None
    )  # around `rate`; right at every check at once with probability 1 - alpha
    certified: bool  # that the rate is above the goal
    certificate_e: float  # certified at 1 / `alpha`
    compared: bool  # False: there is no control group to compare with


def advance(memory: Memory, window: Window, limits: Limits) -> Memory:
    """Return what is to be remembered after one more check."""
    migration_rounds, failures = memory.migration_rounds, memory.failures
    if window.succeeded or window.failed:
        migration_rounds += 1
        log_ratio = window.failed * log(limits.p1 / limits.p0) + window.succeeded * (
            log1p(-limits.p1) - log1p(-limits.p0)
        )
        failures = _bet(failures, log_ratio, migration_rounds)

    error_rounds, comparison = memory.error_rounds, memory.comparison
    # Below zero is a correction of an earlier check, which is no evidence.
    ours, theirs = max(window.treatment_errors, 0), max(window.control_errors, 0)
    if window.control > 0 and ours + theirs > 0:
        # An error is a sign of life, so a window has at least as many clients as clients with errors.
        treatment = max(window.treatment, ours)
        share = treatment / (treatment + window.control)
        error_rounds += 1
        comparison = tuple(
            _bet(stake, ours * log(ratio) - (ours + theirs) * log1p((ratio - 1) * share), error_rounds)
            for stake, ratio in zip(_comparison(memory, limits), limits.rate_ratios, strict=True)
        )
    return Memory(migration_rounds, failures, error_rounds, comparison)


def assess(memory: Memory, totals: Totals, share: Decimal | float, limits: Limits) -> Assessment:
    """Say what the tests make of a stage.

    Args:
        share: how many of all clients are to have the feature, 0-1.
    """
    share = float(share)
    # At 100 % whoever is left without the feature opted out, or is a stale tab: nobody to compare with.
    compared = 0 < share < 1 and totals.control > 0
    stakes = _comparison(memory, limits)
    certificate_e = _exp(log_certificate_e(totals.succeeded, totals.failed, limits.goal))
    migrations = totals.succeeded + totals.failed
    plain = Assessment(
        signal=Signal.GREEN,
        reasons=(),
        failures_e=_e_value(memory.failures, memory.migration_rounds),
        comparison_e=fsum(_e_value(stake, memory.error_rounds) for stake in stakes) / len(stakes)
        if compared
        else 1.0,
        ratio_e=_exp(log_ratio_e(totals.treatment, totals.control, share)) if compared else 1.0,
        red_at=limits.red_at,
        rate=totals.succeeded / migrations if migrations else None,
        interval=success_interval(totals.succeeded, totals.failed, limits.alpha) if migrations else None,
        certified=certificate_e >= 1 / limits.alpha,
        certificate_e=certificate_e,
        compared=compared,
    )
    findings = tuple(_findings(plain, totals, share, limits))
    return replace(
        plain,
        signal=worst(signal for signal, _ in findings),
        reasons=tuple(reason for _, reason in findings),
    )


def _findings(seen: Assessment, totals: Totals, share: float, limits: Limits) -> Iterator[tuple[Signal, str]]:
    """Say what speaks against green, and why, as an operator would read it."""
    if seen.failures_e >= limits.red_at:
        clients = f"{totals.failed:,} of {totals.succeeded + totals.failed:,} clients"
        chance = _chance(seen.failures_e, f"at most {ratio(limits.p0)} of migrations fail")
        yield (
            Signal.RED,
            f"Migration failures, in the whole stage or recently: {clients} failed. {chance}",
        )
    if seen.comparison_e >= limits.red_at:
        chance = _chance(seen.comparison_e, "the feature makes no difference")
        yield Signal.RED, f"Errors are more frequent with the feature than without it. {chance}"
    if seen.ratio_e >= 1 / limits.ratio_alpha:
        clients = f"{totals.treatment:,} of {totals.treatment + totals.control:,} clients have the feature"
        yield (
            Signal.NO_DATA,
            f"Sample ratio mismatch: {clients} ({ratio(share)} expected). Assignment or telemetry is broken.",
        )
    if seen.interval is not None and seen.interval[1] < limits.goal:
        low, high = map(ratio, seen.interval)
        yield (
            Signal.YELLOW,
            f"Migration success: {low} to {high} (goal {ratio(limits.goal)}).",
        )


def log_certificate_e(succeeded: int, failed: int, goal: float) -> float:
    """Return the logarithm of the evidence that the success rate is above ``goal``: a mixture over all rates above."""
    a, b = RATE_PRIOR
    above, above_before = betaincc(a + succeeded, b + failed, goal), betaincc(a, b, goal)
    if above == 0:  # below 1e-308, in truth
        return -float("inf")
    log_mixture = betaln(a + succeeded, b + failed) + log(above) - betaln(a, b) - log(above_before)
    return float(log_mixture - succeeded * log(goal) - failed * log1p(-goal))


def log_ratio_e(treatment: int, control: int, share: float) -> float:
    """Return the logarithm of the evidence that clients with the feature are not ``share`` (0-1, exclusive) of all."""
    a, b = RATIO_PRIOR * share, RATIO_PRIOR * (1 - share)
    log_mixture = betaln(a + treatment, b + control) - betaln(a, b)
    return float(log_mixture - treatment * log(share) - control * log1p(-share))


def success_interval(succeeded: int, failed: int, alpha: float) -> tuple[float, float]:
    """Return the success rates that the data do not exclude, at whatever check they are looked at.

    With probability 1 - ``alpha`` no interval of a whole stage misses the true rate. Needs at least one migration.
    """
    return _lowest_rate(succeeded, failed, alpha), 1 - _lowest_rate(failed, succeeded, alpha)


def _lowest_rate(hits: int, misses: int, alpha: float) -> float:
    """Return the lowest share of hits that is not excluded: the lower root of mixture ratio = 1 / alpha."""
    a, b = RATE_PRIOR  # symmetric, so hits and misses may change places
    log_mixture = betaln(a + hits, b + misses) - betaln(a, b)

    def excess(rate: float) -> float:
        return float(log_mixture - hits * log(rate) - misses * log1p(-rate) + log(alpha))

    lowest = 1e-12
    observed = min(hits / (hits + misses), 1 - 1e-12)
    if not hits or excess(lowest) <= 0:
        return 0.0
    return float(brentq(excess, lowest, observed, xtol=1e-12))


def _bet(stake: float, log_ratio: float, rounds: int) -> float:
    """Return the stake of the next round, after round number ``rounds`` has paid ``log_ratio``.

    Something may break at any time, so a part 1/(k(k+1)) of the starting money is held back until round k; all these
    parts sum to 1. Round after round: stake = what the last one left + the part that is due.
    """
    return _log_add(stake + log_ratio, -log((rounds + 1) * (rounds + 2)))


def _e_value(stake: float, rounds: int) -> float:
    """Return all that is owned after ``rounds``: the stake of the next one, and what is held back beyond that."""
    return min(_exp(stake) + 1 / (rounds + 2), E_MAX)


def _comparison(memory: Memory, limits: Limits) -> tuple[float, ...]:
    """Return the stakes on the rate ratios. When their number was changed within a stage, bets begin anew from now on.

    What had been bet before is given up, which can only make the test more careful.
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
