"""The part of ``make check`` that finds comments which the formatter has moved behind a bracket.

A trailing comment that is too long makes the formatter wrap a value in brackets. The comment belongs above the line.
"""

import re
import subprocess
import sys
from pathlib import Path

ADVICE = "put the comment above the statement, and let the formatter join the lines"
DIRECTIVE = r"(?!fmt:|noqa|type:|pragma)"
# `)  # why`, `] = {}  # why`, `) as error:  # why`: the comment is in a line that begins with a closing bracket.
BEHIND = re.compile(rf"^[ \t]*[)\]}}]+[^#\n\"']*[ ]+# {DIRECTIVE}", re.MULTILINE)
# `x = (`, `value  # why`, `)`: brackets around one value, because of the comment behind it.
WRAPPED = re.compile(rf"(?:=|\breturn|\byield)[ ]\(\n[^\n#]+# {DIRECTIVE}[^\n]*\n[ \t]*\)$", re.MULTILINE)


def moved_comments(text: str) -> list[int]:
    """Return the numbers of the lines with such comments."""
    found = [match.start() for pattern in (BEHIND, WRAPPED) for match in pattern.finditer(text)]
    return sorted(text.count("\n", 0, position) + 1 for position in found)


def main() -> None:
    names = subprocess.check_output(["git", "ls-files", "*.py"], text=True).split()
    lines = [f"{name}:{line}: {ADVICE}" for name in names for line in moved_comments(Path(name).read_text())]
    sys.exit("\n".join(lines) or None)


if __name__ == "__main__":
    main()
