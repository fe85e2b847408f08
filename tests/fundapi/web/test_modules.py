"""A module and all that it imports as one script: what it runs, in which order, and what it refuses."""

import re
import subprocess
from pathlib import Path

import pytest

from fundapi.web import assets
from fundapi.web.modules import link
from tests.node import NODE
from tests.servers import PROJECT


def source(name: str) -> str:
    (file,) = [
        path
        for app in ("fundapi", "idempotency", "rollout")
        if (path := PROJECT / app / "static" / name).is_file()
    ]
    return file.read_text()


def run(script: str, directory: Path, **files: str) -> str:
    """Return what a script prints in Node.js, beside ``files``."""
    (directory / "app").mkdir()
    (directory / "app/main.mjs").write_text(script)
    for name, text in files.items():
        (directory / f"{name}.js").write_text(text)
    (directory / "package.json").write_text('{"type": "module"}')
    return subprocess.run(
        [NODE, directory / "app/main.mjs"], capture_output=True, text=True, check=True
    ).stdout


MODULES = {
    "app/main.js": """\
import { early } from "../early.js"; // first
import { count, Kind } from "./part.js";
import { helper } from "./parts/all.js";

/** @typedef {import("./nowhere.js").Thing} Thing */
const own = "own"; // as in part.js
console.log(early, own, count(), new Kind().name, await helper(), import.meta.url.endsWith("main.mjs"));
""",
    "app/part.js": """\
console.log("part runs");
const own = /** @type {string} */ ("part's");
export const NAME = own;
export function count() {
  return 1;
}
export class Kind {
  name = NAME;
}
""",
    "app/parts/all.js": 'export * from "../part.js";\nexport { helper } from "./helper.js";\n',
    "app/parts/helper.js": """\
import {
  count,
} from "../part.js";
export async function helper() {
  return count() + 1;
}
""",
}


def test_each_module_runs_once_in_order_with_names_of_its_own(tmp_path: Path) -> None:
    script = link("app/main.js", MODULES.__getitem__, ["early.js"])
    assert "nowhere" not in script
    early = 'export const early = "early"; console.log("early runs");'
    assert run(script, tmp_path, early=early) == "early runs\npart runs\nearly own 1 part's 2 true\n"


@pytest.mark.parametrize(
    "line",
    [
        'import whole from "./part.js";',
        'import * as part from "./part.js";',
        'import { count as many } from "./part.js";',
        'import "./part.js";',
        "export default 1;",
        'export { count as many } from "./part.js";',
        "export let count = 1;",
        "export { own };",
    ],
)
def test_a_form_that_is_not_known_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=re.escape(line)):
        link("app/new.js", (MODULES | {"app/new.js": f"{line}\n"}).__getitem__)


def test_modules_that_import_each_other_are_refused() -> None:
    circle = {"a.js": 'import { b } from "./b.js";\n', "b.js": 'import { a } from "./a.js";\n'}
    with pytest.raises(ValueError, match=re.escape("a.js -> b.js -> a.js")):
        link("a.js", circle.__getitem__)


def test_the_scripts_of_our_pages_hold_every_module_but_those_apart() -> None:
    for entry in assets.MODULES.values():
        script = link(entry, source, assets.APART)
        assert re.findall(r"^import .*", script, re.MULTILINE) == [
            'import * as $rollout_emergency from "../rollout/emergency.js";'
        ]
        assert "createRollouts" in script
        assert "/**" not in script


def test_what_runs_first_imports_nothing() -> None:
    for name in assets.APART:
        assert "import" not in re.sub(r"/\*.*?\*/", "", source(name), flags=re.DOTALL)
