"""Percents and durations read the same on every screen, in every message and at every terminal."""

from datetime import timedelta
from decimal import Decimal

import pytest

from rollout.units import brief_ratio, duration, percent, ratio, ratio_range, read_percent


@pytest.mark.parametrize(
    ("percentage", "text"),
    [
        (Decimal("10.00"), "10 %"),
        (Decimal("100.00"), "100 %"),
        (Decimal(0), "0 %"),
        (Decimal("0.01"), "0.01 %"),
        (Decimal("1.7501"), "1.7501 %"),  # entered, so not rounded
        (100, "100 %"),
        (50.0, "50 %"),
        (99.5123, "99.512 %"),
        (99.99999, "100 %"),
    ],
)
def test_percentages(percentage: Decimal | float, text: str) -> None:
    assert percent(percentage) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.07, "7 %"),
        (0.995, "99.5 %"),
        (1, "100 %"),
        (Decimal("0.020000"), "2 %"),
        (Decimal(0), "0 %"),
        (Decimal("0.1"), "10 %"),
        (Decimal("0.017501"), "1.7501 %"),
    ],
)
def test_shares_are_percentages(share: Decimal | float, text: str) -> None:
    assert ratio(share) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (0, "0 s"),
        (0.5, "0.5 s"),
        (1.234, "1 s"),
        (0.04, "0 s"),
        (30, "30 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (90, "1 min 30 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h"),
        (3 * 3600 + 300, "3 h 5 min"),
        (86_400, "24 h"),
        (2 * 86_400 - 31, "47 h 59 min"),
        (2 * 86_400 - 20, "2 days"),
        (90 * 86_400 + 2 * 3600, "90 days 2 h"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("share", "limits", "text"),
    [
        (0.92447, [0.995, 0.95], "92.4 %"),
        (0.995, [0.995], "99.5 %"),
        (0.99498, [0.995], "just under 99.5 %"),
        (0.99523, [0.995], "just over 99.5 %"),
        (0.0701, [0.07], "just over 7 %"),
        (0.07, [0.07], "7 %"),  # 0.07 * 100 is not 7
        (0.9997, [], "over 99.9 %"),  # not all
        (0.0004, [], "under 0.1 %"),  # not none
        (1, [0.995], "100 %"),
        (0, [], "0 %"),
    ],
)
def test_a_brief_ratio_has_one_decimal_and_never_looks_equal_to_a_limit(
    share: float, limits: list[float], text: str
) -> None:
    assert brief_ratio(share, limits) == text


@pytest.mark.parametrize(
    ("text", "percentage"),
    [("10", "10"), (" 0.5 % ", "0.5"), ("10%", "10"), ("-0", "0"), ("-5", "-5"), ("1e1", "10")],
)
def test_a_percentage_is_read_as_a_person_writes_it(text: str, percentage: str) -> None:
    assert f"{read_percent(text):f}" == percentage


@pytest.mark.parametrize(
    "text", ["", " ", "%", "ten", "nan", "-inf", "1_0", "10,5", "1e999999999999999999999", "0x10"]
)
def test_what_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"enter a number from 0 to 100\.$"):
        read_percent(text)


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.003, 0.028, "0.3 % to 2.8 %"),
        (0.00487, 0.00514, "about 0.5 %"),
        (0.99951, 0.99972, "over 99.9 %"),
        (0.5, 0.5, "50 %"),
        (0.9949, 1.0, "just under 99.5 % to 100 %"),
    ],
)
def test_a_range_has_two_ends_unless_they_look_equal(low: float, high: float, text: str) -> None:
    assert ratio_range(low, high, [0.995]) == text
