"""Whether a text is visible: names and reasons that nobody can see are refused like empty ones. Pure."""

import re
from unicodedata import category

# Control and format characters (zero width, directions, tags), white space.
INVISIBLE = {"Cc", "Cf", "Zs", "Zl", "Zp"}
# Letters, marks and symbols that show nothing: most of Unicode's Default_Ignorable_Code_Point, braille's blank, a note.
# Last come variation selectors and tags. A set of them would take 0.4 MiB of each process.
FILLERS = re.compile(
    r"[\u034F\u115F\u1160\u17B4\u17B5\u180B-\u180F\u2065\u2800\u3164\uFFA0\uFFF0-\uFFF8\U0001D159"
    r"\uFE00-\uFE0F\U000E0000-\U000E0FFF]"
)


def is_blank(text: str) -> bool:
    """Return whether no character of ``text`` is visible.

    Beside a visible one, invisible characters have a meaning: joiners in emoji, Persian and Indic scripts.
    """
    return all(map(_is_invisible, text))


def has_invisible(text: str) -> bool:
    """Return whether a character of ``text`` is invisible: two such names would look alike."""
    return any(map(_is_invisible, text))


def _is_invisible(character: str) -> bool:
    return category(character) in INVISIBLE or FILLERS.match(character) is not None
