"""The sizes, imports and examples in docs/how-to/frontend.md are right, as far as they can be run here."""

import gzip
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from openfeature import api
from openfeature.evaluation_context import EvaluationContext

from tests.node import NODE
from tests.servers import PROJECT, Server

FEATURE = "USE_FUND_STORE"
TEXT = (PROJECT / "docs/how-to/frontend.md").read_text()
SIZES = re.findall(r"^\| `/static/(\w+)/([\w-]+\.js)` \|.*\| (\d+) \|$", TEXT, re.MULTILINE)
EXAMPLES = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def module(app: str, name: str) -> Path:
    return PROJECT / app / "static" / app / name


def test_every_module_is_listed() -> None:
    shipped = {path.name for app in ("rollout", "idempotency") for path in module(app, "").glob("*.js")}
    assert {name for _, name, _ in SIZES} == shipped - {"admin.js"}


@pytest.mark.parametrize(("app", "name", "size"), SIZES, ids=[name for _, name, _ in SIZES])
def test_a_module_is_as_small_as_the_docs_say(app: str, name: str, size: str) -> None:
    now = len(gzip.compress(module(app, name).read_bytes(), 9, mtime=0))
    assert abs(now - int(size)) <= 0.05 * now, (
        f"{name} has {now} bytes now: say so in docs/how-to/frontend.md"
    )


def test_what_the_examples_import_is_there() -> None:
    imports = re.findall(r'import \{ ([^}]+) \} from "/static/(\w+)/(\w+\.js)"', TEXT)
    assert len(imports) >= 5
    for names, app, name in imports:
        script = (
            f"console.log(JSON.stringify(Object.keys(await import({json.dumps(str(module(app, name)))}))))"
        )
        command = [NODE, "--input-type=module", "--eval", script]
        exported = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        assert {part.strip() for part in names.split(",")} <= set(exported), name


@pytest.mark.parametrize("example", [text for kind, text in EXAMPLES if kind == "js"])
def test_the_examples_are_javascript(example: str, tmp_path: Path) -> None:
    file = tmp_path / "example.mjs"
    file.write_text(example)
    check = subprocess.run([NODE, "--check", str(file)], check=False, capture_output=True, text=True)
    assert check.returncode == 0, check.stderr


def test_the_python_example_runs(server: Server) -> None:
    (example,) = [text for kind, text in EXAMPLES if kind == "python"]
    names: dict[str, Any] = {}
    exec(example.replace("http://127.0.0.1:8000", server.url), names)
    client = names["client"]
    assert names["on"] in {True, False}
    assert client.get_boolean_details(FEATURE, False, EvaluationContext("a")).error_code is None
    client.provider.session.close()
    api.shutdown()
