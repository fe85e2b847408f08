"""A text is blank if nobody can see any of it."""

import sys
import unicodedata

import pytest

from rollout.blank import is_blank

BLANK = [
    *(
        "",
        " ",
        "\t\n",
        "\u00a0",
        "\u200b\u200c\u200d",
        "\u2060",
        "\ufeff",
        "\u00ad",
        "\u3164",
        "\u115f\u1160",
        "\uffa0",
    ),
    *(
        "\u2800",
        "\ufe0e\ufe0f",
        "\U000e0020\U000e007f",
        "\U000e01ef",
        "\u202a\u202e\u2066\u2069",
        "\u061c",
        "\u034f",
    ),
    *("\u17b4", "\u180b\u180f", "\U0001d159", "\u0001\u007f\u0085", "\u2028\u2029", "\u2065", "\ufff0"),
]
VISIBLE = [
    *(
        "a",
        " a ",
        "é",
        "e\u0301",
        "中",
        "한",
        "می\u200cشود",
        "क्\u200dष",
        "👩\u200d👧",
        "❤\ufe0f",
        "\u202ea",
        "0",
        "-",
        ".",
    ),
    *("\U0001f6e8", "\u1100\u1160", "\u2801", "¨"),
]


@pytest.mark.parametrize("text", BLANK, ids=ascii)
def test_a_text_without_a_visible_character_is_blank(text: str) -> None:
    assert is_blank(text)


@pytest.mark.parametrize("text", VISIBLE, ids=ascii)
def test_a_text_with_a_visible_character_is_not(text: str) -> None:
    assert not is_blank(text)


def test_of_letters_digits_and_punctuation_only_fillers_are_blank() -> None:
    blank = {
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(character)[0] in "LNP" and is_blank(character)
    }
    assert blank == set("\u115f\u1160\u3164\uffa0")
