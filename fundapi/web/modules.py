"""One script of an ES module and of all that it imports: a browser asks once, and there is no build step.

Each imported module becomes a function that runs once, in the order in which a browser would run them. Only the forms
of import and export that our modules have are known; another one is refused.
"""

import posixpath
import re
from collections.abc import Callable, Collection

# Comments with types, which name files that the storage would look for.
JSDOC = re.compile(r"^[ \t]*/\*\*(?:(?!\*/).)*\*/[ \t]*\n|/\*\*.*?\*/", re.DOTALL | re.MULTILINE)
IMPORT = re.compile(r'^import (\{\s*\w+(?:,\s*\w+)*,?\s*\}) from "(\.[^"]+)";(?: //.*)?\n', re.MULTILINE)
RE_EXPORT = re.compile(r'^export (\*|\{\s*\w+(?:,\s*\w+)*,?\s*\}) from "(\.[^"]+)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) (\w+))", re.MULTILINE)
OTHER = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


def link(entry: str, read: Callable[[str], str], outside: Collection[str] = ()) -> str:
    """Return the script of the module ``entry``. ``read`` returns a module by its name, as ``rollout/rollout.js``.

    Modules of ``outside`` stay imports, relative to the folder of ``entry``. Raises ValueError for a form that is not
    known, and for modules that import each other.
    """
    linked: dict[str, str] = {}

    def add(name: str, path: tuple[str, ...] = ()) -> None:
        if name in linked:
            return
        if name in path:
            raise ValueError(f"a circle of imports: {' -> '.join((*path, name))}")
        if name in outside:
            address = posixpath.relpath(name, posixpath.dirname(entry))
            linked[name] = f'import * as {_variable(name)} from "{address}";'
            return
        text = JSDOC.sub("", read(name))
        for _, address in (*IMPORT.findall(text), *RE_EXPORT.findall(text)):
            add(_resolve(name, address), (*path, name))
        body, exported = _without_modules(name, text)
        linked[name] = body if name == entry else _function(name, body, exported)

    add(entry)
    return "\n".join(linked.values())


def _resolve(name: str, address: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), address))


def _variable(name: str) -> str:
    return "$" + re.sub(r"\W", "_", name.removesuffix(".js"))


def _without_modules(name: str, text: str) -> tuple[str, list[str]]:
    """Return a module's text without imports and exports, and the properties of what it exports."""
    exported = EXPORT.findall(text)
    for names, address in RE_EXPORT.findall(text):
        source = _variable(_resolve(name, address))
        each = re.findall(r"\w+", names)
        exported += [f"{one}: {source}.{one}" for one in each] or [f"...{source}"]
    text = IMPORT.sub(lambda found: f"const {found[1]} = {_variable(_resolve(name, found[2]))};\n", text)
    text = EXPORT.sub("", RE_EXPORT.sub("", text))
    if other := OTHER.search(text):
        raise ValueError(f"{name} has an import or an export of a form that is not known: {other[0]}")
    return text, exported


def _function(name: str, body: str, exported: list[str]) -> str:
    return f"const {_variable(name)} = (() => {{\n{body}\nreturn {{ {', '.join(exported)} }};\n}})();"
