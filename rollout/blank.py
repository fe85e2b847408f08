"""Whether a text is visible: names and reasons that nobody can see are refused like empty ones. Pure."""

from unicodedata import category

# Control and format characters (zero width, directions, tags), white space.
INVISIBLE = {"Cc", "Cf", "Zs", "Zl", "Zp"}
# Letters, marks and symbols that show nothing: most of Unicode's Default_Ignorable_Code_Point, braille's blank, a note.
FILLERS = frozenset(
    map(
        chr,
        [
            *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2065, 0x2800, 0x3164, 0xFFA0, 0x1D159),
            *range(0x180B, 0x1810),
            *range(0xFE00, 0xFE10),  # variation selectors
            *range(0xFFF0, 0xFFF9),
            *range(0xE0000, 0xE1000),  # tags, more variation selectors
        ],
    )
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
    return category(character) in INVISIBLE or character in FILLERS
