"""Run every variant in turn, several rounds, on one private stack; print and write medians and ratios."""

import argparse
import json
import os
import platform
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.client import request, run
from fundapi.embedded import services

PROJECT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent
BODY = json.dumps(
    {
        "name": "Harbor Growth I",
        "size": 250_000_000,
        "managementFee": 0.02,
        "carryPercentage": 0.2,
        "vintageYear": 2025,
    }
).encode()
STOCK_BODY = json.dumps(
    {
        "name": "Harbor Growth I",
        "size": 250_000_000,
        "management_fee": 0.02,
        "carry_percentage": 0.2,
        "vintage_year": 2025,
    }
).encode()


@dataclass(frozen=True)
class Variant:
    """One thing to measure: where to POST what, under which keys, for which status."""

    name: str
    what: str
    path: str
    body: bytes
    status: int
    key: Callable[[], str | None]


def variants(replay_key: str) -> list[Variant]:
    return [
        Variant("stock", "P0: stock DRF, no idempotency", "/bench/stock", STOCK_BODY, 201, lambda: None),
        Variant("unguarded", "P1: our view without @idempotent", "/bench/unguarded", BODY, 201, lambda: None),
        Variant("create", "our view, new keys", "/api/funds", BODY, 201, lambda: uuid.uuid4().hex),
        Variant("replay", "our view, one stored key", "/api/funds", BODY, 200, lambda: replay_key),
    ]


RATIOS = {
    "create_vs_p1": ("create", "unguarded"),
    "create_vs_plain": ("create", "stock"),
    "replay_vs_plain": ("replay", "stock"),
}


@contextmanager
def server(port: int, workers: int) -> Iterator[None]:
    command = [
        *(sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", str(workers), "--blocking-threads", "1", "--http", "1", "fundapi.wsgi:application"),
    ]
    with subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            for _ in range(300):
                try:
                    if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                time.sleep(0.1)
            else:
                raise SystemExit("the server did not start")
            yield
        finally:
            process.terminate()


def manage(*arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=PROJECT, check=True, capture_output=True, text=True
    )
    return result.stdout.strip()


def measure(
    port: int, token: str, *, rounds: int, requests: int, connections: int
) -> dict[str, dict[str, list[float]]]:
    replay_key = uuid.uuid4().hex
    everything = variants(replay_key)
    run(port, [[request("/api/funds", token, BODY, replay_key)]], 201)
    figures: dict[str, dict[str, list[float]]] = {
        v.name: {"rate": [], "p50": [], "p99": []} for v in everything
    }
    for number in range(rounds + 1):
        for variant in everything:
            batches = [
                [
                    request(variant.path, token, variant.body, variant.key())
                    for _ in range(requests // connections)
                ]
                for _ in range(connections)
            ]
            rate, latencies = run(port, batches, variant.status)
            if number:  # the first round warms up
                quantiles = statistics.quantiles(latencies, n=100)
                figures[variant.name]["rate"].append(rate)
                figures[variant.name]["p50"].append(quantiles[49] * 1000)
                figures[variant.name]["p99"].append(quantiles[98] * 1000)
    return figures


def ratios(figures: dict[str, dict[str, list[float]]]) -> dict[str, list[float]]:
    """Ratios of neighbours in one round, so that a slow moment of the machine hits both."""
    return {
        name: [a / b for a, b in zip(figures[over]["rate"], figures[under]["rate"], strict=True)]
        for name, (over, under) in RATIOS.items()
    }


def report(figures: dict[str, dict[str, list[float]]], settings: dict[str, object]) -> None:
    table = Table("variant", "what", "requests/s", "p50 ms", "p99 ms", "spread")
    lines = ["| variant | what | requests/s | p50 ms | p99 ms | spread |", "|---|---|---|---|---|---|"]
    for variant in variants(""):
        median = {figure: statistics.median(values) for figure, values in figures[variant.name].items()}
        rates = figures[variant.name]["rate"]
        row = [
            *(
                variant.name,
                variant.what,
                f"{median['rate']:.0f}",
                f"{median['p50']:.2f}",
                f"{median['p99']:.2f}",
            ),
            f"{min(rates):.0f}-{max(rates):.0f}",
        ]
        table.add_row(*row)
        lines.append(f"| {' | '.join(row)} |")
    lines += ["", "| ratio | median | spread |", "|---|---|---|"]
    comparison = Table("ratio", "median", "spread")
    for name, values in ratios(figures).items():
        row = [name, f"{statistics.median(values):.2f}", f"{min(values):.2f}-{max(values):.2f}"]
        comparison.add_row(*row)
        lines.append(f"| {' | '.join(row)} |")
    Console().print(table, comparison)
    described = [f"{name}: {value}" for name, value in settings.items()]
    RESULTS.joinpath("results.md").write_text(
        "# Results of `make bench`\n\n"
        + "\n".join(f"- {line}" for line in described)
        + "\n\n"
        + "\n".join(lines)
        + "\n"
    )
    RESULTS.joinpath("results.json").write_text(
        json.dumps({"settings": settings, "figures": figures, "ratios": ratios(figures)}, indent=1) + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=600, help="per variant and round")
    parser.add_argument("--connections", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1, help="web processes; the client needs a core too")
    options = parser.parse_args()
    port = 8765
    with (
        tempfile.TemporaryDirectory(prefix="fundapi-bench-") as home,
        services(Path(home), environ=os.environ),
    ):
        os.environ |= {
            "FUNDAPI_HOME": home,
            "SECRET_KEY": secrets.token_urlsafe(48),
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
            "WEB_THREADS": "1",
        }
        manage("migrate", "--verbosity", "0")
        token = manage("create_token", "bench", "--create")
        with server(port, options.workers):
            figures = measure(
                port, token, rounds=options.rounds, requests=options.requests, connections=options.connections
            )
    settings: dict[str, object] = {
        "command": "make bench " + (f'ARGS="{" ".join(sys.argv[1:])}"' if sys.argv[1:] else ""),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        **vars(options),
    }
    report(figures, settings)


if __name__ == "__main__":
    main()
