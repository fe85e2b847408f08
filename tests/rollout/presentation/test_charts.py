"""The chart of the judge's checks: its shapes, its summary and its SVG file."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree

import pytest

from rollout.presentation import charts

NOON = datetime(2026, 8, 11, 12, tzinfo=UTC)


def points(*signals: str, every: int = 1, percentage: float = 10) -> list[charts.Point]:
    scores = {"green": 0, "yellow": 9, "hold": 0, "red": 30}
    return [
        charts.Point(NOON + timedelta(minutes=every * number), signal, scores[signal], percentage)
        for number, signal in enumerate(signals, 1)
    ]


def left(cell: Any) -> float:
    return float(cell.x.rstrip("%"))


def right(cell: Any) -> float:
    return left(cell) + float(cell.width.rstrip("%"))


def test_each_check_is_a_cell_and_cells_follow_without_a_gap() -> None:
    drawn = charts.draw_checks(points(*["green"] * 10, "red", "hold"), threshold=15)
    assert [cell.signal for cell in drawn.cells] == ["green"] * 10 + ["red", "hold"]
    for cell, following in zip(drawn.cells, drawn.cells[1:], strict=False):
        assert right(cell) == pytest.approx(left(following), abs=0.01)
    assert left(drawn.cells[0]) == 0
    assert right(drawn.cells[-1]) == pytest.approx(100, abs=0.01)
    assert drawn.words == "12 checks: worst signal red, highest score 30"
    assert [(line.x, line.end, line.y, line.next_y) for line in drawn.limits] == [
        ("0.000%", "100.000%", "50.000%", "")
    ]
    assert (drawn.limit, drawn.limit_y, drawn.limits_between) == ("15", "50.000%", "15")
    assert drawn.cells[10].height == "100.000%"


def test_many_checks_share_a_cell_and_the_worst_signal_wins() -> None:
    signals = ["green"] * 2000
    signals[1000] = "red"
    drawn = charts.draw_checks(points(*signals), threshold=15)
    assert 100 <= len(drawn.cells) <= charts.CELLS + 1
    assert [cell.signal for cell in drawn.cells].count("red") == 1
    assert sum(int(re.findall(r"(\d+) checks", cell.note)[0]) for cell in drawn.cells) == 2000


def test_a_judge_that_was_away_leaves_a_gap() -> None:
    seen = points(*["green"] * 40)
    drawn = charts.draw_checks(seen[:10] + seen[20:], threshold=15)
    gaps = [left(after) - right(cell) for cell, after in zip(drawn.cells, drawn.cells[1:], strict=False)]
    assert sum(gap > 20 for gap in gaps) == 1
    assert max(gaps) == pytest.approx(25, abs=3)


def test_one_very_bad_check_does_not_flatten_the_others() -> None:
    drawn = charts.draw_checks(
        [*points("yellow", "yellow"), charts.Point(NOON + timedelta(minutes=3), "red", 900, 10)], threshold=15
    )
    assert drawn.top == "60+"
    assert [cell.height for cell in drawn.cells] == ["15.000%", "15.000%", "100.000%"]


def test_the_red_line_is_the_limit_that_each_check_used() -> None:
    grown = [
        charts.Point(NOON + timedelta(minutes=minute), "green", 5, 10, limit=limit)
        for minute, limit in enumerate([15.0] * 10 + [60.0] * 10, 1)
    ]
    drawn = charts.draw_checks(grown, threshold=15)
    assert [(line.x, line.end, line.y, line.next_y) for line in drawn.limits] == [
        ("0.000%", "50.000%", "81.250%", "25.000%"),
        ("50.000%", "100.000%", "25.000%", ""),
    ]
    assert (drawn.limit, drawn.limit_y, drawn.limits_between, drawn.top) == (
        "60",
        "25.000%",
        "15 to 60",
        "80",
    )
    assert drawn.cells[0].note.endswith("green, score 5 points (red from 15), at 10 %")
    assert drawn.cells[-1].note.endswith("green, score 5 points (red from 60), at 10 %")


def test_labels_of_the_score_do_not_overlap() -> None:
    shrunk = [
        charts.Point(NOON + timedelta(minutes=minute), "green", 0, 10, limit=limit)
        for minute, limit in enumerate([750.0] * 10 + [15.0] * 10, 1)
    ]
    drawn = charts.draw_checks(shrunk, threshold=15)
    assert (drawn.top, drawn.limit, drawn.zero) == ("1,000", "15", "")


def test_a_low_score_can_still_be_seen_beside_a_high_limit() -> None:
    drawn = charts.draw_checks(
        [charts.Point(NOON, "green", score, 10, limit=750) for score in (1, 0)], threshold=15
    )
    assert [cell.height for cell in drawn.cells] == ["2.000%"]


def test_the_score_and_each_class_of_errors_has_a_line_and_a_column() -> None:
    def check(minute: int, score: int, **parts: int) -> charts.Point:
        return charts.Point(NOON + timedelta(minutes=minute), "red", score, 10, parts=parts)

    drawn = charts.draw_checks([check(1, 20, migration=20), check(2, 8, warning=3, default=9)], threshold=15)
    assert [line.label for line in drawn.lines] == [
        "Score",
        "Migration failures",
        "Validation errors",
        "Other errors",
        "Console warnings",
    ]
    assert {line.name: [part.y for part in line.segments] for line in drawn.lines} == {
        "score": ["0.000%", "60.000%"],
        "migration": ["0.000%", "100.000%"],
        "validation": ["100.000%"],
        "default": ["100.000%", "55.000%"],
        "warning": ["100.000%", "85.000%"],
    }
    assert [cell.row for cell in drawn.cells] == [
        ["2026-08-11 12:01", "red", "10 %", "15", "20", "20", "0", "0", "0"],
        ["2026-08-11 12:02", "red", "10 %", "15", "8", "0", "0", "9", "3"],
    ]
    assert drawn.cells[0].note == (
        "2026-08-11 12:01 UTC: red, score 20 points (red from 15), at 10 %; migration failures 20 points"
    )
    assert charts.draw_checks(points("red", "red"), threshold=15).lines == []  # nobody knows


def test_percentages_step_where_they_changed() -> None:
    climbed = [*points(*["green"] * 10), *points(*["green"] * 20, percentage=50)[10:]]
    end = charts.Point(NOON + timedelta(minutes=20), "", 0, 0)
    drawn = charts.draw_checks([*climbed, end], threshold=15)
    assert [level.label for level in drawn.levels] == ["10 %", "50 %", "0 %"]
    assert left(drawn.levels[0]) == 0
    assert right(drawn.levels[1]) == pytest.approx(100, abs=0.01)
    assert right(drawn.levels[0]) == pytest.approx(55, abs=0.1)
    assert len(drawn.cells) == 20


def test_a_picture_stands_by_itself_and_runs_nothing(database: None) -> None:
    text = charts.chart_svg(points("green", "hold", "red"), threshold=15, title="<script>alert(1)</script>")
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme: dark" in text
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags <= {"svg", "title", "style", "rect", "text", "defs", "pattern", "g", "line"}
    assert not re.search(r"(href|src)=", text)
