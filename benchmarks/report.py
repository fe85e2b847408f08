"""Writes what a measurement has found: Markdown for people, JSON for programs, a table for the terminal."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.compare import Comparison, as_json, compared, ratio_rounds
from benchmarks.figures import Sample, Summary, summary
from benchmarks.stack import RESULTS


def command() -> str:
    """How this run was started."""
    return " ".join(["python -m benchmarks", *sys.argv[1:]])


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table, with an empty line after it."""
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    escaped = ([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)
    return [*lines, *(f"| {' | '.join(row)} |" for row in escaped), ""]


def described(settings: Mapping[str, object]) -> list[str]:
    return [*(f"- {name}: {value}" for name, value in settings.items()), ""]


def spread(found: Summary, digits: int = 0) -> str:
    return f"{found.lowest:.{digits}f}-{found.highest:.{digits}f}"


def speed_row(name: str, what: str, samples: Sequence[Sample]) -> list[str]:
    rate = summary([sample.rate for sample in samples])
    p50 = summary([sample.p50 for sample in samples]).median
    p99 = summary([sample.p99 for sample in samples]).median
    return [name, what, f"{rate.median:.0f}", spread(rate), f"{p50:.2f}", f"{p99:.2f}"]


SPEED_COLUMNS = ("variant", "what", "requests/s", "spread", "p50 ms", "p99 ms")


def write(name: str, lines: Sequence[str], document: Mapping[str, Any]) -> None:
    """Write ``benchmarks/<name>.md`` and ``.json``."""
    RESULTS.joinpath(f"{name}.md").write_text("\n".join(lines).rstrip() + "\n")
    RESULTS.joinpath(f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


def on_terminal(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    shown = Table(*columns)
    for row in rows:
        shown.add_row(*row)
    Console().print(shown)


def comparison(found: Comparison, settings: Mapping[str, object]) -> None:
    """Print the figures, and write results.md and results.json."""
    speeds = [speed_row(name, found.what[name], samples) for name, samples in found.samples.items()]
    ratios = _ratio_rows(found)
    on_terminal(SPEED_COLUMNS, speeds)
    on_terminal(("ratio", "median", "spread", "of"), ratios)
    lines = [
        "# Results of `make bench`",
        "",
        *described({**settings, **found.described}),
        "All variants run in turn, round after round; each figure is the median of the rounds, and each ratio the",
        "median of the rounds' own ratios. Every server has one worker with one thread; two connections keep it busy.",
        "",
        "## Ratios",
        "",
        *table(("ratio", "median", "spread", "of"), ratios),
        "## Speed",
        "",
        *table(SPEED_COLUMNS, speeds),
        *_peers(found),
        *_footprint(found),
        *_storm(found),
        *_sql(found),
        "## Commands",
        "",
        *table(("what", "command"), [(name, f"`{each}`") for name, each in found.commands.items()]),
    ]
    write("results", lines, {**as_json(found), "settings": {**settings, **found.described}})


def _ratio_rows(found: Comparison) -> list[list[str]]:
    pairs = compared(found)
    return [
        [name, f"{found_ratio.median:.2f}", spread(found_ratio, 2), " / ".join(pairs[name])]
        for name, rounds in ratio_rounds(found).items()
        if (found_ratio := summary(rounds))
    ]


PEER_COLUMNS = (
    *("contestant", "version", "keys in", "create/s", "replay/s", "replay", "other body, same key"),
    *("8 at once, one key, 10 times", "another user, same key", "stored key, no token"),
)


def _peers(found: Comparison) -> list[str]:
    rows, failures = [], []
    for each in found.contestants:
        if each.facts is None:
            failures.append([each.name, each.failure])
            continue
        rates = [_rate(found, f"{each.name}: {action}") for action in ("create", "replay")]
        store = each.peer.store if each.peer else "database"
        facts = each.facts
        rows.append(
            [
                *(each.name, each.version, store, *rates),
                *(facts.replay, facts.other_body, facts.storm, facts.other_user, facts.no_token),
            ]
        )
    failures += [list(failure) for failure in found.failures.items()]
    lines = [
        "## What each does",
        "",
        "Found by asking two workers with four threads each (FastAPI: two event loops), which serve as deployed.",
        "",
        *table(PEER_COLUMNS, rows),
    ]
    return [*lines, *table(("could not be measured", "why"), failures)] if failures else lines


def _rate(found: Comparison, name: str) -> str:
    samples = found.samples.get(name) or found.samples.get(name.partition(":")[0])
    if not samples or (name.endswith("replay") and name not in found.samples):
        return "-"
    return f"{summary([sample.rate for sample in samples]).median:.0f}"


def _footprint(found: Comparison) -> list[str]:
    starts = [
        [name, f"{seconds.median:.2f}", spread(seconds, 2)]
        for name, rounds in found.cold_starts.items()
        if (seconds := summary(rounds))
    ]
    memory = [
        [name, *(f"{value:.0f}" for value in (worker.rss, worker.pss, worker.uss))]
        for name, workers in found.memory.items()
        for worker in workers
    ]
    return [
        "## Start and memory",
        "",
        "Seconds from the server's start to its first good answer to `/readyz`, with files in the page cache.",
        "",
        *table(("server", "seconds", "spread"), starts),
        "MiB of a worker after all rounds: resident, its share of what is shared, its own alone.",
        "",
        *table(("worker", "RSS", "PSS", "USS"), memory),
    ]


def _storm(found: Comparison) -> list[str]:
    if found.weather is None:
        return []
    weathers = [
        speed_row(name, "creates of others", samples) for name, samples in found.weather.samples.items()
    ]
    storms = [
        [
            *(name, str(each.waves), str(each.requests)),
            ", ".join(f"{count} x {status}" for status, count in sorted(each.statuses.items())),
            f"{each.claims / each.requests:.2f}" if each.requests else "-",
        ]
        for name, each in found.weather.storms.items()
    ]
    return [
        "## Sixty-four clients on one key",
        "",
        "What two clients that create funds under other keys see, on two workers with four threads each.",
        "",
        *table(SPEED_COLUMNS, weathers),
        *table(("storm", "waves", "requests", "answers", "claim statements per request"), storms),
    ]


def _sql(found: Comparison) -> list[str]:
    return [
        "## What reaches PostgreSQL",
        "",
        f"For one create, {len(found.create_sql)} statements; for one replay, {len(found.replay_sql)}.",
        "",
        "```sql",
        *(f"{statement};" for statement in found.create_sql),
        "```",
        "",
    ]
