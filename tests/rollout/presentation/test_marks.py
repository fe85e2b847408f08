"""Marks of the charts: what has one, where it stands, and what it says."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rollout.presentation.charts import Moment
from rollout.presentation.marks import draw_marks, note

NOON = datetime(2026, 8, 11, 12, tzinfo=UTC)


def moment(minute: int, percentage: float, **state: Any) -> Moment:
    states: dict[str, Any] = {
        "enabled": True,
        "on_hold": False,
        "emergency_stop": False,
        "who": "maria",
        **state,
    }
    return Moment(NOON + timedelta(minutes=minute), percentage, **states)


def test_promotions_rollbacks_and_stops_have_a_mark_and_nothing_else_has() -> None:
    moments = [
        moment(-30, 0),
        moment(-20, 5),  # before the chart
        moment(0, 10),
        moment(10, 10, on_hold=True),
        moment(15, 50),
        moment(30, 50, emergency_stop=True),
        moment(45, 50),
        moment(60, 0, who="the judge"),
    ]
    marks = draw_marks(moments, start=NOON, end=NOON + timedelta(hours=1))
    assert [(mark.x, mark.kind, mark.symbol) for mark in marks] == [
        ("0.000%", "promotion", "▲"),
        ("25.000%", "promotion", "▲"),
        ("50.000%", "stop", "■"),
        ("75.000%", "release", "□"),
        ("100.000%", "rollback", "▼"),
    ]
    assert marks[-1].note == "2026-08-11 13:00 UTC: rolled back from 50 % to 0 %, by the judge"


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (None, moment(0, 10), "10 %, by maria"),
        (moment(0, 10), moment(0, 50), "promoted from 10 % to 50 %, by maria"),
        (moment(0, 50), moment(0, 10), "lowered from 50 % to 10 %, by maria"),
        (moment(0, 50), moment(0, 50, emergency_stop=True), "emergency stop, at 50 %, by maria"),
        (moment(0, 50, emergency_stop=True), moment(0, 50), "emergency stop released, at 50 %, by maria"),
        (moment(0, 50), moment(0, 50, on_hold=True, who=""), "50 %"),
    ],
)
def test_a_mark_says_when_what_and_who(before: Moment | None, after: Moment, words: str) -> None:
    assert note(before, after) == f"2026-08-11 12:00 UTC: {words}"
