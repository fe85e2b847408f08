"""The report on two layouts adds up what a key costs, and compares."""

import pytest

from benchmarks.figures import Sample
from benchmarks.partitions import Figures, Request, Spent, life_rows, rendered

SAMPLE = Sample(count=100, rate=50, p50=12, p99=34)


def figures(cpu: float, *, drop: bool) -> Figures:
    """Steps of ten keys: each takes so many µs of CPU and 100 bytes of log for a key."""
    step = Spent(seconds=1, cpu=10 * cpu / 1e6, log=1000, count=10)
    names = ["fill", "batches", "vacuum", *(["drop"] if drop else [])]
    request = Request(SAMPLE, Spent(seconds=2, cpu=0.1, log=5000, count=100))
    return Figures(
        requests={"create, nothing": [request], "create, purge": [request]},
        steps=dict.fromkeys(names, step),
        dead=[3, 4],
        disk=500,
    )


FOUND = {"one table": figures(10, drop=False), "two tables": figures(8, drop=True)}


def test_steps_add_up() -> None:
    assert Spent(1, 2, 3, 4) + Spent(10, 20, 30, 40) == Spent(11, 22, 33, 44)


def test_a_life_is_the_sum_of_its_steps_relative_to_the_other() -> None:
    assert life_rows(FOUND) == [
        ["one table", "30", "300", "500"],
        ["two tables", "32", "400", "500"],
        ["second / first", "1.07", "1.33", "1.00"],
    ]


@pytest.mark.parametrize(
    "line",
    [
        "| one table | batches | 10 | 1.0 | 10.0 | 100.0 |",
        "| two tables | drop | 10 | 1.0 | 8.0 | 100.0 |",
        "| one table | create | nothing | 50 | 12.0 | 34.0 | 1000 | 50 |",
        "| one table | create | purge | 50 | 12.0 | 34.0 |  |  |",
        "Dead rows that a VACUUM finds, at most: 4 with one table, 4 with two tables.",
    ],
)
def test_a_figure_stands_in_its_row(line: str) -> None:
    assert line in rendered(FOUND, {})
