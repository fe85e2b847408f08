"""The files under deploy/ use metrics that exist."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import patroni  # type: ignore[import-untyped]  # it has no types
import pytest
import yaml
from prometheus_client import REGISTRY

from tests.canary import judged_rollouts
from tests.servers import PROJECT, Server

RULES = yaml.safe_load((PROJECT / "deploy" / "prometheus-rules.yml").read_text())
DASHBOARD = json.loads((PROJECT / "deploy" / "grafana-dashboard.json").read_text())
# Words of PromQL; whatever else stands outside braces, brackets and quotes is a metric.
WORDS = {
    *("sum", "max", "by", "and", "or", "offset", "rate", "increase", "histogram_quantile", "time", "vector"),
    *("absent", "unless", "label_replace", "label_values"),
}
# Series of other programs: Prometheus itself, postgres_exporter, and those that Patroni writes.
ANOTHER_S = {
    *("up", "pg_stat_replication_pg_wal_lsn_diff"),
    *re.findall(r"# TYPE (patroni_\w+) ", Path(patroni.__file__).with_name("api.py").read_text()),
}


def metrics_of(expression: str) -> set[str]:
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|on) \([^)]*\)|\boffset \w+', " ", expression)
    bare = bare.removesuffix(", feature)")
    return set(re.findall(r"\b[a-z_]{2,}\b", bare)) - WORDS


def rule_expressions() -> dict[str, str]:
    return {rule["alert"]: rule["expr"] for group in RULES["groups"] for rule in group["rules"]}


def dashboard_expressions() -> dict[str, str]:
    panels = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", [])
    }
    annotations = {note["name"]: note["expr"] for note in DASHBOARD["annotations"]["list"]}
    variables = {each["name"]: each["query"] for each in DASHBOARD["templating"]["list"] if "query" in each}
    return panels | annotations | {"feature": variables["feature"]}


@pytest.fixture(scope="module")
def known(server: Server) -> set[str]:
    """Return every series that /metrics can show: counters, and values that are read at each scrape."""
    with judged_rollouts(server) as make:
        canary = make()
        canary.send("migration_succeeded", clients=3)
        canary.check()
        scraped = httpx.get(f"{server.url}/metrics", timeout=30).text
    series = set(re.findall(r"^([a-z_]+)(?:\{| )", scraped, re.MULTILINE))
    for family in REGISTRY.collect():
        suffixes: dict[str, tuple[str, ...]] = {
            "counter": ("_total",),
            "histogram": ("_bucket", "_count", "_sum"),
        }
        series |= {family.name + suffix for suffix in suffixes.get(family.type, ("",))}
    return series | ANOTHER_S


@pytest.mark.parametrize("name", rule_expressions())
def test_every_metric_of_a_rule_exists(known: set[str], name: str) -> None:
    found = metrics_of(rule_expressions()[name])
    assert found
    assert found <= known


@pytest.mark.parametrize("name", dashboard_expressions())
def test_every_metric_of_the_dashboard_exists(known: set[str], name: str) -> None:
    found = metrics_of(dashboard_expressions()[name])
    assert found
    assert found <= known


def test_a_rule_says_how_grave_it_is_and_what_to_do() -> None:
    for group in RULES["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in {"warning", "critical"}
            assert rule["annotations"].keys() == {"summary", "description"}


def test_panels_do_not_overlap() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place: dict[str, Any] = panel["gridPos"]
        mine = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not mine & cells, panel["title"]
        assert place["x"] + place["w"] <= 24
        cells |= mine


@pytest.mark.parametrize(
    "tests", sorted(PROJECT.glob("deploy/**/*.test.yml")), ids=lambda path: f"{path.relative_to(PROJECT)}"
)
def test_the_rules_fire_when_they_should(tests: Path) -> None:
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("promtool is missing: apt-get install prometheus")
    run = subprocess.run([promtool, "test", "rules", str(tests)], check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
