"""Percents, durations and numbers in words: the one formatter of each, and the one reader of percents. Pure."""

from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal, InvalidOperation

MINUTE, HOUR, DAY = 60, 3_600, 86_400  # s


def points(score: int) -> str:
    return "1 point" if score == 1 else f"{score:,} points"


def clients(many: int) -> str:
    return "1 client" if many == 1 else f"{many:,} clients"


def percent(percentage: Decimal | float) -> str:
    """Return a percentage (0-100) as text: ``10 %``, ``99.512 %``.

    A Decimal was entered, so all its digits count. A float was computed, and is rounded to three decimals: as fine as
    the judge's thresholds, so that a rate just under one does not look equal to it.
    """
    exact = percentage if isinstance(percentage, Decimal) else Decimal(f"{percentage:.3f}")
    return f"{exact.normalize():f} %"


def read_percent(text: str) -> Decimal:
    """Return the percentage that a person typed: ``10``, ``0.5``, ``10 %``. Its range is the operation's to check.

    Raises:
        ValueError: the sentence for the person.
    """
    try:
        percentage = Decimal(text.strip().rstrip("% "))
    except InvalidOperation:
        percentage = Decimal("NaN")
    if not percentage.is_finite() or "_" in text:
        given = f"{text!r} is not a percentage" if text.strip() else "The percentage is missing"
        raise ValueError(f"{given}: enter a number from 0 to 100.")
    return percentage or Decimal(0)  # "-0" is 0


def ratio(share: Decimal | float) -> str:
    """Return a share (0-1) as a percentage: ``0.995`` is ``99.5 %``."""
    return percent(share * 100)


def brief_ratio(share: float, limits: Iterable[float] = ()) -> str:
    """Return a share (0-1) as a percentage with one decimal, or in words where that would look equal to a limit.

    ``0.99498`` is ``99.5 %``, but ``just under 99.5 %`` beside the limit ``0.995``. 0 and 1 are always limits.
    """
    rounded = round(share * 100, 1)
    if rounded == 0 != share:
        return "under 0.1 %"
    if rounded == 100 and share != 1:
        return "over 99.9 %"
    for limit in limits:
        if (rounded > limit * 100) - (rounded < limit * 100) != (share > limit) - (share < limit):
            side = "just over " if share > limit else "just under " if share < limit else ""
            return f"{side}{ratio(limit)}"
    return percent(rounded)


def ratio_range(low: float, high: float, limits: Iterable[float] = ()) -> str:
    """Return two shares (0-1) as ``0.3 % to 0.6 %``; as ``about 0.3 %`` where they would look equal."""
    limits = tuple(limits)
    ends = brief_ratio(low, limits), brief_ratio(high, limits)
    if ends[0] != ends[1]:
        return f"{ends[0]} to {ends[1]}"
    return f"about {ends[0]}" if low != high and ends[0][0].isdigit() else ends[0]


def duration(time: timedelta) -> str:
    """Return a duration in its two largest units: ``30 s``, ``1 min 30 s``, ``1 h 5 min``, ``2 days 3 h``.

    A negative one, of two clocks that disagree, is ``0 s``.
    """
    seconds = max(time.total_seconds(), 0.0)
    if seconds < MINUTE - 0.5:
        return f"{round(seconds, 0 if seconds >= 1 else 1):g} s"
    if seconds < HOUR - 0.5:
        large, small, names = MINUTE, 1, ("min", "s")
    elif seconds < 2 * DAY - MINUTE / 2:
        large, small, names = HOUR, MINUTE, ("h", "min")
    else:
        large, small, names = DAY, HOUR, ("days", "h")
    whole, rest = divmod(round(seconds / small), large // small)
    return f"{whole} {names[0]}" + (f" {rest} {names[1]}" if rest else "")
