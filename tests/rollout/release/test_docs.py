"""The pages about releasing speak of commands, options and files that exist."""

import re
import shlex
from pathlib import Path

import pytest

from docs.tools.commands import COMMANDS, PAGE, page, parser_of
from tests.servers import PROJECT

DOCS = PROJECT / "docs"
PAGES = [
    f"how-to/{name}.md"
    for name in ("runbook", "rollback", "troubleshooting", "rollouts", "simulation", "alerts")
]
OURS = {command for commands in COMMANDS.values() for command in commands}


def written_commands() -> list[tuple[str, str]]:
    """Every command of ours in a block of a page, with the page's name."""
    found = []
    for name in PAGES:
        for block in re.findall(r"^```\w*\n(.*?)^```", (DOCS / name).read_text(), re.DOTALL | re.MULTILINE):
            lines = re.findall(r"^(?:\S*python )?manage\.py (.+)$", block, re.MULTILINE)
            found += [(name, line) for line in lines if line.split()[0] in OURS]
    return found


@pytest.mark.parametrize(("name", "line"), written_commands())
def test_every_command_in_the_docs_is_understood(name: str, line: str) -> None:
    command, *arguments = shlex.split(line, comments=True)
    assert parser_of(command).parse_args(arguments)


def test_there_are_commands_in_the_docs() -> None:
    used = {line.split()[0] for _, line in written_commands()}
    assert used >= set(COMMANDS["Releasing"]) | {"rollout", "simulate_rollout", "check_rollouts"}


def test_the_reference_is_current() -> None:
    """Else: python -m docs.tools.commands"""
    assert PAGE.read_text() == page()


def test_every_test_and_page_that_the_coverage_names_exists() -> None:
    text = (DOCS / "reference/coverage.md").read_text()
    named = re.findall(r"`(tests/[^`]+)`", text) + [
        f"docs/reference/{link}" for link in re.findall(r"\]\(([^)#]+)", text)
    ]
    assert len(named) > 30
    assert [path for path in named if not (PROJECT / path).exists()] == []


@pytest.mark.parametrize("name", [*PAGES, "reference/coverage.md", "explanation/judge-statistics.md"])
def test_every_link_of_a_page_leads_somewhere(name: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", (DOCS / name).read_text())
    assert [link for link in links if not (DOCS / name).parent.joinpath(Path(link)).exists()] == []
