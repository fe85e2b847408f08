"""Each contestant is compared with the right ones."""

from dataclasses import replace

import pytest

from benchmarks.goals import RATIO_MIN
from benchmarks.ratios import FIXED, MEANING, compared, ratio_rounds
from tests.benchmarks.made_up import comparison, facts

FOUND = comparison()
PAIRS = compared(FOUND.samples, FOUND.contestants)


def test_the_best_peer_is_of_any_framework_and_may_answer_a_stored_key_to_anybody() -> None:
    assert PAIRS["create_vs_best_peer"] == ("fundapi: create", "on FastAPI: create")
    assert PAIRS["replay_vs_best_django_peer"] == ("fundapi: replay", "open: replay")


def test_the_best_safe_peer_keeps_every_promise_under_any_framework() -> None:
    assert PAIRS["replay_vs_best_safe_peer"] == ("fundapi: replay", "on FastAPI: replay")
    strict = [each for each in FOUND.contestants if each.name != "on FastAPI"]
    assert compared(FOUND.samples, strict)["replay_vs_best_safe_peer"] == (
        "fundapi: replay",
        "strict: replay",
    )


def test_safe_takes_every_promise() -> None:
    found = facts("401")
    assert found.safe
    assert not replace(found, replay_status=None).safe
    assert not replace(found, other_body="201, a second row").safe
    assert not replace(found, storm="1 to 3 rows (18 x 201, 62 x 423)").safe
    assert not replace(found, storm="10 rows (80 x 201)").safe
    assert not replace(found, other_user="201, sees the first user's").safe
    assert not replace(found, no_token="201, the stored answer").safe


def test_one_row_and_an_answer_after_each_kill_are_safe() -> None:
    found = facts("401")
    assert found.safe_when_killed
    assert replace(found, killed="1 row (3 x 201 after 409 for 29 s)").safe_when_killed
    assert not replace(found, killed="1 to 2 rows (3 x 201)").safe_when_killed
    assert not replace(found, killed="1 row (1 x 201, 2 x still 409 for 75 s)").safe_when_killed
    assert not replace(found, no_token="201, the stored answer").safe_when_killed


def test_what_was_not_measured_is_left_out() -> None:
    assert "ofrep_vs_plain" not in PAIRS
    assert compared({}, FOUND.contestants) == {}


def test_each_ratio_is_told_round_by_round() -> None:
    assert ratio_rounds(FOUND.samples, FOUND.contestants)["create_vs_plain"] == pytest.approx([1.0, 1.1, 1.2])


def test_each_ratio_has_a_sentence_and_each_goal_is_one_of_a_ratio() -> None:
    assert set(PAIRS) | set(FIXED) <= set(MEANING)
    assert set(RATIO_MIN) <= set(MEANING)
