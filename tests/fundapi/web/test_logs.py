"""The format of logs: columns for people at a terminal, JSON elsewhere, and a setting that decides."""

import json
import os
import pty
import re
import subprocess
import sys

import pytest

from tests.servers import PROJECT

PROGRAM = """
import logging, structlog, django
django.setup()
structlog.get_logger("fundapi.request").info("request", path="/x", user_id=None)
structlog.get_logger("fundapi.request").info("request", path="/static/x.js", status=304)
logging.getLogger("celery.beat").info("Scheduler: Sending due task")
"""


def printed(program: str, *, terminal: bool, **settings: str) -> str:
    """Run a program with stderr at a terminal, or not, and return what it writes there."""
    reading, writing = pty.openpty() if terminal else os.pipe()
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "fundapi.settings", **settings}
    try:
        subprocess.run([sys.executable, "-c", program], check=True, cwd=PROJECT, env=env, stderr=writing)
        return os.read(reading, 65536).decode()
    finally:
        os.close(reading)
        os.close(writing)


def without_colours(text: str) -> str:
    return re.sub(r"\x1b\[\d*m", "", text)


@pytest.mark.parametrize(("terminal", "setting"), [(False, ""), (True, "json"), (False, "json")])
def test_elsewhere_a_line_is_json(*, terminal: bool, setting: str) -> None:
    lines = [
        json.loads(line) for line in printed(PROGRAM, terminal=terminal, LOG_FORMAT=setting).splitlines()
    ]
    assert [line["event"] for line in lines] == ["request", "request", "Scheduler: Sending due task"]
    assert (lines[0]["path"], lines[0]["user_id"]) == ("/x", None)


@pytest.mark.parametrize(("terminal", "setting"), [(True, ""), (False, "console")])
def test_at_a_terminal_a_line_is_for_people(*, terminal: bool, setting: str) -> None:
    """It is short: no value that is not there, and no line for each task and each static file."""
    text = printed(PROGRAM, terminal=terminal, LOG_FORMAT=setting)
    assert ("\x1b[" in text) == terminal
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \[info +\] request \[fundapi.request\] path=/x\s+",
        without_colours(text),
    )


def test_a_debugged_terminal_shows_each_task_and_file() -> None:
    text = printed(PROGRAM, terminal=True, LOG_LEVEL="DEBUG")
    assert "Sending due task" in text
    assert "/static/x.js" in text


def test_a_missing_file_is_shown() -> None:
    assert "404" in printed(PROGRAM.replace("304", "404"), terminal=True)


@pytest.mark.parametrize("logger", ["structlog.get_logger('fundapi')", "logging.getLogger('anybody')"])
def test_a_stranger_forges_no_line_and_moves_no_cursor(logger: str) -> None:
    forged = r"/x\n2026-11-29T00:00:00Z [info] forged\r\x1b[2J\x9b2J\u2028\u202e"
    program = f"import logging, structlog, django; django.setup(); {logger}.warning({forged!r} % ())"
    program = program.replace("\\\\", "\\")
    text = without_colours(printed(program, terminal=True)).removesuffix("\r\n")
    assert text.isprintable()
    assert r"/x\n2026" in text
    assert r"\x1b[2J" in text


def test_an_exception_is_told_without_values_of_variables_and_rows() -> None:
    program = """
import logging, structlog, django
django.setup()
def save(secret):
    try:
        raise ValueError("duplicate key\\nDETAIL: Failing row contains (a-secret)")
    except ValueError as error:
        raise LookupError("no fund") from error
try:
    save("another-secret")
except LookupError:
    structlog.get_logger("fundapi").exception("failed")
error = ValueError("duplicate key\\nDETAIL: Failing row contains (a-secret)")
structlog.get_logger("fundapi").error(f"quoted by Celery: {error!r}", reason=f"{error}")
logging.getLogger("rollout").warning(f"{error}", extra={"reason": f"{error}"})
"""
    text = without_colours(printed(program, terminal=True)).replace("\r", "")
    assert "secret" not in text
    assert "ValueError: duplicate key\n" in text
    assert text.index("ValueError: duplicate key") < text.index("LookupError: no fund")
    assert re.search(r'File "<string>", line \d+, in save', text)
