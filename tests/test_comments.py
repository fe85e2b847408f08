import pytest

from tests.comments import moved_comments


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a = f(\n    1\n)  # why\n", [3]),
        ("a = {\n    1,\n}  # why\n", [3]),
        ("for a in (\n    1,\n):  # why\n    pass\n", [3]),
        ("a: dict[\n    int, int\n] = {}  # why\n", [3]),
        ("try:\n    f()\nexcept (\n    Exception\n) as error:  # why\n    pass\n", [5]),
        ("b = 1\na = (\n    1  # why\n)\n", [2]),
        ("# why\na = f(1)\n", []),
        ("a = f(1)  # why\n", []),
        ("a = f(\n    1,  # why\n    2,\n)\n", []),
        ("a = f(\n    1\n)  # fmt: skip\n", []),
    ],
)
def test_a_comment_behind_a_bracket_is_found(text: str, lines: list[int]) -> None:
    assert moved_comments(text) == lines
