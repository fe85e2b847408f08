"""The pages speak of commands, options, make targets and files that exist; tests/test_pages.py runs the commands."""

import re
from importlib.util import find_spec

import pytest
from django.core.management import get_commands

from docs.tools.commands import COMMANDS, PAGE, described, page, parser_of
from tests.servers import PROJECT

PAGES = sorted(
    str(path.relative_to(PROJECT))
    for path in (*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md"))
    if path != PAGE
)


def code(name: str) -> tuple[list[str], list[str]]:
    """Return the lines in blocks of a page, a continued one as one, and the code between its words."""
    text = (PROJECT / name).read_text()
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    words = re.sub(r"^ *```\w*\n.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return lines, [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", words)]


def test_every_command_of_ours_is_in_the_docs() -> None:
    blocks = [line for name in PAGES for line in code(name)[0]]
    used = {command for line in blocks for command in re.findall(r"\bmanage\.py ([a-z_]+)", line)}
    assert used >= {command for commands in COMMANDS.values() for command in commands}


@pytest.mark.parametrize("name", PAGES)
def test_every_command_between_words_exists_with_its_options(name: str) -> None:
    for span in code(name)[1]:
        if written := re.match(r"(?:\S*python )?manage\.py ([a-z_]+)(.*)", span):
            assert written[1] in get_commands(), span
            parser = parser_of(written[1])
            known = "\n".join([parser.format_help(), *described(parser, written[1], 1)])
            assert all(option in known for option in re.findall(r"--[a-z-]+", written[2])), span


@pytest.mark.parametrize("name", PAGES)
def test_every_make_target_and_module_exists(name: str) -> None:
    targets = re.search(r"^\.PHONY: (.+)$", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert targets is not None
    lines, spans = code(name)
    for text in (*lines, *spans):
        if made := re.match(r"make ([a-z]+)\b", text):
            assert made[1] in targets[1].split(), text
        for module in re.findall(r"\bpython -m ([a-z][\w.]*)", text):
            assert find_spec(module), text


def test_the_reference_is_current() -> None:
    """Else: python -m docs.tools.commands"""
    assert PAGE.read_text() == page()


def test_every_test_and_page_that_the_coverage_names_exists() -> None:
    text = (PROJECT / "docs/reference/coverage.md").read_text()
    named = re.findall(r"`(tests/[^`]+)`", text) + [
        f"docs/reference/{link}" for link in re.findall(r"\]\(([^)#]+)", text)
    ]
    assert len(named) > 30
    assert [path for path in named if not (PROJECT / path).exists()] == []


# What a test can mention: a variable, a command, a function of the browser, a metric or a table, a file.
NAME = re.compile(r"VITE_\w+|[a-z]+(?:_[a-z]+)+|\w+(?=\(\))|[\w-]+\.(?:json|yml)|Idempotency-\w+")


def test_every_row_of_the_coverage_is_true() -> None:
    """Each name of a row is in one of the tests that it says show it."""
    rows = [
        line
        for line in (PROJECT / "docs/reference/coverage.md").read_text().splitlines()
        if "`tests/" in line
    ]
    assert len(rows) > 30
    for row in rows:
        claimed, _, shown = row.rpartition(" | ")
        texts = "".join((PROJECT / path).read_text() for path in re.findall(r"`(tests/[^`]+)`", shown))
        names = [
            name
            for span in re.findall(r"`([^`]+)`", claimed)
            if "/" not in span
            for name in NAME.findall(span)
        ]
        assert [name for name in names if name not in texts] == [], row
