"""Reports in benchmarks/*.md show the measured figures."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import judge, purge, scale
from benchmarks.atrest import AtRest
from benchmarks.comparison import as_json
from benchmarks.figures import Sample
from benchmarks.report import speed_row, table, write
from benchmarks.results import rendered
from benchmarks.rounds import Measured
from tests.benchmarks.made_up import comparison, samples

FOUND = comparison()
LINES = rendered(FOUND, {"command": "python -m benchmarks"})
TEXT = "\n".join(LINES)


@pytest.mark.parametrize(
    "row",
    [
        "| create_vs_plain | 1.10 | ≥ 3.00 | 1.00-1.20 | plain / fundapi: create |",
        "| replay_vs_best_django_peer | 0.55 | - | 0.50-0.60 | open: replay / fundapi: replay |",
        "| fundapi: create | new keys | 9.09 | 8.33-10.00 | 110 | 100-120 | 1.50 | 9.25 |",
        "| ours | 1.38 | ≤ 1.2 | 1.25-1.50 |",
        "| plain | 1.50 | - | 1.00-2.00 |",
        "| fundapi | 80 | ≤ 80 | 60 | 50 |",
        "| broken | does not start: no \\| such file |",
        "| ofrep | ConnectionError() |",
        "| 64 clients | 1 | 64 | 1 x 201, 63 x 409 | 1.00 |",
    ],
)
def test_a_figure_stands_in_its_row(row: str) -> None:
    assert row in LINES


def test_the_settings_come_first() -> None:
    assert (
        TEXT.index("- command: python -m benchmarks") < TEXT.index("- python: 3.11") < TEXT.index("## Ratios")
    )


def test_each_ratio_is_explained() -> None:
    assert (
        "- `create_vs_plain`: The create of stock DRF without idempotency, beside a guarded create." in TEXT
    )
    assert "- `replay_vs_best_safe_peer`: Their cheapest replay." in TEXT


def test_messages_and_their_statements_are_counted_and_shown() -> None:
    assert (
        "For one create, 2 messages with 3 statements; for one replay, 1 messages with 1 statements." in TEXT
    )
    assert "SELECT $1;\n-- prepared\n-- $1 = %%uuid0%%" in TEXT


def test_every_table_has_as_many_cells_in_each_row() -> None:
    columns = None
    for line in LINES:
        cells = line.replace("\\|", "").count("|") if line.startswith("|") else None
        assert cells is None or columns in {None, cells}, line
        columns = cells


def test_the_document_is_json() -> None:
    document = json.loads(json.dumps(as_json(FOUND)))
    assert document["samples"]["plain"][0]["rate"] == 100
    assert document["peers"]["broken"]["failure"].startswith("does not start")


def test_cpu_that_was_not_measured_is_a_dash_and_null(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of pgbench, which has no web worker. JSON knows no NaN."""
    sample = Sample(count=10, rate=50, p50=1, p99=2)
    assert speed_row("floor: pgbench", "SQL", [sample])[2:5] == ["-", "-", "50"]
    monkeypatch.setattr("benchmarks.report.RESULTS", tmp_path)
    write("made-up", [], {"samples": [asdict(sample)]})
    assert json.loads((tmp_path / "made-up.json").read_text())["samples"][0]["cpu"] is None


def test_a_cell_cannot_end_a_row() -> None:
    assert table(("a",), [["x|y\nz"]]) == ["| a |", "|---|", "| x\\|y z |", ""]


def test_the_bytes_of_a_key_are_told_by_relation_and_added_up() -> None:
    sized = AtRest(keys=1000, sizes={"heap": 580_000, "TOAST": 0, "index store_pkey": 40_000})
    measured = Measured(
        {"create, 0 keys": samples(100, 100), "create, 1,000 keys": samples(90, 110)}, {"replay": "OSError()"}
    )
    found = scale.Scale({}, (0, 1000), dict.fromkeys(measured.samples, "new keys"), measured, (sized,))
    lines = scale.rendered(found, {})
    assert "| heap | 0.6 | 580.0 |" in lines
    assert "| all | 0.6 | 620.0 |" in lines
    assert "| create, 1,000 keys / create, 0 keys | 1.00 | 0.90-1.10 |" in lines
    assert "| replay | OSError() |" in lines


def test_a_purge_is_told_beside_creates_alone() -> None:
    found = purge.Purged({}, 1.0, {purge.ALONE: samples(100), purge.BESIDE: samples(80)}, [20_000.0])
    lines = purge.rendered(found, {})
    assert "| rate beside / alone | 0.80 | 0.80-0.80 |" in lines
    assert "Deleted meanwhile: 20,000 keys per second (20,000 to 20,000)." in lines


@pytest.mark.parametrize(("keys", "seconds"), [(20_000, 1 / 6), (10_000_000, 3)])
def test_a_round_beside_a_purge_ends_before_the_keys_do(keys: int, seconds: float) -> None:
    assert purge.seconds_for(keys, rounds=2, seconds=3) == pytest.approx(seconds)


def test_the_judge_is_told_with_its_plans() -> None:
    text = "\n".join(judge.rendered({"a check": 12.34, "rows": 5000}, {"window": "Index Scan"}, {}))
    assert "| a check | 12.3 |\n| rows | 5,000 |" in text
    assert "```\nIndex Scan\n```" in text
