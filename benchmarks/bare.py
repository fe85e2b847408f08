"""Bare WSGI functions, for the floor: the SQL of a create and nothing else, and nothing at all."""

import json
import os
import threading
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.variables import Message, fresh

JSON = [("Content-Type", "application/json")]


class Own(threading.local):
    """The connection of a thread."""

    def __init__(self) -> None:
        # The recording has its own BEGIN.
        self.connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)


own = cache(Own)  # not at import: Granian's workers are forked


@cache
def _messages() -> list[Message]:
    recorded = json.loads(Path(os.environ["BENCH_FLOOR"]).read_text())
    return [Message(each["sql"], tuple(each["parameters"]), each["prepared"]) for each in recorded]


def create(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Read a fund, send the recorded messages, answer with the fund."""
    if environ["REQUEST_METHOD"] != "POST":
        return nothing(environ, start_response)
    fund = json.loads(environ["wsgi.input"].read())
    cursor = psycopg.RawCursor(own().connection)  # $1 is its own way to write a parameter
    for message in fresh(_messages()):
        # Without parameters psycopg sends one simple message, which may hold several statements.
        cursor.execute(message.sql.encode(), message.parameters or None, prepare=message.prepared or None)
    body = json.dumps({"id": 1, **fund}).encode()
    start_response("201 Created", [*JSON, ("Content-Length", str(len(body)))])
    return [body]


def nothing(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer at once: the most that client and server can do."""
    start_response("200 OK", [*JSON, ("Content-Length", "2")])
    return [b"{}"]
