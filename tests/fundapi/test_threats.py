"""The threat model names tests and files that exist, and leaves no attack without either a test or a reason."""

import ast
import re
from functools import cache

import pytest

from tests.servers import PROJECT

TEXT = (PROJECT / "docs/explanation/threats.md").read_text()
HEAD = ["attack", "what stops it", "left over", "shown by"]
NODE = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
REASON = re.compile(r"not tested: \w")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


TABLES = [
    [cells(line) for line in block.splitlines()] for block in re.findall(r"(?:^\|.*\n)+", TEXT, re.MULTILINE)
]
ATTACKS = [row for head, _, *rows in TABLES if head == HEAD for row in rows]


@cache
def functions(path: str) -> frozenset[str]:
    nodes = ast.walk(ast.parse((PROJECT / path).read_text()))
    return frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef))


def test_every_table_but_that_of_trust_is_one_of_attacks() -> None:
    assert [head for head, *_ in TABLES if head != HEAD] == [
        ["who", "is trusted with", "is not trusted with"]
    ]
    assert len(ATTACKS) > 60


@pytest.mark.parametrize("row", ATTACKS, ids=lambda row: row[0][:40])
def test_an_attack_says_what_is_left_over_and_names_its_tests_or_why_there_is_none(row: list[str]) -> None:
    assert len(row) == len(HEAD)
    assert all(row)
    assert bool(NODE.search(row[-1])) != bool(REASON.match(row[-1]))


def test_every_test_that_is_named_exists() -> None:
    named = NODE.findall(TEXT)
    assert len(named) == TEXT.count("`tests/")
    assert [(path, name) for path, name in named if name not in functions(path)] == []


def test_every_file_that_is_named_exists() -> None:
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.\w+)`", TEXT)
    assert len(named) > 30
    assert [path for path in named if not (PROJECT / path).is_file()] == []
