"""The charts of a stage's rates: scale, intervals, limits, gaps."""

from datetime import UTC, datetime, timedelta

import pytest

from rollout.judge.policy import Policy
from rollout.presentation import rates
from rollout.presentation.rates import Estimate, RateChart, Sample

NOON = datetime(2026, 8, 11, 12, tzinfo=UTC)
HOUR = NOON + timedelta(hours=1)


def estimate(rate: float, around: float = 0.01, clients: int = 500) -> Estimate:
    return Estimate(rate, (max(rate - around, 0), min(rate + around, 1)), clients)


def sample(minute: int, stage: int = 1, **estimates: Estimate) -> Sample:
    nobody = {"success": None, "errors": None, "baseline": None}
    return Sample(NOON + timedelta(minutes=minute), stage, **{**nobody, **estimates})


def draw(*samples: Sample) -> list[RateChart]:
    return rates.draw_rates(samples, start=NOON, end=HOUR, policy=Policy())


def steady(**estimates: Estimate) -> list[RateChart]:
    """Draw two samples alike: one is no line."""
    return draw(sample(1, 1, **estimates), sample(2, 1, **estimates))


def test_each_metric_has_a_chart_with_and_without_the_feature_and_what_nobody_reported_has_none() -> None:
    both = {"success": estimate(0.99), "errors": estimate(0.02), "baseline": estimate(0.01)}
    success, errors = steady(**both)
    assert (success.title, [series.name for series in success.series]) == (
        "Migration success rate",
        ["with the feature"],
    )
    assert (errors.title, [series.style for series in errors.series]) == (
        "Clients with errors",
        ["without", "with"],
    )
    assert success.words == "Migration success rate: with the feature 99 % of 500 clients (98 % to 100 %)"
    assert "without it 1 % of 500 clients (0 % to 2 %)" in errors.words
    assert [chart.title for chart in steady(errors=estimate(0))] == ["Clients with errors"]
    assert steady() == []
    assert draw(sample(1, 1, **both)) == []


def test_the_interval_is_a_band_around_the_rate() -> None:
    (chart,) = draw(*(sample(minute, success=estimate(0.96, 0.02)) for minute in range(10, 61, 10)))
    (series,) = chart.series
    assert [(band.y, band.height) for band in series.bands] == [("20.000%", "40.000%")] * 6
    assert [(part.x, part.end, part.y) for part in series.line] == [("0.000%", "100.000%", "40.000%")]
    assert series.bands[0].note == (
        "2026-08-11 12:10 UTC: with the feature 96 % of 500 clients (94 % to 98 %); green over 99.5 %, red under 95 %"
    )


def test_the_scale_has_room_for_the_rate_and_marks_the_limits_that_it_shows() -> None:
    (chart,) = steady(success=estimate(0.96))
    assert [(mark.label, mark.kind, mark.y) for mark in chart.marks] == [
        ("95 %", "bad", "50.000%"),
        ("99.5 %", "good", "5.000%"),
        ("90 %", "end", "100.000%"),
        ("", "end", "0.000%"),  # no room beside 99.5 %
    ]
    (low,) = steady(success=estimate(0.3))
    assert [mark.label for mark in low.marks] == ["95 %", "", "0 %", ""]
    (errors,) = steady(errors=estimate(0.3))
    assert [mark.label for mark in errors.marks] == ["1 %", "", "50 %"]


@pytest.mark.parametrize("rate", [0, 1])
def test_the_extremes_are_drawn(rate: float) -> None:
    success, errors = steady(success=estimate(rate), errors=estimate(rate))
    for chart in (success, errors):
        for band in chart.series[-1].bands:
            assert 0 <= float(band.y[:-1]) <= float(band.y[:-1]) + float(band.height[:-1]) <= 100


def test_a_stage_that_nobody_reported_has_no_line_beside_another_that_has_one() -> None:
    [errors] = draw(sample(1, 1, errors=estimate(0.01)), sample(2, 2), sample(3, 3, errors=estimate(0.02)))
    [ours] = errors.series
    assert len(ours.line) == 2


def test_a_new_stage_and_a_judge_that_was_away_break_the_line() -> None:
    seen = [sample(minute, success=estimate(0.96)) for minute in range(5, 20)]
    seen += [sample(minute, success=estimate(0.97)) for minute in range(40, 50)]
    seen += [sample(minute, 2, success=estimate(1)) for minute in range(50, 60)]
    (chart,) = draw(*seen)
    line = chart.series[0].line
    assert [(part.x, part.end) for part in line] == [
        ("6.667%", "31.667%"),
        ("65.000%", "81.667%"),
        ("81.667%", "98.333%"),
    ]
    assert [part.next_y for part in line] == [""] * 3
