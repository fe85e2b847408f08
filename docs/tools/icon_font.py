"""Make the font of the icons that the admin's pages use: ``.venv/bin/python -m docs.tools.icon_font``.

Unfold's has all 3,800 of Google's, in 292 kB. An icon is a ligature of its name: the subset keeps letters and these.
Its license is beside it. A test makes it again, and fails when an icon is missing.
"""

import re
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import unfold
from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont

PROJECT = Path(__file__).parents[2]
UNFOLD = Path(unfold.__file__).parent
WHOLE = UNFOLD / "static/unfold/fonts/material-symbols"
SUBSET = PROJECT / "fundapi/static/fundapi/icons"
NAME = "Material-Symbols-Outlined.woff2"
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789_"
# Where an icon is named: in an element, as an argument or a key, in the style sheet, in the lists of the sidebar.
ELEMENT = re.compile(r"material-symbols-outlined[^>]*>([^<]*)<")
NAMED = re.compile(
    r"""\bicon["']?[:=] ?["'](\w+)["']|--tw-content:"(\w+)"|SITE_SYMBOL": "(\w+)"|"""
    r"""^ +\("[\w -]+", "(\w+)", "[\w.]+"\),$""",
    re.MULTILINE,
)


def main() -> None:
    SUBSET.mkdir(exist_ok=True)
    (SUBSET / NAME).write_bytes(subset(used()))
    shutil.copy(WHOLE / "LICENSE", SUBSET)


def used() -> set[str]:
    """Return the icons that templates, style sheets and Python name."""
    named = set()
    for file in _sources():
        text = file.read_text(encoding="utf-8")
        elements = ELEMENT.findall(text) if file.suffix == ".html" else []
        named |= set(
            re.findall(r"\w+", " ".join([*elements, *("".join(names) for names in NAMED.findall(text))]))
        )
    return named & icons(TTFont(WHOLE / NAME)).keys()


def icons(font: TTFont) -> dict[str, str]:
    """Return the glyph of each icon by its name, which its ligature spells."""
    letters = {glyph: chr(code) for code, glyph in font.getBestCmap().items()}
    return {
        "".join(letters[part] for part in (first, *ligature.Component)): ligature.LigGlyph
        for lookup in font["GSUB"].table.LookupList.Lookup
        for table in lookup.SubTable
        for first, ligatures in table.ligatures.items()
        for ligature in ligatures
    }


def _sources() -> Iterator[Path]:
    for templates in (UNFOLD, *(PROJECT / app for app in ("fundapi", "idempotency", "rollout"))):
        yield from (templates / "templates").rglob("*.html")
    yield from (UNFOLD / "sites.py", UNFOLD / "static/unfold/css/styles.css")
    yield from (PROJECT / "fundapi/site.py", PROJECT / "fundapi/settings.py")


def subset(names: set[str]) -> bytes:
    """Return Unfold's font with these icons alone."""
    font = TTFont(WHOLE / NAME, recalcTimestamp=False)  # the same bytes each time
    options = Options(layout_closure=False, layout_features=["rlig"], drop_tables=["FFTM", "GPOS", "GDEF"])
    subsetter = Subsetter(options)
    glyphs = icons(font)
    subsetter.populate(glyphs=[glyphs[name] for name in names], text=LETTERS)
    subsetter.subset(font)
    font.flavor = "woff2"
    font.save(file := BytesIO())
    return file.getvalue()


if __name__ == "__main__":
    main()
