"""The commands of the documentation: each page's, from top to bottom, in one shell.

A page's commands are its blocks ``sh`` and ``crontab``, and between words ``.venv/bin/python ...``, ``docker ...`` and
``curl ...``. What they print has to have in it

- the block ``text`` that follows, line by line; ``…`` is anything;
- code between words after *prints* or *says*, as in: It prints `1 rollout`;
- what a comment says behind an arrow: ``curl ... # → 201``.

Names that stand for the reader's own are replaced, by the one list that the caller gives.
"""

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```\n", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(
    r"`((?:\.venv/bin/python\s(?:manage\.py|-m)|docker\s(?:compose|build)|curl\s-)\s?[^`]+)`"
)
SHOWN = re.compile(r"\b(?<!If the command )(?<!If it )(?:prints|says)\s+`([^`]+)`")
ARROW = re.compile(r"# → (.+)$", re.MULTILINE)
TIME_OF_CRON = re.compile(r"^(?:\S+ ){5}", re.MULTILINE)
FRAME = re.compile("[─-╿]")
END_OF_STEP = "\x1e"
NOT_RUN = "\x1a"  # printed in place of what a command would print
TIMEOUT = 110  # s; of a page


@dataclass
class Step:
    """Commands that are typed at once, and what the page shows of their output."""

    commands: str
    shown: list[str] = field(default_factory=list)

    def missing(self, output: str) -> list[str]:
        """Return what is shown and was not printed; lines of a table count as spaces."""
        output = FRAME.sub(" ", output)
        return [
            shown for shown in self.shown if not re.search(_pattern(shown), output, re.DOTALL | re.IGNORECASE)
        ]


def _pattern(shown: str) -> str:
    parts = (r"\s+".join(map(re.escape, part.split())) for part in shown.split("…"))
    return ".*?".join(parts)


def steps(page: str) -> list[Step]:
    """Return the commands of a page in their order."""
    found: list[Step] = []
    words, *rest = BLOCK.split(page)
    for language, block, after in [("", "", words), *zip(rest[::3], rest[1::3], rest[2::3], strict=True)]:
        if language == "sh":
            found.append(Step(dedent(block), [arrow.replace(", ", " … ") for arrow in ARROW.findall(block)]))
        elif language == "crontab":
            found.append(Step(TIME_OF_CRON.sub("", block).replace(r"\%", "%")))
        elif language == "text" and found:
            found[-1].shown.append(re.sub(r"\n\s*", " … ", block.strip()))
        beside = after.partition("\n#")[0]
        if language == "sh":
            found[-1].shown += SHOWN.findall(beside)
        found += [Step(" ".join(command.split())) for command in COMMAND.findall(after)]
    return found


def run(page: str, directory: Path, environment: Mapping[str, str], own: Sequence[tuple[str, str]]) -> str:
    """Run the commands of a page; return what was wrong, or nothing. ``own`` replaces patterns by the reader's own."""
    script = "set -aeuo pipefail\ntrap 'echo \"This failed: $BASH_COMMAND\" >&2' ERR\n"
    parts = steps(page)
    for step in parts:
        commands = step.commands
        for pattern, replacement in own:
            commands = re.sub(pattern, replacement, commands)
        # Bash overlooks a failure before `&&`.
        commands = commands.replace(" && ", "\n")
        script += f"{commands}\nprintf '\\036'\n"
    done = subprocess.run(
        ["timeout", str(TIMEOUT), "bash", "-c", script],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    outputs = done.stdout.split(END_OF_STEP)
    if done.returncode:
        return f"exit code {done.returncode}: {parts[len(outputs) - 1].commands}\n{outputs[-1]}"
    return "\n".join(
        f"not printed: {missing}\nby: {step.commands}\nwhich printed: {output}"
        for step, output in zip(parts, outputs, strict=False)
        if NOT_RUN not in output
        for missing in step.missing(output)
    )
