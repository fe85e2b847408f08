"""The map and the layers in docs/explanation/architecture.md, and the likely changes in CONTRIBUTING.md, are true."""

import re
import tomllib
from pathlib import Path

from tests.servers import PROJECT

PAGE = (PROJECT / "docs/explanation/architecture.md").read_text()
APPS = ("idempotency", "rollout", "fundapi")
# Folders with one row for all that is in them: a command, a migration or a template is found by its name.
ONE_ROW = {"formats", "management", "migrations", "static", "templates"}


def rows() -> list[str]:
    """Return the place that each row of the map names, in order."""
    return re.findall(
        rf"^\| `((?:{'|'.join(APPS)})/[^`]*)` \| \S.* \|$", PAGE.split("### idempotency", 1)[1], re.MULTILINE
    )


def places() -> set[str]:
    """Return every folder with files, and every module."""
    found = set()
    for file in (path for app in APPS for path in (PROJECT / app).rglob("*") if path.is_file()):
        parts = file.relative_to(PROJECT).parts
        if "__pycache__" in parts:
            continue
        depth = next((number for number, part in enumerate(parts[:-1], 1) if part in ONE_ROW), None)
        found |= {"/".join(parts[:number]) + "/" for number in range(1, (depth or len(parts) - 1) + 1)}
        is_module = depth is None and file.suffix == ".py" and file.name != "__init__.py"
        if is_module or file.suffix == ".js":
            found.add("/".join(parts))
    return found


def test_every_folder_and_module_has_one_row() -> None:
    assert sorted(rows()) == sorted(places()), "add or remove its row in docs/explanation/architecture.md"


def test_rows_stand_in_the_order_of_their_names() -> None:
    """A folder stands before its modules, and among the modules beside it by its name."""
    listed = rows()
    assert listed == sorted(
        listed, key=lambda place: (APPS.index(place.split("/")[0]), Path(place).with_suffix("").parts)
    )


def test_the_layers_are_those_of_the_contracts() -> None:
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = ["\n".join(contract["layers"]) for contract in contracts if contract["type"] == "layers"]
    section = re.split(r"^## ", PAGE.split("\n## The layers\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    assert re.findall(r"```\n(.*?)\n```", section, re.DOTALL) == layers
    assert len(layers) >= 3


def test_import_linter_knows_every_module_that_is_called_pure() -> None:
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    pure = next(contract for contract in contracts if contract["name"].startswith("Pure"))["source_modules"]
    places = re.findall(r"^\| `([a-z_/]+)(?:\.py|/)` \| pure: ", PAGE, re.MULTILINE)
    assert sorted(place.replace("/", ".") for place in places) == sorted(pure)


def test_each_likely_change_names_files_that_exist_and_what_to_look_for_in_them() -> None:
    text = (PROJECT / "CONTRIBUTING.md").read_text()
    changes = re.findall(r"^\| ([^|`]+) \| ([^|]*`[^|]+) \| `([^|`]+)` \|$", text, re.MULTILINE)
    assert len(changes) == 29
    for change, where, name in changes:
        paths = [PROJECT / path for path in re.findall(r"`([\w./-]+)`", where)]
        assert all(path.exists() for path in paths), change
        files = [path for path in paths if path.is_file()] or list(paths[0].iterdir())
        assert any(name in path.name or name in path.read_text() for path in files if path.is_file()), change
