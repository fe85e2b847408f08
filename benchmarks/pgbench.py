"""Run recorded SQL by pgbench, on PostgreSQL alone."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Sample
from benchmarks.stack import Stack
from benchmarks.variables import SEPARATOR, VARIABLE, Message, filled, literal, with_literals
from fundapi.embedded.programs import postgres_directory


def script(messages: Sequence[Message]) -> str:
    """Return the messages as a script for pgbench. Pure.

    Its variables are numbers: a UUID is put together from several. ``\\;`` keeps statements in one message. What was
    prepared is prepared by the first run of the script, and executed by all.
    """
    setting, written = _variables(messages)
    preparing, running = [], []
    for number, message in enumerate(messages):
        now = filled(message, lambda match: written[match.group()])
        if now.prepared:
            preparing.append(f"PREPARE bench{number} AS {now.sql};")
            values = ", ".join(map(literal, now.parameters))
            running.append(f"EXECUTE bench{number}({values});" if values else f"EXECUTE bench{number};")
        else:
            running.append(_in_one_message(with_literals(now)) + ";")
    if preparing:
        preparing = ["\\if :prepared = 0", *preparing, "\\set prepared 1", "\\endif"]
    return "\n".join([*preparing, *setting, *running]) + "\n"


def command(stack: Stack, script: Path, seconds: float) -> list[str]:
    return [
        str(postgres_directory() / "pgbench"),
        *("--no-vacuum", "--protocol", "simple", "--client", "1", "--time", str(max(1, round(seconds)))),
        *("--define", "prepared=0", "--file", str(script), stack.database_url),
    ]


def run(command: Sequence[str]) -> Sample:
    """Run pgbench. It reports only the average latency, which stands for each quantile."""
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    rate = re.search(r"tps = ([\d.]+) \(without", done.stdout)
    latency = re.search(r"latency average = ([\d.]+) ms", done.stdout)
    count = re.search(r"number of transactions actually processed: (\d+)", done.stdout)
    if not (rate and latency and count) or "number of failed transactions: 0 " not in done.stdout:
        raise RuntimeError(done.stdout + done.stderr)
    return Sample(int(count[1]), float(rate[1]), float(latency[1]), float(latency[1]))


def _variables(messages: Sequence[Message]) -> tuple[list[str], dict[str, str]]:
    """Return the lines that make new values, and the text for each variable of the messages."""
    lines: dict[str, None] = {}
    written = {}
    texts = [text for message in messages for text in message.texts]
    for match in (match for text in texts for match in VARIABLE.finditer(text)):
        eight, four, twelve, long = (f"{letter}{match['index']}" for letter in "abcn")
        if match["kind"] == "number":
            lines[f"\\set {long} random(1, 9223372036854775806)"] = None
            written[match.group()] = f":{long}"
            continue
        lines[f"\\set {eight} random(10000000, 99999999)"] = None
        lines[f"\\set {four} random(1000, 9999)"] = None
        lines[f"\\set {twelve} random(100000000000, 999999999999)"] = None
        dash = "-" if match["kind"] == "uuid" else ""
        written[match.group()] = dash.join([f":{eight}", *[f":{four}"] * 3, f":{twelve}"])
    return list(lines), written


def _in_one_message(sql: str) -> str:
    return SEPARATOR.sub(lambda match: "\\;" if match["end"] else match.group(), sql)
