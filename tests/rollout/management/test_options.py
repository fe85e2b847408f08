"""Numbers on the command line: each of them is of its range, or refused in one sentence before anything happens."""

import pytest
from django.core.management import CommandError, call_command

from rollout.options import number, whole

NO_NUMBERS = ["", " ", "nan", "-nan", "inf", "-inf", "1e300", "-1", "ten", "0x10", "1,5", "9" * 400]
OPTIONS = {
    "how long to monitor": ("monitor_deployment", "--minutes={}"),
    "the score that is red": ("monitor_deployment", "--error-threshold={}"),
    "the pull request monitored": ("monitor_deployment", "--pr={}"),
    "how long to wait for CI": ("deploy_with_confidence", "48", "--wait-minutes={}"),
    "the canary": ("deploy_with_confidence", "48", "--canary={}"),
    "the pull request deployed": ("deploy_with_confidence", "--", "{}"),
    "the pull request finalized": ("finalize_pr", "--", "{}"),
    "the pull request reverted": ("revert_deployment", "--pr={}"),
    "the length of a rehearsal": ("simulate_rollout", "--hours={}"),
    "the clients of a rehearsal": ("simulate_rollout", "--seed={}"),
    "the errors of a rehearsal": ("simulate_rollout", "--error-rate={}"),
}


@pytest.mark.parametrize("number", NO_NUMBERS)
@pytest.mark.parametrize("command", OPTIONS.values(), ids=OPTIONS)
def test_what_is_no_number_of_its_range_is_refused(command: tuple[str, ...], number: str) -> None:
    with pytest.raises(CommandError, match=r"is not a (whole )?number from \d\S* to \d"):
        call_command(*(part.format(number) for part in command))


@pytest.mark.parametrize("text", ["0", "-3", "2147483648", "1.5", "1e3"])
def test_a_pull_request_has_a_number_that_the_database_can_hold(text: str) -> None:
    with pytest.raises(CommandError, match="is not a whole number from 1 to 2,147,483,647"):
        call_command("revert_deployment", f"--pr={text}")


def test_numbers_of_the_range_are_read_as_they_are() -> None:
    assert [number(0, 5)(text) for text in ("0", "5", "2.5", "1e0")] == [0, 5, 2.5, 1]
    assert [whole(1, 5)(text) for text in ("1", "5")] == [1, 5]
