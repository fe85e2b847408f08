"""The statistics of measurements."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import Sample, cheapest, cpu_ratios, quantile, ratios, rotated, summary

numbers = st.lists(st.floats(0.001, 1000), min_size=1)


def sample(rate: float, cpu: float = 1) -> Sample:
    return Sample(count=10, rate=rate, p50=1, p99=2, cpu=cpu)


def test_a_sample_counts_requests_and_tells_latencies_in_milliseconds() -> None:
    found = Sample.of([0.001] * 98 + [0.5] * 2, elapsed=4)
    assert (found.count, found.rate, found.p50) == (100, 25, 1)
    assert found.p99 == pytest.approx(500)


@given(numbers, st.integers(1, 99))
def test_a_quantile_is_never_beyond_what_was_measured(values: list[float], percent: int) -> None:
    assert min(values) * 0.999999 <= quantile(values, percent) <= max(values) * 1.000001


@pytest.mark.parametrize(("percent", "expected"), [(1, 2), (50, 51), (99, 100)])
def test_a_quantile_of_one_to_a_hundred_and_one(percent: int, expected: float) -> None:
    assert quantile(list(range(1, 102)), percent) == expected


def test_a_quantile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        quantile([], 50)


def test_a_summary_is_the_median_and_the_spread() -> None:
    found = summary([3, 1, 10])
    assert (found.median, found.lowest, found.highest) == (3, 1, 10)


def test_ratios_are_taken_round_by_round() -> None:
    assert ratios([sample(10), sample(30)], [sample(20), sample(10)]) == [0.5, 3]


def test_ratios_of_different_numbers_of_rounds_are_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratios([sample(1), sample(1)], [sample(1)])


def test_a_ratio_of_cpu_is_above_one_where_mine_takes_less() -> None:
    assert cpu_ratios([sample(1, cpu=2), sample(1, cpu=4)], [sample(9, cpu=3), sample(9, cpu=2)]) == [
        1.5,
        0.5,
    ]


def test_the_cheapest_has_the_lowest_median_not_the_lowest_round() -> None:
    lucky = [sample(1, cpu=9), sample(1, cpu=9), sample(1, cpu=1)]
    assert cheapest({"lucky": lucky, "steady": [sample(1, cpu=5)] * 3}) == "steady"


@given(st.lists(st.integers()), st.integers(0, 20))
def test_a_rotation_keeps_everything_in_its_order(items: list[int], turns: int) -> None:
    turned = rotated(items, turns)
    assert sorted(turned) == sorted(items)
    assert not items or turned[0] == items[turns % len(items)]
    assert rotated(turned, -turns) == items
