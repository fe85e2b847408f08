"""Bare WSGI functions, for the floor: the SQL of a create and nothing else, and nothing at all."""

import json
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.variables import fresh

JSON = [("Content-Type", "application/json")]


@cache
def _connection() -> psycopg.Connection:
    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)  # the recording has its own BEGIN


@cache
def _statements() -> list[str]:
    recorded: list[str] = json.loads(Path(os.environ["BENCH_FLOOR"]).read_text())["statements"]
    return recorded


def create(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Read a fund, run the recorded statements, answer with the fund."""
    if environ["REQUEST_METHOD"] != "POST":
        return nothing(environ, start_response)
    fund = json.loads(environ["wsgi.input"].read())
    cursor = _connection().cursor()
    for statement in fresh(_statements()):
        cursor.execute(statement.encode())
    body = json.dumps({"id": 1, **fund}).encode()
    start_response("201 Created", [*JSON, ("Content-Length", str(len(body)))])
    return [body]


def nothing(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """What the client and the server can do at most."""
    start_response("200 OK", [*JSON, ("Content-Length", "2")])
    return [b"{}"]
