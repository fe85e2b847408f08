"""The page /fund-setup names every module that it loads, so that one round trip fetches them all."""

import re
from pathlib import Path

from tests.servers import PROJECT

STATIC = [PROJECT / app / "static" for app in ("fundapi", "idempotency", "rollout")]
TEMPLATE = PROJECT / "fundapi/templates/fundapi/fund_setup.html"


def source(url: str) -> str:
    (file,) = [root / url for root in STATIC if (root / url).is_file()]
    return file.read_text()


def modules(url: str) -> set[str]:
    """Return the module at ``url`` below /static/, and all that it imports."""
    found, left = set(), [url]
    while left:
        here = left.pop()
        found.add(here)
        for path in re.findall(r'^(?:import|export|\}) .*?from "(\.[^"]+)";', source(here), re.MULTILINE):
            parts: list[str] = []
            for part in (Path(here).parent / path).parts:
                parts = parts[:-1] if part == ".." else [*parts, part]
            left += {"/".join(parts)} - found
    return found


def test_the_page_preloads_what_its_modules_import() -> None:
    text = TEMPLATE.read_text()
    scripts = re.findall(r'<script type="module" src="{% static "([^"]+)" %}">', text)
    preloads = re.findall(r'<link rel="modulepreload" href="{% static "([^"]+)" %}">', text)
    assert scripts == ["rollout/emergency.js", "fundapi/fund-setup.js"]
    assert sorted(preloads) == sorted(modules("fundapi/fund-setup.js") - set(scripts))


def test_what_runs_first_imports_nothing() -> None:
    assert modules("rollout/emergency.js") == {"rollout/emergency.js"}
