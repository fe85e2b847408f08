"""The report of the comparison: results.md for people, results.json for programs."""

from collections.abc import Mapping, Sequence

from benchmarks import report
from benchmarks.comparison import Comparison, as_json
from benchmarks.contestants import OURS
from benchmarks.figures import summary
from benchmarks.goals import COLD_START_MAX, MEMORY_MAX, RATIO_MIN
from benchmarks.killing import RETRY_MAX
from benchmarks.peers.facts import Facts
from benchmarks.ratios import MEANING, compared, ratio_rounds
from benchmarks.report import SPEED_COLUMNS, described, speed_row, spread, table
from benchmarks.rounds import CONNECTIONS
from benchmarks.variables import Message
from fundapi.web.serve import THREADS

RATIO_COLUMNS = ("ratio", "median", "goal", "spread", "of")


def write(found: Comparison, settings: Mapping[str, object]) -> None:
    """Print the figures, and write results.md and results.json."""
    report.on_terminal(SPEED_COLUMNS, _speed_rows(found))
    report.on_terminal(RATIO_COLUMNS, _ratio_rows(found))
    document = {**as_json(found), "goals": RATIO_MIN, "settings": {**settings, **found.described}}
    report.write("results", rendered(found, settings), document)


def rendered(found: Comparison, settings: Mapping[str, object]) -> list[str]:
    """Return the lines of results.md."""
    return [
        "# Results of `make bench`",
        "",
        *described({**settings, **found.described}),
        "All variants run in turn, round after round; each figure is the median of the rounds, and each ratio the",
        "median of the rounds' own ratios. Every server has one worker, with the threads that it is deployed with:",
        f"{THREADS} (FastAPI: an event loop), and ours those of its queue too. {CONNECTIONS} connections keep it busy.",
        "CPU is what the operating system counts for the worker, user and system, per request.",
        "Django's contestants, P0 (plain) among them, run in a project as startproject makes it, with DRF and knox,",
        "and nothing of ours.",
        "",
        *_ratios(found),
        "## Speed",
        "",
        *table(SPEED_COLUMNS, _speed_rows(found)),
        *_peers(found),
        *_footprint(found),
        *_storm(found),
        *_sql(found),
        "## Commands",
        "",
        *table(("what", "command"), [(name, f"`{each}`") for name, each in found.commands.items()]),
    ]


def _speed_rows(found: Comparison) -> list[list[str]]:
    return [speed_row(name, found.what[name], samples) for name, samples in found.samples.items()]


def _ratios(found: Comparison) -> list[str]:
    meanings = [f"- `{name}`: {MEANING[name]}" for name in compared(found.samples, found.contestants)]
    return [
        "## Ratios",
        "",
        "CPU of their request over CPU of ours: above 1, ours takes less.",
        "",
        *table(RATIO_COLUMNS, _ratio_rows(found)),
        *meanings,
        "",
    ]


def _ratio_rows(found: Comparison) -> list[list[str]]:
    pairs = compared(found.samples, found.contestants)
    return [
        [
            name,
            f"{ratio.median:.2f}",
            _at_least(RATIO_MIN.get(name)),
            spread(ratio, 2),
            " / ".join(reversed(pairs[name])),
        ]
        for name, rounds in ratio_rounds(found.samples, found.contestants).items()
        if (ratio := summary(rounds))
    ]


def _at_least(goal: float | None) -> str:
    return "-" if goal is None else f"≥ {goal:.2f}"


PEER_COLUMNS = (
    *("contestant", "version", "keys in", "create ms", "replay ms", "replay", "other body, same key"),
    *("8 at once, one key, 10 times", "another user, same key", "stored key, no token"),
    *("after a kill", "safe"),
)


def _peers(found: Comparison) -> list[str]:
    rows, failures = [], []
    for each in found.contestants:
        if each.facts is None:
            failures.append([each.name, each.failure])
            continue
        times = [_cpu(found, f"{each.name}: {action}") for action in ("create", "replay")]
        store = each.peer.store if each.peer else "database"
        facts = each.facts
        rows.append(
            [
                *(each.name, each.version, store, *times),
                *(facts.replay, facts.other_body, facts.storm, facts.other_user, facts.no_token),
                *(facts.killed, _safe(facts)),
            ]
        )
    failures += [list(failure) for failure in found.failures.items()]
    lines = [
        "## What each does",
        "",
        "Found by asking two workers with four threads each (FastAPI: two event loops), which serve as deployed.",
        "A contestant is safe if it replays, refuses another body (409 or 422), makes one row of each storm, shows a",
        "stored answer to nobody but its user, and if after a kill it has one row and answers the retry in the end.",
        "",
        "After a kill: a worker was killed with SIGKILL once before each message that it sends to PostgreSQL or",
        "Valkey after the INSERT of the fund, and once when it had answered. Then another was started, and the same",
        f"request sent until it succeeded, at most {RETRY_MAX:.0f} s since the kill. The rows are those of one fund.",
        "",
        *table(PEER_COLUMNS, rows),
    ]
    return [*lines, *table(("could not be measured", "why"), failures)] if failures else lines


def _safe(facts: Facts) -> str:
    if facts.safe:
        return "yes" if facts.safe_when_killed else "until a kill"
    return "no"


def _cpu(found: Comparison, name: str) -> str:
    samples = found.samples.get(name) or found.samples.get(name.partition(":")[0])
    if not samples or (name.endswith("replay") and name not in found.samples):
        return "-"
    return f"{summary([sample.cpu for sample in samples]).median:.2f}"


def _footprint(found: Comparison) -> list[str]:
    starts = [
        [name, f"{seconds.median:.2f}", f"≤ {COLD_START_MAX}" if name == "ours" else "-", spread(seconds, 2)]
        for name, rounds in found.cold_starts.items()
        if (seconds := summary(rounds))
    ]
    memory = [
        [
            *(name, f"{worker.rss:.0f}", f"≤ {MEMORY_MAX:.0f}" if name == OURS else "-"),
            *(f"{worker.pss:.0f}", f"{worker.uss:.0f}"),
        ]
        for name, workers in found.memory.items()
        for worker in workers
    ]
    return [
        "## Start and memory",
        "",
        "Seconds from the server's start to its first good answer to `/readyz`, with files in the page cache.",
        "",
        *table(("server", "seconds", "goal", "spread"), starts),
        "MiB of a worker after all rounds: resident, its share of what is shared, its own alone.",
        "",
        *table(("worker", "RSS", "goal", "PSS", "USS"), memory),
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
        f"For one create, {_counted(found.create_sql)}; for one replay, {_counted(found.replay_sql)}.",
        "",
        "```sql",
        *(line for message in found.create_sql for line in _shown(message)),
        "```",
        "",
    ]


def _counted(messages: Sequence[Message]) -> str:
    return f"{len(messages)} messages with {sum(each.statements for each in messages)} statements"


def _shown(message: Message) -> list[str]:
    lines = [f"{message.sql};"]
    if message.prepared:
        lines.append("-- prepared")
    values = [f"${index} = {value}" for index, value in enumerate(message.parameters, start=1)]
    return [*lines, f"-- {', '.join(values)}"] if values else lines
